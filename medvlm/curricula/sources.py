"""From a cohort and a pathway to conversations with pictures and symbols."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

from medvlm.curricula.spec import Curriculum, Source
from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.errors import MedVLMError
from medvlm.findings.codes import code
from medvlm.findings.finding import read_findings
from medvlm.imaging.cohort import Cohort, CohortEntry, Split, read_cohort
from medvlm.pathways.bindings import bind_findings
from medvlm.pathways.cases import complete
from medvlm.pathways.reward import Scorer
from medvlm.pathways.simulate import Simulator
from medvlm.pathways.spec import Symbol


def make_cohort(curriculum: Curriculum, out: Path) -> Cohort:
    """The cohort of a curriculum: read, or made (and completed) as a phantom in `out`.

    Raises:
        MedVLMError: an unknown phantom, or no cohort at the given place.
    """
    cases = curriculum.cases
    if cases.cohort:
        return read_cohort(cases.cohort)
    makers = {"marrow": _marrow}
    if cases.phantom not in makers:
        raise MedVLMError(f"{curriculum.path}: there is no phantom '{cases.phantom}'; choose {', '.join(makers)}.")
    return makers[cases.phantom](out, cases.patients, curriculum.seed)


def _marrow(out: Path, patients: int, seed: int) -> Cohort:
    from medvlm.phantom.marrow import make_marrow_cohort

    return make_marrow_cohort(out, patients, seed)


def true_case(curriculum: Curriculum, scorer: Scorer, cohort: Cohort, entry: CohortEntry) -> dict[str, Symbol]:
    """The symbols of a study: what its true findings say, and what follows from that.

    Raises:
        MedVLMError: no truth, or a class that the curriculum does not know.
    """
    if entry.truth is None:
        raise MedVLMError(f"{cohort.root}: study {entry.id} has no true findings to ask about.")
    findings = read_findings(cohort.root / entry.truth)
    if not curriculum.cases.concept:
        return complete(scorer.checker, bind_findings(scorer.pathway, findings))
    concept = code(curriculum.cases.concept)
    named = next((finding.grade for finding in findings if finding.concept == concept), None)
    if named is None or named not in curriculum.cases.classes:
        known = ", ".join(curriculum.cases.classes)
        raise MedVLMError(
            f"{cohort.root / entry.truth}: class '{named}' is not among those of the curriculum: {known}."
        )
    return complete(scorer.checker, curriculum.cases.classes[named])


class ConversationSource:
    """Writes the conversations of a curriculum's sources, study by study."""

    def __init__(self, curriculum: Curriculum, scorer: Scorer, cohort: Cohort, pictures: Mapping[str, Path]) -> None:
        """
        Args:
            curriculum: what is asked.
            scorer: of its pathway.
            cohort: the studies.
            pictures: study id → picture.
        """
        self.curriculum, self.scorer, self.cohort, self.pictures = curriculum, scorer, cohort, pictures
        self.simulator = Simulator(scorer)
        self._cases = {entry.id: true_case(curriculum, scorer, cohort, entry) for entry in cohort.entries}

    def conversations(self, name: str, split: Split) -> Iterator[Conversation]:
        """The conversations of a source; training phrasings for training and validation, held-out ones for test."""
        source = self.curriculum.sources[name]
        for entry in self.cohort.split(split):
            case = self._cases[entry.id]
            asked = {slot: case[slot] for slot in case if not source.slots or slot in source.slots}
            if not asked:
                continue
            for number in range(source.per_study):
                seed = Random(f"{self.curriculum.seed}/{name}/{entry.id}/{number}").randrange(2**31)
                (row,) = self._simulate(source, asked, seed, split)
                yield self._with_picture(row, entry, f"{name}-{entry.id}-{number}")

    def _simulate(self, source: Source, case: dict[str, Symbol], seed: int, split: Split) -> list[dict[str, Any]]:
        phrasings: Any = "heldout" if split == "test" else "train"
        return list(self.simulator.conversations(1, seed, phrasings, source.order, source.hint, [case]))

    def _with_picture(self, row: dict[str, Any], entry: CohortEntry, identity: str) -> Conversation:
        made = Conversation.from_json(row)
        first, *rest = made.turns
        turns = (Turn(first.role, first.text, (str(self.pictures[entry.id]),)), *rest)
        return Conversation(identity, entry.patient, entry.split, turns, made.task, (), made.symbols)
