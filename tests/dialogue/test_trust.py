"""Experts that are not to be believed, and what is taught about them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from medvlm.cli import main
from medvlm.dialogue.build import Mix, StudyFacts, build_conversations
from medvlm.dialogue.conversation import Conversation
from medvlm.dialogue.corrupt import confident, doubt
from medvlm.dialogue.practice import PracticePool
from medvlm.dialogue.questions import read_questions
from medvlm.dialogue.trust import Trust, draw_shown
from medvlm.errors import MedVLMError
from tests.dialogue.sample import FakeExpert, absent, effusion, heart, nodule, study_facts

QUESTIONS = read_questions("chest_ct")
ASKING = [family for family in QUESTIONS.families if family.needs_expert]
TRUTH = (nodule(1, 14.2), absent("pleural_effusion"), heart(0.56))
OTHER = (absent("lung_nodule"), effusion("left", 240.0), heart(0.44))
POOL = PracticePool([TRUTH, OTHER])


def built(mix: Mix, studies: list[StudyFacts] | None = None) -> list[Conversation]:
    given = studies or [study_facts("a", "train", TRUTH, TRUTH), study_facts("b", "train", OTHER, OTHER)]
    return [row for row in build_conversations(given, QUESTIONS, FakeExpert(), mix, seed=5) if row.split == "train"]


def answers(rows: list[Conversation]) -> list[str]:
    return [turn.text for row in rows for turn in row.turns if turn.role == "assistant"]


def test_one_rate_is_divided_and_rates_above_one_are_refused():
    # 0.6, 0.2, 0.1 and 0.1 of 0.5.
    assert Trust.of_rate(0.5) == Trust(wrong=0.3, doubtful=0.1, conflict=0.05, missing=0.05)
    assert Trust.of_rate(0.5).rate == pytest.approx(0.5)
    with pytest.raises(MedVLMError, match="between 0 and 1"):
        Trust(wrong=0.8, missing=0.3)


def test_experts_are_wrong_as_often_as_said():
    rng = np.random.default_rng(0)
    drawn = [draw_shown(Trust(0.3, 0.1, 0.05, 0.05), TRUTH, ASKING, POOL, rng) for _ in range(4000)]
    shares = {
        "right": sum(said is None for said in drawn),
        "missing": sum(said is not None and said.failed for said in drawn),
        "conflict": sum(said is not None and said.second is not None for said in drawn),
    }
    # Standard errors are below 0.008 at 4,000 draws.
    assert shares["right"] / 4000 == pytest.approx(0.5, abs=0.03)
    assert shares["missing"] / 4000 == pytest.approx(0.05, abs=0.015)
    assert shares["conflict"] / 4000 == pytest.approx(0.05, abs=0.015)


def test_the_stated_probability_does_not_give_a_wrong_expert_away():
    rows = built(Mix(expert=300, plain=0, practice=0, failed=0.0, turns=1, trust=Trust(wrong=0.5)))
    stated: dict[bool, list[float]] = {True: [], False: []}
    for row in rows:
        said = " ".join(turn.text for turn in row.turns if turn.role == "expert")
        wrong = row.turns[-1].text.startswith("The picture disagrees")
        stated[wrong] += [float(p) for p in re.findall(r"p (\d\.\d\d)", said)]
    assert min(len(values) for values in stated.values()) > 100
    for values in stated.values():
        # Evenly drawn from 0.8 to 1.0: the mean is 0.9 whether the expert is right or wrong.
        assert min(values) >= 0.8
        assert max(values) <= 1.0
        assert np.mean(values) == pytest.approx(0.9, abs=0.015)


def test_a_doubtful_expert_is_right_half_of_the_time():
    rng = np.random.default_rng(1)
    drawn = [draw_shown(Trust(doubtful=1.0), TRUTH, ASKING, POOL, rng) for _ in range(1000)]
    right = [said.findings == tuple(doubt(TRUTH)) for said in drawn if said is not None]
    assert np.mean(right) == pytest.approx(0.5, abs=0.06)
    assert {round(finding.confidence or 0, 2) for said in drawn if said for finding in said.findings} == {0.51}


def test_a_missing_expert_teaches_to_answer_from_the_picture():
    rows = built(Mix(expert=60, plain=0, practice=0, failed=0.0, trust=Trust(missing=1.0)))
    said = answers(rows)
    assert "The expert failed. Yes, a nodule." in said
    assert "The expert failed. Yes, enlarged." in said
    # What an expert did not say cannot be quoted, and it found nothing that could be told of.
    assert not any("expert found" in text for text in said)


def test_what_the_picture_does_not_show_is_not_blamed_on_the_expert():
    rows = built(Mix(expert=300, plain=50, practice=0, failed=0.0, trust=Trust(wrong=1.0)))
    disputed = [text for text in answers(rows) if text.startswith("The picture disagrees")]
    assert disputed
    # A size asked of a nodule that is not there: the answer is that there is none, not that "the expert found" none.
    assert "The picture disagrees with the expert. No nodule." in disputed
    assert not any("The expert found" in text for text in disputed)


def test_disputed_answers_are_judged_by_what_they_say_of_the_question():
    yes_no = QUESTIONS.family("effusion_present").score
    assert yes_no is not None
    for template in (QUESTIONS.disputed, QUESTIONS.conflicting, QUESTIONS.missing):
        assert yes_no.read(template.format(answer="Yes, a pleural effusion.")) is True
        assert yes_no.read(template.format(answer="No pleural effusion.")) is False
    # Even where the words before the answer deny something.
    assert yes_no.read("The expert does not fit the picture. Yes, a pleural effusion.") is True


def test_confidence_is_of_what_is_said():
    sure = confident(TRUTH, np.random.default_rng(0))
    assert all(0.8 <= (finding.confidence or 0) <= 1.0 for finding in sure)
    assert [finding.presence for finding in sure] == [finding.presence for finding in TRUTH]


def test_one_rate_or_the_four_of_them_but_not_both(capsys):
    with pytest.raises(SystemExit):
        main(["data", "build", "clinic", "--out", "data", "--trust", "0.5", "--wrong", "0.1"])
    assert "give either --trust or the rates" in capsys.readouterr().err
