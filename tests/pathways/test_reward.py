"""The reward: derived numbers, and properties that hold for every pathway of the library."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlm.pathways import NOT_ASSESSABLE, parse_pathway
from medvlm.pathways.phrasings import unknown_answers
from medvlm.pathways.reward import Answer, Scorer
from tests.pathways.library import LIBRARY, scorer
from tests.pathways.small import SMALL


@pytest.fixture(scope="module")
def small() -> Scorer:
    return Scorer(parse_pathway(SMALL))


RIGHT = [Answer("lesion", "Yes."), Answer("size", "12 mm"), Answer("grade", "High grade.")]
TRUTH = {"lesion": True, "size": 12.0, "grade": "high"}


def test_right_answers_earn_exactly_one_and_turns_sum_to_the_total(small: Scorer) -> None:
    score = small.score(RIGHT, TRUTH)
    assert score.total == 1.0
    assert sum(score.turns) == pytest.approx(1.0)
    assert score.consistency == 1.0


def test_the_total_follows_the_formula(small: Scorer) -> None:
    score = small.score([*RIGHT[:2], Answer("grade", "Middle grade.")], TRUTH)
    # Ordinal, one of two steps low: 0.5 * (1 - 1/2) - 0.25 * (1 + 1/2) = -0.125. Size and grade clash: C = 1/3.
    raw = (1 + 1 - 0.125) + 0.5 * (1 / 3) * (1 + 1)
    floor = small.baseline(["lesion", "size", "grade"])
    assert score.total == pytest.approx((raw - floor) / (3 * 1.5 - floor))
    assert {slot for conflict in score.conflicts for slot in conflict.slots} == {"size", "grade"}
    # The wrong answer of the clash is charged for it, the right one is not.
    assert score.turns[1] > 0 > score.turns[2]
    assert sum(score.turns) == pytest.approx(score.total)


def test_the_trace_explains_every_term(small: Scorer) -> None:
    score = small.score([*RIGHT[:2], Answer("grade", "Middle grade, " + "word " * 130)], TRUTH)
    names = {term.name for term in score.trace}
    assert names == {"correctness", "consistency", "chance", "length"}
    assert any("right is 'high'" in term.detail for term in score.trace)
    assert any("size + grade" in term.detail for term in score.trace)


def test_a_question_asked_twice_with_two_answers_is_a_clash(small: Scorer) -> None:
    score = small.score([*RIGHT, Answer("grade", "Low grade.")], TRUTH)
    assert score.total < 1
    assert "asked twice" in score.conflicts[0].rules


def test_markup_costs_and_a_whole_think_block_does_not(small: Scorer) -> None:
    clean = small.score([Answer("grade", "<think>low?</think>High grade.")], TRUTH)
    dirty = small.score([Answer("grade", "High grade.<|im_end|>")], TRUTH)
    assert clean.total == 1.0
    assert dirty.total < 1.0


def _texts(name: str, case: dict[str, Any]) -> list[Answer]:
    from medvlm.pathways.simulate import Simulator

    made = Simulator(scorer(name)).exchanges(case, Random(0), "train", "standard", "none")
    return [Answer(item.slot, item.answer, item.question) for item in made]


@pytest.mark.parametrize("name", LIBRARY)
def test_right_paths_earn_all_and_no_order_changes_a_score(name: str) -> None:
    one = scorer(name)
    random = Random(3)
    for case, _ in random.sample(one.cases, min(5, len(one.cases))):
        answers = _texts(name, dict(case))
        assert one.score(answers, case).total == 1.0
        answers[0] = Answer(answers[0].slot, "Hard to say.")
        answers[-1] = Answer(answers[-1].slot, "kidney")
        reference = one.score(answers, case)
        by_slot = dict(zip((item.slot for item in answers), reference.turns))
        for _ in range(4):
            random.shuffle(answers)
            score = one.score(answers, case)
            assert score.total == reference.total
            assert [by_slot[item.slot] for item in answers] == list(score.turns)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(LIBRARY), st.integers(0, 10**6), st.integers(0, 10**6))
def test_flipping_any_one_answer_of_a_right_path_never_raises_the_total(name: str, pick: int, seed: int) -> None:
    one = scorer(name)
    case, _ = one.cases[pick % len(one.cases)]
    path = dict(case)
    slot = Random(seed).choice(list(path))
    path[slot] = Random(seed + 1).choice(one.checker.domains[slot].symbols)
    assert one.score_symbols(path, case).total <= 1.0


@pytest.mark.parametrize("name", LIBRARY)
def test_blank_and_undecided_paths_never_beat_the_honest_prior(name: str) -> None:
    one = scorer(name)
    names = list(one.pathway.slots)
    # The honest prior draws a case from the prior and says it, without looking; its mean is over both draws.
    random = Random(5)
    drawn = random.choices([case for case, _ in one.cases], [weight for _, weight in one.cases], k=300)
    truths = random.choices([case for case, _ in one.cases], [weight for _, weight in one.cases], k=300)
    honest = sum(one.score_symbols(path, truth).total for path, truth in zip(drawn, truths)) / 300
    for text in ("", "I don't know.", unknown_answers(one.pathway, one.pathway.slots[names[0]])[-1]):
        score = one.score([Answer(slot, text) for slot in names], truths[0])
        assert score.total <= honest + 0.05
        assert score.total <= 0


@pytest.mark.parametrize("name", LIBRARY)
def test_no_constant_path_earns_more_than_a_tenth(name: str) -> None:
    from medvlm.pathways.lint import best_constant

    path, reward = best_constant(scorer(name))
    assert reward <= 0.10
    # The climbed figure is the mean of real scores.
    one = scorer(name)
    asked = one.pathway.turns.order
    real = sum(
        weight * one.score_symbols({slot: path[slot] for slot in asked}, case).total for case, weight in one.cases
    )
    assert real == pytest.approx(reward)


def test_not_assessable_is_a_right_answer_only_where_it_holds() -> None:
    one = scorer("bone_marrow")
    clot = next(case for case, _ in one.cases if case["cells"] == "clot")
    assert one.score_symbols({"diagnosis": NOT_ASSESSABLE}, clot).total == 1.0
    aml = next(case for case, _ in one.cases if case["diagnosis"] == "aml")
    assert one.score_symbols({"diagnosis": NOT_ASSESSABLE}, aml).total < 0
