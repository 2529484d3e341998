"""Everything a curriculum shows and asks, made once: cohort, pictures, the expert's findings, conversations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from medvlm.curricula.cases import StudyCase, make_cohort, study_cases
from medvlm.curricula.dialogues import answer_calls, asked_conversations, captions, known_desk
from medvlm.curricula.pictures import write_blank
from medvlm.curricula.sources import pathway_conversations
from medvlm.curricula.spec import Curriculum
from medvlm.dialogue.conversation import Conversation, write_conversations
from medvlm.dialogue.views import render_cohort
from medvlm.imaging.cohort import SPLITS, Split
from medvlm.pathways.phrasings import Split as Phrasings
from medvlm.pathways.reward import Scorer
from medvlm.storage import write_json

if TYPE_CHECKING:
    from medvlm.imaging.cohort import Cohort

FINDINGS = "findings"


def prepare(curriculum: Curriculum, scorer: Scorer, out: Path, data: Path, workers: int) -> None:
    """Write the conversations of every source and split to `data`; what is there already is kept.

    Args:
        curriculum: what to prepare.
        scorer: of its pathway.
        out: folder of the run; a phantom cohort and an expert's findings are kept there.
        data: folder of the conversations.
        workers: processes that draw and render.
    """
    if (data / "done.json").is_file():
        return
    cohort = make_cohort(curriculum, out / "cohort", workers)
    if curriculum.cases.expert:
        from medvlm.experts.annotate import annotate_cohort

        annotate_cohort(cohort.root, out / FINDINGS, [curriculum.cases.expert])
    pictures = render_cohort(cohort, data, workers)
    cases = list(study_cases(curriculum, scorer, cohort, pictures, data))
    counts: dict[str, dict[str, int]] = {}
    for name in curriculum.sources:
        counts[name] = {
            split: write_conversations(
                data / f"{name}.{split}.jsonl", _conversations(curriculum, scorer, cohort, cases, out, name, split)
            )
            for split in SPLITS
        }
    for name in {skill.source for skill in curriculum.skills.values() if skill.heldout}:
        rows = _of_pathway(curriculum, scorer, cases, out, name, "test", "heldout")
        write_conversations(data / f"{name}.heldout.jsonl", rows)
    write_blank(data)
    write_json(data / "done.json", {"cohort": cohort.name, "studies": len(cohort.entries), "sources": counts})


def _conversations(
    curriculum: Curriculum,
    scorer: Scorer,
    cohort: Cohort,
    cases: list[StudyCase],
    out: Path,
    name: str,
    split: Split,
) -> Iterator[Conversation]:
    kind = curriculum.sources[name].kind
    if kind == "pathway":
        return _of_pathway(curriculum, scorer, cases, out, name, split)
    if kind == "caption":
        return captions(curriculum, cohort, cases, name, split)
    return asked_conversations(curriculum, cohort, cases, out / FINDINGS, name, split)


def _of_pathway(
    curriculum: Curriculum,
    scorer: Scorer,
    cases: list[StudyCase],
    out: Path,
    name: str,
    split: Split,
    phrasings: Phrasings = "train",
) -> Iterator[Conversation]:
    """The pathway's conversations; where it calls the curriculum's expert, with the expert's findings."""
    rows = pathway_conversations(curriculum, scorer, cases, name, split, phrasings)
    if not curriculum.cases.expert:
        return rows
    studies = {case.patient: case.id for case in cases}
    return answer_calls(rows, known_desk(curriculum.cases.expert, out / FINDINGS), studies)
