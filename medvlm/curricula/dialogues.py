"""Conversations that do not come from a pathway: captions, and questions with and without an expert on offer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from medvlm.curricula.cases import StudyCase
from medvlm.curricula.sources import chosen
from medvlm.curricula.spec import Curriculum
from medvlm.dialogue.build import Mix, StudyFacts, build_conversations
from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.dialogue.dataset import AnnotatedExpert
from medvlm.dialogue.inject import system_turn
from medvlm.dialogue.loop import Desk
from medvlm.dialogue.questions import read_questions
from medvlm.dialogue.trigger import parse_triggers
from medvlm.errors import MedVLMError
from medvlm.findings.finding import read_findings
from medvlm.findings.verbalise import verbalise
from medvlm.imaging.cohort import Cohort, Split

DESCRIBE = ("Describe the picture.", "What does the picture show?", "Give the findings.")


def captions(
    curriculum: Curriculum, cohort: Cohort, cases: Sequence[StudyCase], name: str, split: Split
) -> Iterator[Conversation]:
    """One question, answered by the true findings in words: the general alignment of picture and text."""
    source = curriculum.sources[name]
    truths = {entry.id: entry.truth for entry in cohort.entries}
    for case in cases:
        truth = truths.get(case.id)
        if case.split != split or truth is None or not chosen(curriculum, source, name, case):
            continue
        # The truth has no probability to speak of.
        found = [replace(finding, probability=None) for finding in read_findings(cohort.root / truth)]
        said = verbalise(found, "short")
        for number in range(source.per_study):
            random = Random(f"{curriculum.seed}/{name}/{case.id}/{number}")
            asked = Turn("user", random.choice(DESCRIBE[: source.wordings or None]), (case.pictures[0],))
            identity = f"{name}-{case.id}-{number}"
            yield Conversation(identity, case.patient, case.split, (asked, Turn("assistant", said)), "caption")


def asked_conversations(
    curriculum: Curriculum, cohort: Cohort, cases: Sequence[StudyCase], findings: Path, name: str, split: Split
) -> Iterator[Conversation]:
    """What `questions.yaml` of the expert's domain asks: with the expert on offer, or answered from the picture.

    Test conversations ask one question each, in held-out phrasings; see `medvlm/dialogue/build.py`.

    Raises:
        MedVLMError: the curriculum names no expert, or a study has no truth.
    """
    from medvlm.experts.annotate import read_annotations
    from medvlm.experts.registry import find_expert

    source, expert = curriculum.sources[name], curriculum.cases.expert
    if not expert:
        raise MedVLMError(f"{curriculum.path}, sources.{name}: kind '{source.kind}' needs cases.expert.")
    found = read_annotations(findings)
    entries = {entry.id: entry for entry in cohort.entries}
    facts = []
    for case in cases:
        entry = entries.get(case.id)
        if entry is None or entry.split != split or not chosen(curriculum, source, name, case):
            continue
        truth = tuple(read_findings(cohort.root / str(entry.truth)))
        # A study without findings is one that the expert could not read; the honest answer is taught.
        shown = tuple(finding for finding in found.get(case.id, ()) if finding.provenance.expert == expert)
        facts.append(StudyFacts(entry, case.pictures[0], truth, shown, case.id not in found))
    offered = source.kind == "expert"
    count = source.per_study
    mix = Mix(
        expert=count if offered else 0,
        plain=0 if offered else count,
        practice=source.practice,
        validation=1,
        test_no_expert=1,
    )
    questions, card = read_questions(expert), AnnotatedExpert(find_expert(expert))
    for row in build_conversations(facts, questions, card, mix, curriculum.seed):
        if split == "test" or row.symbols["kind"] != ("plain" if offered else "expert"):
            yield replace(row, id=f"{name}-{row.id}")


def known_desk(expert: str, findings: Path) -> Desk:
    """A desk whose expert has read every study already."""
    from medvlm.experts.annotate import read_annotations
    from medvlm.experts.registry import find_expert

    desk = Desk([AnnotatedExpert(find_expert(expert))])  # type: ignore[list-item]  # it is never run
    desk.remember(expert, read_annotations(findings))
    return desk


def answer_calls(
    conversations: Iterable[Conversation], desk: Desk, studies: Mapping[str, str]
) -> Iterator[Conversation]:
    """Put the expert's own findings into pathway conversations that call it, and its card in front.

    Args:
        conversations: with calls whose answers are made up.
        desk: answers the calls; what was shown before in a conversation is not asked for again.
        studies: patient → study.
    """
    for row in conversations:
        turns: list[Turn] = [*system_turn(desk.cards)]
        called: set[str] = set()
        for turn in row.turns:
            triggers = parse_triggers(turn.text) if turn.role == "assistant" else []
            if turn.role == "expert" or (triggers and turn.text in called):
                continue
            turns.append(turn)
            if triggers:
                called.add(turn.text)
                turns.append(desk.reply(triggers[0], studies[row.patient], None).turn)
        yield replace(row, turns=tuple(turns))
