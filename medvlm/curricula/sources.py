"""From cases to conversations with pictures and symbols."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from medvlm.curricula.cases import StudyCase
from medvlm.curricula.spec import Curriculum, Source
from medvlm.dialogue.conversation import Conversation
from medvlm.imaging.cohort import Split
from medvlm.pathways.phrasings import Split as Phrasings
from medvlm.pathways.reward import Scorer
from medvlm.pathways.simulate import Simulator
from medvlm.pathways.spec import Symbol


def pathway_conversations(
    curriculum: Curriculum,
    scorer: Scorer,
    cases: Sequence[StudyCase],
    name: str,
    split: Split,
    phrasings: Phrasings = "train",
) -> Iterator[Conversation]:
    """What the pathway asks about each case of a split.

    Args:
        curriculum: whose source.
        scorer: of the pathway.
        cases: of all splits.
        name: the source.
        split: which cases; tests have one conversation a case.
        phrasings: `train`, or `heldout` for wordings that no training conversation has.
    """
    source = curriculum.sources[name]
    simulator = Simulator(scorer, wordings=source.wordings if phrasings == "train" else 0)
    for case in cases:
        if case.split != split or not chosen(curriculum, source, name, case):
            continue
        asked = {slot: case.symbols[slot] for slot in case.symbols if not source.slots or slot in source.slots}
        if not asked:
            continue
        for number in range(1 if split == "test" else source.per_study):
            random = Random(f"{curriculum.seed}/{name}/{case.id}/{number}")
            seed = random.randrange(2**31)
            few = _few(asked, source.questions, random)
            (row,) = simulator.conversations(1, seed, phrasings, source.order, source.hint, [few])
            yield _with_picture(row, case, f"{name}-{case.id}-{number}", number)


def _few(asked: dict[str, Symbol], most: int, random: Random) -> dict[str, Symbol]:
    """At most so many of the slots, in their order; all where `most` is 0."""
    if not most or len(asked) <= most:
        return asked
    kept = set(random.sample(sorted(asked), most))
    return {slot: symbol for slot, symbol in asked.items() if slot in kept}


def chosen(curriculum: Curriculum, source: Source, name: str, case: StudyCase) -> bool:
    """Whether a source is made for this patient: sources with a smaller share take a subset of the larger ones'."""
    if source.share >= 1.0 or case.split == "test":
        return True
    return Random(f"{curriculum.seed}/share/{case.patient}").random() < source.share


def _with_picture(row: dict[str, Any], case: StudyCase, identity: str, number: int) -> Conversation:
    made = Conversation.from_json(row)
    first, *rest = made.turns
    # The sides of a picture take turns, from a place that differs from study to study.
    place = (Random(case.id).randrange(len(case.pictures)) + number) % len(case.pictures)
    turns = (replace(first, images=(case.pictures[place],)), *rest)
    return Conversation(identity, case.patient, case.split, turns, made.task, (), made.symbols)
