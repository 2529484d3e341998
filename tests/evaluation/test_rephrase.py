"""The same question in several wordings."""

from __future__ import annotations

from dataclasses import dataclass

from medvlm.dialogue.build import Mix, build_conversations
from medvlm.dialogue.conversation import Conversation
from medvlm.dialogue.loop import Desk
from medvlm.dialogue.questions import read_questions
from medvlm.evaluation.closed_loop import run_closed_loop
from medvlm.evaluation.rephrase import groups_of, rephrase, robustness
from tests.dialogue.sample import FakeExpert, absent, effusion, heart, nodule, study_facts

QUESTIONS = read_questions("chest_ct")
FOUND = (nodule(1, 14.2), effusion("left", 240.0), heart(0.44))
NOTHING = (absent("lung_nodule"), absent("pleural_effusion"), heart(0.56))
STUDIES = [study_facts("a", "test", FOUND, FOUND), study_facts("b", "test", NOTHING, NOTHING)]
TEST = build_conversations(STUDIES, QUESTIONS, FakeExpert(), Mix(test_no_expert=0))


@dataclass(frozen=True)
class Said:
    id: str
    patient: str
    correct: bool | None


def test_the_worst_wording_decides_a_question():
    rows = [Said("a1", "p", True), Said("a2", "p", True), Said("b1", "q", True), Said("b2", "q", False)]
    rows += [Said("alone", "r", False), Said("unjudged", "q", None)]
    groups = {"a1": "a", "a2": "a", "b1": "b", "b2": "b", "alone": "c", "unjudged": "b"}
    found = robustness(rows, groups)
    assert found is not None
    # Two questions of two wordings: (1 + 0.5) / 2 on average, one of two in every wording. One wording is no group.
    assert (found.groups, found.wordings) == (2, 2.0)
    assert (found.mean.value, found.worst.value) == (0.75, 0.5)
    assert robustness(rows[4:], groups) is None


def test_wordings_are_held_out_different_and_begin_with_the_questions_own():
    asked = rephrase(TEST, QUESTIONS, 3)
    groups = groups_of(asked)
    assert set(groups.values()) == {row.id for row in TEST}
    for row in TEST:
        texts = [turn.text for one in asked if groups[one.id] == row.id for turn in one.turns if turn.role == "user"]
        assert texts[0] == next(turn.text for turn in row.turns if turn.role == "user")
        assert len(set(texts)) == len(texts) == min(3, len(QUESTIONS.family(row.task).held_out))
        assert set(texts) <= set(QUESTIONS.family(row.task).held_out)
    assert rephrase(TEST, QUESTIONS, 3) == asked


def test_the_closed_loop_gives_the_worst_case_of_both_arms():
    asked = rephrase(TEST, QUESTIONS, 2)
    own = {row.id + "~0" for row in TEST}

    def model(row: Conversation) -> str:
        """Right in the question's own wording, without calling; mute in every other."""
        return (
            QUESTIONS.family(row.task).answer(FOUND if row.patient == "patient-a" else NOTHING).text
            if (row.id in own)
            else "hm"
        )

    result = run_closed_loop(asked, lambda batch: [model(row) for row in batch], Desk([FakeExpert()]))
    for arm in ("with", "without"):
        found = result.rephrased[arm]
        assert found is not None
        assert (found.mean.value, found.worst.value) == (0.5, 0.0)
    data = result.to_json()
    assert data["kind"] == "closed_loop"
    assert data["rephrased"]["with"]["worst"]["value"] == 0.0
    assert data["signatures"]["accuracy"].startswith("accuracy|v:rules2|loop:closed|experts:chest_ct|calls:3|data:")
