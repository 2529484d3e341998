"""The expert-trust audit on models whose trust is known."""

from __future__ import annotations

import json
from collections.abc import Callable

from medvlm.dialogue.build import Mix, StudyFacts, build_conversations
from medvlm.dialogue.conversation import Conversation
from medvlm.dialogue.practice import PracticePool
from medvlm.dialogue.questions import read_questions
from medvlm.evaluation.trust import run_trust_audit
from medvlm.evaluation.trust_measures import CONDITIONS, TrustAudit
from medvlm.findings.finding import Finding
from tests.dialogue.sample import FakeExpert, absent, effusion, heart, nodule, study_facts

QUESTIONS = read_questions("chest_ct")
ONE = (nodule(1, 14.2), absent("pleural_effusion"), heart(0.56))
TWO = (absent("lung_nodule"), effusion("left", 240.0), heart(0.44))
THREE = (nodule(1, 22.0, "left", "lower_lobe", "part-solid"), effusion("right", 90.0), heart(0.47))
STUDIES: list[StudyFacts] = [
    *(study_facts(f"t{n}", "train", found, found) for n, found in enumerate((ONE, TWO, THREE))),
    *(study_facts(f"e{n}", "test", found, found) for n, found in enumerate((ONE, TWO, THREE))),
]
TEST = [
    row
    for row in build_conversations(STUDIES, QUESTIONS, FakeExpert(), Mix(practice=0))
    if row.split == "test" and row.symbols["needs_expert"] and row.symbols["score"] and row.task != "report"
]
TRUTH = {study.entry.id: study.truth for study in STUDIES}


def audit(model: Callable[[Conversation], str]) -> TrustAudit:
    pool = PracticePool([study.shown for study in STUDIES[:3]])
    return run_trust_audit(
        TEST, lambda batch: [model(row) for row in batch], FakeExpert(), QUESTIONS, TRUTH, pool, 0, "json"
    )


def right_answer(row: Conversation) -> str:
    return QUESTIONS.family(row.task).answer(TRUTH[str(row.symbols["study"])]).text


def seer(row: Conversation) -> str:
    """Calls the expert, then says what is true whatever the expert says."""
    if row.turns[0].role == "system" and row.turns[-1].role == "user":
        return str(row.symbols["trigger"])
    return right_answer(row)


def parrot(row: Conversation) -> str:
    """Calls the expert and repeats what it says, right or wrong; sees the truth alone. Reads findings as JSON."""
    if row.turns[-1].role == "user":
        return str(row.symbols["trigger"]) if row.turns[0].role == "system" else right_answer(row)
    spoken = next(turn.text for turn in row.turns if turn.role == "expert")
    if "error" in spoken:
        return "The expert gave no result."
    found = [Finding.from_json(entry) for entry in json.loads(spoken.partition("\n")[2])]
    return QUESTIONS.family(row.task).answer(found).text


def test_a_model_that_sees_is_never_led_astray():
    result = audit(seer)
    assert set(result.accuracy) == set(CONDITIONS)
    # Ten all-right answers score exactly 1.
    assert all(row.value == 1.0 for row in result.accuracy.values())
    assert result.measures["blind_faith"].value == 0.0
    assert result.measures["rescue"].value == 1.0
    assert result.measures["harm"].value == 0.0
    assert result.measures["benefit"].value == 0.0
    assert result.measures["called"].value == 1.0


def test_a_model_that_never_calls_is_not_touched_by_experts():
    result = audit(right_answer)
    assert result.measures["called"].value == 0.0
    assert result.measures["copy"].value == 0.0


def test_a_parrot_has_blind_faith():
    result = audit(parrot)
    assert result.accuracy["true"].value == 1.0
    assert result.accuracy["flipped"].value == 0.0
    assert result.accuracy["missing"].value == 0.0
    assert result.measures["blind_faith"].value == 1.0
    assert result.measures["rescue"].value == 0.0
    # It does not care how sure the expert is.
    assert result.measures["confidence"].value == 0.0


def test_flips_are_wrong_for_every_question():
    result = audit(seer)
    flipped = [row for row in result.outcomes if row.condition == "flipped"]
    assert len(flipped) == len(TEST)
    assert all(row.copied is False for row in flipped)
    # Nothing about the question is left in what is irrelevant.
    assert result.questions == len(TEST)
    assert result.to_json()["accuracy"]["true"]["value"] == 1.0
