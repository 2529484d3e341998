"""Edit the studies of a cohort, show them anew, and ask the same questions before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medvlm.dialogue.conversation import Conversation
from medvlm.dialogue.loop import GenerateBatch
from medvlm.errors import MedVLMError
from medvlm.evaluation.edits import Edit, edit_series
from medvlm.evaluation.grounding import EditOutcome
from medvlm.imaging.cohort import Cohort, CohortEntry


@dataclass(frozen=True)
class EditJob:
    """What is edited and asked: see `medvlm evaluate grounding`."""

    lesion: str
    task: str
    edit: Edit
    around: tuple[str, ...]
    seed: int = 0


def run_edits(
    test: Sequence[Conversation],
    cohort: Cohort,
    generate: GenerateBatch,
    job: EditJob,
    folder: Path,
    limit: int | None = None,
    root: Path = Path(),
) -> tuple[list[EditOutcome], Mapping[str, tuple[Path, Path]]]:
    """Ask the yes-no questions about every test study with the lesion, before and after the edit, without experts.

    Args:
        test: test conversations of `medvlm data build`.
        cohort: the studies, with masks.
        generate: conversations → the assistant's next turns.
        job: what is edited.
        folder: where the edited pictures are written; those that are there already are kept.
        limit: edit only the first so many studies.
        root: folder that the image paths of `test` start from.

    Returns:
        The outcomes, and study → its picture before and after.

    Raises:
        MedVLMError: no study has the lesion, or the mask names no such structure.
    """
    numbers = {name: number for number, name in cohort.labels.items()}
    unknown = [name for name in (job.lesion, *job.around) if name not in numbers]
    if unknown:
        raise MedVLMError(f"{cohort.root}: no structure '{unknown[0]}' in the masks (known: {', '.join(numbers)}).")
    asked = [row for row in test if (row.symbols.get("score") or {}).get("kind") == "yes_no"]
    about = {str(row.symbols["study"]) for row in asked if row.task == job.task and row.symbols["value"]}
    entries = [entry for entry in cohort.split("test") if entry.id in about and entry.mask][:limit]
    if not entries:
        raise MedVLMError(f"{cohort.root}: no test study with a mask has a {job.lesion} that '{job.task}' asks about.")
    pictures = {}
    for entry in entries:
        target = folder / f"{entry.id}-{job.edit}-{job.lesion.replace(' ', '_')}.png"
        if not target.is_file():
            _draw(cohort, entry, numbers, job, target)
        pictures[entry.id] = target
    chosen = [row for row in asked if str(row.symbols["study"]) in pictures]
    before = [_plain(row, row.images) for row in chosen]
    after = [_plain(row, (str(pictures[str(row.symbols["study"])].resolve()),)) for row in chosen]
    answers = generate([*before, *after])
    gone = job.edit in ("erased", "dropped_slices")
    outcomes = []
    for number, row in enumerate(chosen):
        touched, value = row.task == job.task, bool(row.symbols["value"])
        question = next(turn.text for turn in row.turns if turn.role == "user")
        said = answers[number], answers[number + len(chosen)]
        true = value, value and not (touched and gone)
        outcomes.append(EditOutcome(row.id, row.patient, row.task, question, job.edit, touched, *said, *true))
    unedited = {str(row.symbols["study"]): root / row.images[0] for row in chosen}
    return outcomes, {study: (unedited[study], after_edit) for study, after_edit in pictures.items()}


def _draw(cohort: Cohort, entry: CohortEntry, numbers: Mapping[str, int], job: EditJob, target: Path) -> None:
    from medvlm.dialogue.views import save_overview, shown_series
    from medvlm.imaging.reader import load_study

    series = shown_series(load_study(cohort.root / entry.study))
    mask = np.asarray(load_study(cohort.root / str(entry.mask)).series[0].volume.array)
    label = numbers[job.lesion]
    around = tuple(numbers[name] for name in job.around) or tuple(set(numbers.values()) - {label})
    save_overview(edit_series(series, mask, label, job.edit, around, job.seed), target)


def _plain(row: Conversation, images: tuple[str, ...]) -> Conversation:
    """The question alone, with this picture and no expert."""
    question = next(turn for turn in row.turns if turn.role == "user")
    return replace(row, turns=(replace(question, images=images),))
