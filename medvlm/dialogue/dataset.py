"""A folder of conversations: train.jsonl, validation.jsonl, test.jsonl, images/ and the card data.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from medvlm.dialogue.build import Mix, StudyFacts, build_conversations
from medvlm.dialogue.conversation import Conversation, write_conversations
from medvlm.dialogue.questions import read_questions, rephrased
from medvlm.dialogue.views import render_cohort
from medvlm.errors import MedVLMError
from medvlm.experts.bundle import Bundle
from medvlm.findings.finding import Finding, read_findings
from medvlm.imaging.cohort import SPLITS, Cohort, check_patient_splits
from medvlm.storage import write_json


class AnnotatedExpert:
    """An expert whose Findings are there already: nothing is loaded but its card and its rules."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.card = bundle, bundle.card

    def select(self, findings: tuple[Finding, ...], argument: str) -> tuple[Finding, ...]:
        """As `Expert.select`."""
        from medvlm.experts.expert import select_findings

        return select_findings(self.bundle, findings, argument)


def build_dataset(
    cohort: Cohort,
    annotations: Path | None,
    questions: str | Path,
    out: Path,
    mix: Mix | None = None,
    seed: int = 0,
    workers: int = 2,
    progress: bool = True,
    phrasings: Path | None = None,
) -> dict[str, Any]:
    """Build all conversations of a cohort, render its pictures and write the folder.

    Args:
        cohort: studies with true Findings.
        annotations: folder that `medvlm annotate` wrote; None: an expert that says what is true.
        questions: curriculum or YAML file.
        out: folder to write; pictures that are there already are kept.
        mix: how many conversations of each kind.
        seed: of every draw.
        workers: processes that render.
        progress: show progress bars.
        phrasings: YAML file of other test phrasings, family by family.

    Returns:
        The card that is also in `data.json`.

    Raises:
        MedVLMError: a study has no truth or no annotation, or a patient is in two splits.
    """
    from medvlm.experts.annotate import read_annotations
    from medvlm.experts.registry import find_expert

    asked = read_questions(questions) if phrasings is None else rephrased(read_questions(questions), phrasings)
    expert = AnnotatedExpert(find_expert(asked.expert))
    found = {} if annotations is None else read_annotations(annotations)
    facts = []
    for entry in cohort.entries:
        if entry.truth is None:
            raise MedVLMError(f"{cohort.root}: study {entry.id} has no true findings; questions need them as answers.")
        truth = tuple(read_findings(cohort.root / entry.truth))
        if annotations is None:
            facts.append(StudyFacts(entry, "", truth, truth))
            continue
        failed = (annotations / "failed" / f"{entry.id}.json").is_file()
        if entry.id not in found and not failed:
            raise MedVLMError(f"{annotations}: no findings for study {entry.id}; run 'medvlm annotate' to the end.")
        shown = () if failed else _of_expert(found[entry.id], asked.expert)
        facts.append(StudyFacts(entry, "", truth, shown, failed))
    paths = render_cohort(cohort, out, workers, progress)
    facts = [replace(fact, image=paths[fact.entry.id]) for fact in facts]
    mix = mix or Mix()
    conversations = build_conversations(facts, asked, expert, mix, seed)
    provenance = next((asdict(finding.provenance) for fact in facts for finding in fact.shown), {})
    about = {"cohort": cohort.name, "questions": asked.expert, "expert": provenance, "mix": asdict(mix), "seed": seed}
    return write_dataset(out, conversations, about)


def _of_expert(findings: Sequence[Finding], expert: str) -> tuple[Finding, ...]:
    return tuple(finding for finding in findings if finding.provenance.expert == expert)


def write_dataset(out: Path, conversations: Sequence[Conversation], about: dict[str, Any]) -> dict[str, Any]:
    """Write one file a split and the card, after the leak check.

    Args:
        out: folder.
        conversations: of all splits.
        about: where they come from; the first keys of the card.

    Returns:
        The card.

    Raises:
        MedVLMError: a patient is in more than one split.
    """
    check_patient_splits((conversation.patient, conversation.split) for conversation in conversations)
    splits = {split: [c for c in conversations if c.split == split] for split in SPLITS}
    for split, rows in splits.items():
        write_conversations(out / f"{split}.jsonl", rows)
    card = about | {
        "schema": 1,
        "conversations": {split: len(rows) for split, rows in splits.items()},
        "patients": {split: len({c.patient for c in rows}) for split, rows in splits.items()},
        "shared_patients": 0,
        "tasks": {split: dict(sorted(_tasks(rows).items())) for split, rows in splits.items()},
    }
    write_json(out / "data.json", card)
    return card


def _tasks(conversations: Sequence[Conversation]) -> Counter[str]:
    return Counter(task for conversation in conversations for task in conversation.task.split("+") if task)
