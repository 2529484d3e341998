"""Gates that hold their level, curves that are right, and duplicates that are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from medvlm.evaluation.abstention import fit_gate, gate_report, risk_coverage
from medvlm.evaluation.contamination import find_duplicates, hash_pictures, picture_hash

# Simulated experts: how the score of a present and of an absent finding is spread (mean, deviation, in log odds).
EXPERTS = {
    "sharp": ((2.5, 1.0), (-2.5, 1.0)),
    "weak": ((0.5, 1.0), (-0.5, 1.0)),
    "overconfident": ((6.0, 5.0), (-6.0, 5.0)),
    "biased": ((3.0, 1.5), (1.0, 1.5)),
}


def simulate(expert: str, count: int, seed: int, prevalence: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.random(count) < prevalence
    (high, spread), (low, other) = EXPERTS[expert]
    odds = np.where(true, rng.normal(high, spread, count), rng.normal(low, other, count))
    return 1 / (1 + np.exp(-odds)), true


@pytest.mark.parametrize("expert", sorted(EXPERTS))
@pytest.mark.parametrize("error", [0.05, 0.1, 0.2])
def test_gates_hold_their_error_level_within_one_point_on_10000_cases(expert, error):
    gate = fit_gate(*simulate(expert, 10_000, seed=1), error)
    probabilities, true = simulate(expert, 10_000, seed=2)
    found = gate_report(gate, probabilities, true)
    assert abs(found["error"] - error) <= 0.01
    assert found["inject"] + found["hedge"] + found["abstain"] == pytest.approx(1.0)
    # The level holds for present and absent findings apart; 2 points allow for the 3,000 present ones.
    for label in (True, False):
        part = gate_report(gate, probabilities[true == label], true[true == label])
        assert abs(part["error"] - error) <= 0.02


def test_a_weak_expert_is_hedged_and_a_sharp_one_injected():
    shares = {}
    for expert in ("sharp", "weak"):
        gate = fit_gate(*simulate(expert, 5_000, seed=3), 0.1)
        shares[expert] = gate_report(gate, *simulate(expert, 5_000, seed=4))
    assert shares["sharp"]["inject"] > 0.85
    assert shares["weak"]["hedge"] > 0.4


def test_a_gate_from_too_few_cases_rules_nothing_out():
    # Three cases of each kind cannot show 10 %: (3 + 1) * 0.9 > 3.
    gate = fit_gate([0.9, 0.8, 0.7, 0.1, 0.2, 0.3], [True] * 3 + [False] * 3, 0.1)
    assert gate.action(0.99) == gate.action(0.01) == "hedge"
    with pytest.raises(ValueError, match="error level"):
        fit_gate([0.5], [True], 1.5)


def test_risk_falls_where_confidence_is_honest():
    curve = risk_coverage([0.9, 0.8, 0.7, 0.6], [True, True, False, True])
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve.risk.tolist() == pytest.approx([0, 0, 1 / 3, 1 / 4])
    assert curve.selective_accuracy(0.5) == 1.0
    assert curve.selective_accuracy(1.0) == 0.75
    assert curve.area == pytest.approx((1 / 3 + 1 / 4) / 4)
    assert curve.best_area == pytest.approx(1 / 16)


def test_answers_of_equal_confidence_stay_together():
    curve = risk_coverage([0.5, 0.5, 0.5, 0.5], [True, False, False, True])
    assert curve.risk.tolist() == [0.5] * 4


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twenty smooth random pictures."""
    rng = np.random.default_rng(0)
    for n in range(20):
        noise = Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).resize((128, 128), Image.Resampling.BICUBIC)
        noise.save(tmp_path / f"{n}.png")
    return tmp_path


def test_the_same_picture_saved_anew_is_found_and_others_are_not(pictures):
    train = hash_pictures(pictures, [f"{n}.png" for n in range(20)], progress=False)
    with Image.open(pictures / "3.png") as image:
        image.resize((90, 90)).save(pictures / "small.jpg", quality=60)
        image.point(lambda grey: grey * 0.7 + 20).save(pictures / "dark.png")
        image.filter(ImageFilter.GaussianBlur(2)).convert("RGB").save(pictures / "soft.bmp")
    test = hash_pictures(pictures, ["small.jpg", "dark.png", "soft.bmp"], progress=False)
    found = find_duplicates(test, train)
    assert {match.test: match.train for match in found} == dict.fromkeys(test, "3.png")
    assert find_duplicates({"0.png": train["0.png"]}, {k: v for k, v in train.items() if k != "0.png"}) == []
    assert picture_hash(pictures / "0.png") == train["0.png"]
