"""How far a study is from those an expert is for."""

from pathlib import Path

import numpy as np
import pytest

from medvlm.content import builtin_root
from medvlm.errors import MedVLMError
from medvlm.experts.applicability import check_series
from medvlm.experts.bundle import read_bundle
from medvlm.experts.domain import check_domain, distance, fit, fit_domain, statistics
from medvlm.experts.input import InputSpec
from medvlm.imaging.study import Series, Volume
from medvlm.phantom.case import generate_case
from tests.experts.tiny import write_bundle, write_cohort

SPEC = InputSpec(3, -1000.0, 1000.0, spacing=(2.0, 2.0, 2.0))


def scene(rng: np.random.Generator, bright: float) -> Volume:
    """A bright box of varying size in the dark."""
    array = np.full((40, 40, 40), -900.0)
    low, high = rng.integers(5, 9), rng.integers(30, 35)
    array[low:high, low:high, low:high] = bright
    return Volume(array + rng.normal(0, 20, array.shape), np.diag([4.0, 4.0, 4.0, 1.0]), unit="HU")


def test_a_study_like_the_others_is_near_and_another_far() -> None:
    rng = np.random.default_rng(0)
    domain = fit(np.stack([statistics(scene(rng, 100.0), SPEC) for _ in range(40)]))
    near = [distance(domain, scene(rng, 100.0), SPEC) for _ in range(20)]
    assert max(near) < domain["limit"]
    far = distance(domain, scene(rng, 900.0), SPEC)
    assert far > 2 * domain["limit"]


def test_differences_below_the_floor_do_not_count() -> None:
    # All alike to a thousandth: without a floor, two thousandths would be two standard deviations away.
    rows = np.random.default_rng(0).normal(0.5, 0.001, (50, 6))
    domain = fit(rows)
    away = np.full(6, 0.502) - domain["centre"]
    assert float(np.sqrt(away @ np.array(domain["precision"]) @ away / 6)) < 0.05


def test_the_statistics_do_not_depend_on_how_the_voxels_are_stored() -> None:
    volume = scene(np.random.default_rng(1), 100.0)
    flipped = volume.affine.copy()
    flipped[0, 0], flipped[0, 3] = -4.0, 4.0 * 39
    turned = Volume(volume.array[::-1], flipped, unit="HU")
    # Steps of the coarse grid start at the other end, so equality is up to the noise.
    assert statistics(turned, SPEC) == pytest.approx(statistics(volume, SPEC), abs=0.02)


def test_a_fit_is_stored_in_the_bundle_and_refuses(tmp_path: Path) -> None:
    write_cohort(tmp_path / "few", count=6)
    root = write_bundle(tmp_path / "tiny")
    with pytest.raises(MedVLMError, match="at least 20"):
        fit_domain(root, tmp_path / "few", "train")
    write_cohort(tmp_path / "cohort", count=24)
    written = fit_domain(root, tmp_path / "cohort", "train")
    assert written["studies"] == 22
    bundle = read_bundle(root)
    noise = np.random.default_rng(0).uniform(-1000, 1000, (32, 32, 32)).astype(np.int16)
    assert "does not look like what tiny is for" in check_domain(
        bundle, Volume(noise, np.diag([2.0, 2.0, 2.0, 1.0]), unit="HU")
    )


def test_chest_ct_reads_a_new_chest() -> None:
    bundle = read_bundle(builtin_root() / "experts" / "chest_ct")
    volume = generate_case(4321, 0).volume
    assert check_series(bundle, Series("s", "CT", lambda: volume, body_part="chest")).ok
