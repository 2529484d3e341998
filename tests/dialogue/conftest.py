"""Fixtures of the dialogue tests."""

import pytest

from medvlm.dialogue.build import StudyFacts
from tests.dialogue.sample import FakeExpert, absent, effusion, heart, nodule, study_facts

ONE = (nodule(1, 14.2), nodule(2, 6.4, "left", "lower_lobe"), absent("pleural_effusion"), heart(0.56))
TWO = (absent("lung_nodule"), effusion("left", 240.0), heart(0.44))
THREE = (nodule(1, 22.0, "left", grade="part-solid"), effusion("right", 90.0), effusion("left", 80.0), heart(0.47))
MISSED = (absent("lung_nodule"), absent("pleural_effusion"), heart(0.45))
FOUND = (nodule(1, 9.0), absent("pleural_effusion"), heart(0.45))


@pytest.fixture
def expert() -> FakeExpert:
    return FakeExpert(findings=ONE)


@pytest.fixture
def studies() -> list[StudyFacts]:
    """Four training studies, one for validation and two for test; the expert misses the nodule of d and g."""
    return [
        study_facts("a", "train", ONE, ONE),
        study_facts("b", "train", TWO, TWO),
        study_facts("c", "train", THREE, THREE),
        study_facts("d", "train", FOUND, MISSED),
        study_facts("e", "validation", ONE, ONE),
        study_facts("f", "test", THREE, THREE),
        study_facts("g", "test", FOUND, MISSED),
    ]
