"""Probabilities that mean what they say: curves, temperature, conformal thresholds, and the command."""

from pathlib import Path

import numpy as np
import pytest

from medvlm.errors import MedVLMError
from medvlm.experts.bundle import read_bundle
from medvlm.experts.calibrate import Cases, calibrate_expert, summarise, verify
from medvlm.experts.calibration import (
    conformal_threshold,
    coverage_in_halves,
    expected_calibration_error,
    fit_curve,
    fit_temperature,
)
from medvlm.storage import write_json
from tests.experts.tiny import write_bundle, write_cohort


def overconfident(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose log odds are three times too large, and what was true."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(0, 1, count)
    true = rng.random(count) < 1 / (1 + np.exp(-log_odds))
    return 1 / (1 + np.exp(-3 * log_odds)), true


def test_the_curve_undoes_overconfidence_on_new_cases() -> None:
    curve = fit_curve(*overconfident(4000, seed=0))
    assert curve.slope == pytest.approx(1 / 3, abs=0.03)
    scores, true = overconfident(20000, seed=1)
    assert expected_calibration_error(scores, true) > 0.1
    assert expected_calibration_error(curve(scores), true) < 0.015


def test_separable_scores_give_a_finite_curve() -> None:
    curve = fit_curve(np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True]))
    assert np.isfinite([curve.slope, curve.offset]).all()
    assert 0.5 < float(curve(np.array([0.9]))[0]) < 1.0


def test_the_temperature_of_logits_that_are_too_large_is_found() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (5000, 3))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    target = np.array([rng.choice(3, p=row) for row in shares])
    assert fit_temperature(logits * 2.5, target) == pytest.approx(2.5, rel=0.1)


def test_the_calibration_error_of_a_known_case() -> None:
    # Ten findings at 0.8 of which six are true, ten at 0.25 of which five are: (0.2 + 0.25) / 2.
    probabilities = np.array([0.8] * 10 + [0.25] * 10)
    true = np.array([True] * 6 + [False] * 4 + [True] * 5 + [False] * 5)
    assert expected_calibration_error(probabilities, true) == pytest.approx(0.225)


def test_conformal_thresholds_keep_their_promise_on_new_cases() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        draws = rng.beta(4, 2, 1199)
        threshold = conformal_threshold(draws[:199].tolist(), 0.9)
        assert threshold is not None
        covered.append((draws[199:] >= threshold).mean())
    # 199 cases: exactly (200 - 20) / 200 in the mean.
    assert np.mean(covered) == pytest.approx(0.9, abs=0.01)


def test_too_few_cases_promise_nothing() -> None:
    assert conformal_threshold([0.9] * 5, 0.95) is None
    assert conformal_threshold([0.9] * 19, 0.95) == pytest.approx(0.9)


def test_a_rule_with_too_few_cases_is_left_as_it_is(tmp_path: Path) -> None:
    bundle = read_bundle(write_bundle(tmp_path / "tiny"))
    few = Cases(scores=[0.9, 0.2], true=[True, False])
    enough = Cases(scores=[0.9] * 10 + [0.4] * 10, true=[True] * 10 + [False] * 10, errors=[0.01, -0.01] * 5)
    written = summarise(bundle, {"ball": few, "organ": enough, "width": enough})
    assert "ball" not in written["rules"]
    assert written["rules"]["organ"]["cases"] == 20
    assert written["tolerances"]["width"] == pytest.approx(0.01)


def test_a_fit_is_checked_on_other_cases() -> None:
    # Slope 1 and offset 0 leave the scores as they are. True findings: 0.9, 0.6 and one missed.
    rules = {"ball": {"slope": 1.0, "offset": 0.0, "size": 0.0, "conformal": {"0.8": 0.5, "0.9": 0.7, "0.95": None}}}
    checked = verify(rules, {"ball": Cases(scores=[0.9, 0.6, 0.2], true=[True, True, False], missed=1)})
    assert checked["ball"] == {
        "cases": 3,
        "error": pytest.approx((0.1 + 0.4 + 0.2) / 3, abs=1e-4),
        "true": 3,
        "coverage": {"0.8": pytest.approx(2 / 3, abs=1e-4), "0.9": pytest.approx(1 / 3, abs=1e-4)},
        "coverage_in_halves": {},
    }


def test_size_tells_true_from_false_where_the_score_does_not() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.uniform(4, 25, 2000)
    true = rng.random(2000) < 1 / (1 + np.exp(-4 * np.log(sizes / 10)))
    curve = fit_curve(np.full(2000, 0.7), true, sizes)
    assert curve.size == pytest.approx(4, rel=0.15)
    small, large = curve(np.array([0.7, 0.7]), np.array([5.0, 20.0]))
    assert small < 0.2
    assert large > 0.8


def test_thresholds_of_random_halves_cover_what_they_promise() -> None:
    draws = np.random.default_rng(1).beta(4, 2, 1000).tolist()
    assert coverage_in_halves(draws, 0.9) == pytest.approx(0.9, abs=0.01)
    # Three in ten are missed: nine in ten cannot be promised.
    assert coverage_in_halves([*draws, *[0.0] * 430], 0.9) is None


def test_a_fit_is_not_checked_on_its_own_cases(tmp_path: Path) -> None:
    with pytest.raises(MedVLMError, match="own studies"):
        calibrate_expert("chest_ct", tmp_path, "test", check="test")


def test_a_calibration_of_other_weights_is_ignored(tmp_path: Path) -> None:
    root = write_bundle(tmp_path / "tiny")
    fitted = {"weights": read_bundle(root).weights_hash(), "rules": {"ball": {"slope": 1.0, "offset": 0.0}}}
    write_json(root / "calibration.json", fitted)
    assert read_bundle(root).calibration == fitted
    write_json(root / "calibration.json", fitted | {"weights": "of an earlier training"})
    assert read_bundle(root).calibration == {}


def test_calibrating_without_enough_cases_is_one_sentence(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort")
    root = write_bundle(tmp_path / "tiny")
    with pytest.raises(MedVLMError, match="too few cases"):
        calibrate_expert(root, tmp_path / "cohort", "train", device="cpu")
    assert not (root / "calibration.json").exists()
