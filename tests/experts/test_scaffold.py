"""A new expert from a cohort: a folder that trains and runs as it is."""

from pathlib import Path

import pytest

from medvlm.errors import MedVLMError
from medvlm.experts.bundle import read_bundle
from medvlm.experts.scaffold import new_expert
from tests.experts.tiny import write_cohort


def test_a_new_expert_has_the_cohorts_structures_and_grid_and_builds(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort")
    bundle = read_bundle(new_expert("balls", tmp_path / "cohort", tmp_path / "experts"))
    assert list(bundle.labels.values()) == ["background", "left organ", "right organ", "ball"]
    assert bundle.input.spacing == (2.0, 2.0, 2.0)
    assert bundle.input.dims == 3
    assert bundle.card.modality == ("CT",)
    assert list(bundle.card.arguments) == ["left_organ", "right_organ", "ball", "everything"]
    assert bundle.build_network() is not None


def test_a_name_that_cannot_be_a_trigger_or_is_taken_is_refused(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort")
    with pytest.raises(MedVLMError, match="lower-case"):
        new_expert("My Expert", tmp_path / "cohort", tmp_path)
    new_expert("balls", tmp_path / "cohort", tmp_path / "experts")
    with pytest.raises(MedVLMError, match="is there already"):
        new_expert("balls", tmp_path / "cohort", tmp_path / "experts")
