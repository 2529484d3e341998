"""Consistency against brute force, with the smallest set to blame."""

from __future__ import annotations

from itertools import permutations, product
from random import Random

import pytest

from medvlm.pathways import parse_pathway
from medvlm.pathways.consistency import Checker
from medvlm.pathways.quantities import Interval
from tests.pathways.library import scorer
from tests.pathways.small import SMALL


@pytest.fixture(scope="module")
def checker() -> Checker:
    return Checker(parse_pathway(SMALL))


def test_the_number_of_satisfying_assignments_is_exact(checker: Checker) -> None:
    # No lesion (size not assessable): low. Lesion of size 1..20 (20 values): 9 middle (1..9), 11 high (10..20).
    assert checker.count() == 1 + 20
    assert len(list(checker.solutions(100))) == 21


def test_a_conflict_names_the_smallest_set_and_its_rule(checker: Checker) -> None:
    (conflict,) = checker.conflicts({"lesion": True, "size": 12.0, "grade": "middle"})
    # The size alone proves the lesion, so the lesion answer is not to blame.
    assert set(conflict.slots) == {"size", "grade"}
    assert "grade" in conflict.rules


def test_unasked_slots_are_free_and_ranges_are_understood(checker: Checker) -> None:
    assert not checker.conflicts({"grade": "high"})
    assert not checker.conflicts({"grade": "high", "size": Interval(8.0, 12.0)})
    assert checker.conflicts({"grade": "high", "size": Interval(2.0, 9.0)})


@pytest.mark.parametrize("name", ["bone_marrow", "ecg_acs", "blood_smear", "prostate_pirads"])
def test_partial_answers_agree_with_brute_force(name: str) -> None:
    checker = scorer(name).checker
    cases = list(checker.solutions(10_000))
    random = Random(1)
    for _ in range(150):
        slots = random.sample(checker.names, random.randint(1, len(checker.names)))
        answers = {slot: random.choice(checker.domains[slot].symbols) for slot in slots}
        possible = any(all(case[slot] == symbol for slot, symbol in answers.items()) for case in cases)
        conflicts = checker.conflicts(answers)
        assert bool(conflicts) is not possible
        for conflict in conflicts:
            core = {slot: answers[slot] for slot in conflict.slots}
            assert not any(all(case[slot] == symbol for slot, symbol in core.items()) for case in cases)
            for slot in core:
                rest = {key: symbol for key, symbol in core.items() if key != slot}
                assert any(all(case[key] == symbol for key, symbol in rest.items()) for case in cases)


def test_all_wrong_tuples_of_the_published_tree_are_caught_in_every_order() -> None:
    # 288 tuples, 5 of them valid; comparing neighbours misses some in 96 of 120 orders.
    checker = scorer("bone_marrow").checker
    valid = [tuple(case.values()) for case in checker.solutions(100)]
    assert len(valid) == 5
    missed = 0
    for symbols in product(*(checker.domains[name].symbols for name in checker.names)):
        conflicts = checker.conflicts(dict(zip(checker.names, symbols)))
        missed += bool(conflicts) is (symbols in valid)
    assert missed == 0
    sample = {"diagnosis": "aml", "quality": True, "cells": "adequate", "abnormality": False, "proliferation": "none"}
    found = {checker.conflicts(dict(order)) for order in permutations(sample.items())}
    assert len(found) == 1
