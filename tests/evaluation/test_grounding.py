"""Edited studies, and the indices of models whose eyes are known."""

from __future__ import annotations

import numpy as np
import pytest

from medvlm.errors import MedVLMError
from medvlm.evaluation.edits import edit_series, erase, move
from medvlm.evaluation.grounding import EditOutcome, indices
from medvlm.imaging.study import Series, Volume


@pytest.fixture
def lesion() -> tuple[np.ndarray, np.ndarray]:
    """Noise around -800 with a ball of radius 4 voxels around 40."""
    rng = np.random.default_rng(0)
    array = rng.normal(-800, 20, (40, 40, 30))
    ball = np.linalg.norm(np.indices(array.shape).T - [12, 20, 15], axis=-1).T <= 4
    array[ball] = 40
    return array, ball


def test_an_erased_lesion_looks_like_what_is_around_it(lesion):
    array, ball = lesion
    edited = erase(array, ball, np.zeros_like(ball))
    assert abs(edited[ball].mean() + 800) < 10
    assert abs(edited[ball].std() - 20) < 8
    # Beyond one voxel around the ball nothing changes.
    far = np.linalg.norm(np.indices(array.shape).T - [12, 20, 15], axis=-1).T > 6
    assert np.array_equal(edited[far], array[far])


def test_a_moved_lesion_is_gone_here_and_whole_there(lesion):
    array, ball = lesion
    allowed = np.zeros_like(ball)
    allowed[22:, :, :] = True
    edited = move(array, ball, allowed)
    assert edited[ball].mean() < -700
    assert (edited[22:] == 40).sum() == ball.sum()
    with pytest.raises(MedVLMError, match="does not fit"):
        move(array, ball, np.zeros_like(ball))


def test_series_edits_keep_geometry_and_refuse_other_grids(lesion):
    array, ball = lesion
    series = Series("1", "CT", lambda: Volume(array, np.eye(4), "HU"))
    mask = ball.astype(np.uint8) * 7
    assert edit_series(series, mask, 7, "erased", (), 0).volume.unit == "HU"
    # The ball spans 9 slices.
    assert edit_series(series, mask, 7, "dropped_slices", (), 0).volume.array.shape == (40, 40, 21)
    assert edit_series(series, mask, 7, "wrong_window", (), 0).volume.array.min() == 300
    with pytest.raises(MedVLMError, match="grid"):
        edit_series(series, mask[1:], 7, "erased", (), 0)


def outcome(number: int, touched: bool, before: str, after: str) -> EditOutcome:
    """A lesion that was there and is taken out; untouched questions stay true."""
    return EditOutcome(f"q{number}", f"p{number}", "t", "?", "erased", touched, before, after, True, not touched)


def test_a_model_that_sees_understands_and_a_blind_one_is_stubborn():
    seeing = [outcome(n, n % 2 == 0, "yes", "no" if n % 2 == 0 else "yes") for n in range(8)]
    found = indices(seeing)
    assert (found["true_understanding"].value, found["indecision"].value, found["f1"].value) == (1.0, 0.0, 1.0)
    blind = indices([outcome(n, n % 2 == 0, "yes", "yes") for n in range(8)])
    assert (blind["true_understanding"].value, blind["stubborn_yes"].value, blind["f1"].value) == (0.0, 1.0, 0.0)
    confused = indices([outcome(n, n % 2 == 0, "no", "yes") for n in range(8)])
    # It says the opposite of the truth about what was edited, and changes its mind about what was not.
    assert (confused["ignorance"].value, confused["indecision"].value) == (1.0, 1.0)


def test_indices_without_questions_are_none():
    assert indices([outcome(0, True, "yes", "no")])["indecision"] is None
