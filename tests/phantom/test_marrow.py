"""Marrow smears: the same seed gives the same picture, classes differ as they should, cohorts hold all classes."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from medvlm.errors import MedVLMError
from medvlm.findings.finding import read_findings
from medvlm.phantom.marrow import CLASSES, SIDE, draw_field, make_marrow_cohort


@pytest.mark.parametrize("kind", CLASSES)
def test_the_same_seed_gives_the_same_field(kind: str) -> None:
    one, same, other = (draw_field(kind, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.shape == (SIDE, SIDE, 3)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_only_fields_with_nucleated_cells_are_dark_in_places() -> None:
    def dark(kind: str) -> float:
        fields = [draw_field(kind, np.random.default_rng([3, seed])) for seed in range(10)]
        return float(np.mean([(field.mean(axis=2) < 110).mean() for field in fields]))

    assert dark("blood") < 0.002
    assert dark("healthy") > 0.02
    assert dark("mm") > 0.02


def test_an_unknown_class_is_one_sentence() -> None:
    with pytest.raises(MedVLMError, match="no marrow class 'fat'"):
        draw_field("fat", np.random.default_rng(0))


def test_every_split_of_a_cohort_holds_every_class(tmp_path: Path) -> None:
    cohort = make_marrow_cohort(tmp_path, patients=100)
    assert {split: len(cohort.split(split)) for split in ("train", "validation", "test")} == {
        "train": 70,
        "validation": 10,
        "test": 20,
    }
    for split in ("train", "test"):
        found = Counter(
            read_findings(tmp_path / str(entry.truth))[0].grade
            for entry in cohort.split(split)  # type: ignore[arg-type]
        )
        assert set(found) == set(CLASSES)
