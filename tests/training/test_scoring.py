from __future__ import annotations

from dataclasses import replace

import pytest

from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.training.scoring import Question, is_right, normalise, questions, score


def ask(text: str, *accepted: str, task: str = "t", closed: bool | None = None) -> Question:
    return Question("q", task, Conversation("c", "p", "test", (Turn("user", text),)), accepted, closed=closed)


def test_every_learnt_assistant_turn_is_a_question(conversation):
    call, size = questions(replace(conversation, symbols={"answer": "14 mm"}))
    assert (call.task, call.accepted, len(call.prompt.turns)) == ("call", ("<CHEST_CT(nodules)>",), 2)
    assert (size.task, size.accepted) == ("nodule_size", ("The largest nodule measures 14 mm.", "14 mm"))
    assert size.prompt.turns[-1].role == "expert"


def test_the_rule_of_a_conversation_decides(conversation):
    symbols = {"answer": "14 mm", "value": 14.0, "score": {"kind": "number", "unit": "mm", "absolute": 2.0}}
    size = questions(replace(conversation, symbols=symbols))[-1]
    assert is_right("It is 15.5 mm.", size)  # within 2 mm
    assert not is_right("It is 17 mm.", size)


@pytest.mark.parametrize(
    ("answer", "right"),
    [("Yes", True), ("yes.", True), ("Yes, it is.", True), ("no", False), ("yesterday", False), ("", False)],
)
def test_a_short_answer_may_stand_in_a_sentence(answer, right):
    assert is_right(answer, ask("?", "yes")) is right


def test_a_long_reference_must_be_given_whole():
    question = ask("?", "the left lower lobe of the lung")
    assert is_right("Left lower lobe of the lung.", question)
    assert not is_right("It is in the left lower lobe of the lung today", question)


def test_normalising_drops_case_spaces_article_and_end_punctuation():
    assert normalise("  The  Left Lung. ") == "left lung"


def test_the_baseline_is_the_most_frequent_training_answer_of_the_task():
    learnt = [ask("?", "yes"), ask("?", "Yes."), ask("?", "no")]
    asked = [ask("?", "yes"), ask("?", "no"), ask("?", "no"), ask("?", "no")]
    (row,) = score(asked, ["no", "no", "no", "yes"], learnt)
    assert (row.questions, row.right, row.majority_answer, row.majority_right) == (4, 2, "yes", 1)
    assert (row.accuracy, row.majority) == (0.5, 0.25)


def test_closed_and_open_questions_have_rows_of_their_own():
    asked = [ask("?", "yes", closed=True), ask("?", "the heart", closed=False)]
    rows = score(asked, ["yes", "lung"], [])
    assert [(row.task, row.right, row.majority_answer) for row in rows] == [("t, closed", 1, ""), ("t, open", 0, "")]
