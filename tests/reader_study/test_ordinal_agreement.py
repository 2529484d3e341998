"""Ordinal models, agreement, blinding, multiplicity and preferences.

`WINE` are the public ratings of the bitterness of wine (Randall 1989), as in the R package ordinal; the expected fit is
`clmm(rating ~ temp + contact + (1 | judge))` of ordinal 2022.11-16.
"""

import numpy as np
import pytest

from medvlm.errors import MedVLMError
from medvlm.reader_study.statistics.agreement import (
    intraclass_correlation,
    krippendorff_alpha,
    weighted_kappa,
    with_interval,
)
from medvlm.reader_study.statistics.blinding import bang_index, james_index
from medvlm.reader_study.statistics.multiplicity import adjust
from medvlm.reader_study.statistics.ordinal import fit_clmm, fit_gee
from medvlm.reader_study.statistics.preference import Comparisons, davidson

# Ratings of nine judges; in each row bottles 1-8: cold no, cold no, cold yes, cold yes, warm no, warm no, warm yes x 2.
WINE = np.array(
    [
        [2, 3, 3, 4, 4, 4, 5, 5],
        [1, 2, 1, 3, 2, 3, 5, 4],
        [2, 3, 3, 2, 5, 5, 4, 4],
        [3, 2, 3, 2, 3, 2, 5, 3],
        [2, 3, 4, 3, 3, 3, 3, 3],
        [3, 2, 3, 2, 2, 4, 5, 4],
        [1, 1, 2, 2, 2, 3, 2, 3],
        [2, 2, 2, 3, 3, 3, 3, 4],
        [1, 2, 3, 2, 3, 2, 4, 4],
    ]
)
WARM, CONTACT = np.array([0, 0, 0, 0, 1, 1, 1, 1.0]), np.array([0, 0, 1, 1, 0, 0, 1, 1.0])


def wine() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    judge, bottle = np.indices(WINE.shape)
    x = np.stack([WARM[bottle.ravel()], CONTACT[bottle.ravel()]], axis=1)
    return WINE.ravel(), x, judge.ravel()


def test_the_mixed_model_equals_that_of_r():
    y, x, judge = wine()
    fit = fit_clmm(y, x, ["warm", "contact"], {"judge": judge})
    assert fit.loglik == pytest.approx(-81.56541, abs=1e-4)
    assert [(e.estimate, e.se) for e in fit.effects] == [
        pytest.approx((3.0630, 0.5954), abs=2e-4), pytest.approx((1.8349, 0.5125), abs=2e-4)
    ]  # fmt: skip
    assert fit.thresholds == pytest.approx([-1.6237, 1.5134, 4.2285, 6.0888], abs=2e-4)
    assert fit.sds["judge"] ** 2 == pytest.approx(1.279, abs=1e-3)


def test_a_second_random_effect_without_variance_changes_nothing():
    y, x, judge = wine()
    bottle = np.tile(np.arange(8), 9)
    fit = fit_clmm(y, x, ["warm", "contact"], {"judge": judge, "bottle": bottle})
    assert fit.loglik == pytest.approx(-81.56541, abs=1e-3)
    assert fit.sds["bottle"] < 0.01
    assert fit.effects[0].estimate == pytest.approx(3.0630, abs=1e-3)


def test_the_marginal_model_is_the_proportional_odds_fit_with_wider_errors():
    y, x, judge = wine()
    fit = fit_gee(y, x, ["warm", "contact"], [judge])
    # R: clm(rating ~ temp + contact): logLik -86.49192, 2.5031, 1.5278.
    assert fit.loglik == pytest.approx(-86.49192, abs=1e-4)
    assert [e.estimate for e in fit.effects] == pytest.approx([2.5031, 1.5278], abs=1e-4)
    assert fit.effects[0].df == 8


def test_equal_ratings_are_refused():
    with pytest.raises(MedVLMError, match="all ratings are the same"):
        fit_clmm([3.0, 3.0], np.zeros((2, 1)), ["a"], {"r": [0, 1]})


def test_alpha_of_krippendorffs_own_example():
    n = np.nan
    table = np.array(
        [[1, 2, 3, 3, 2, 1, 4, 1, 2, n, n, n], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, n, 3],
         [n, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, n], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, n]]
    )  # fmt: skip
    found = [krippendorff_alpha(table, kind) for kind in ("nominal", "ordinal", "interval")]
    assert found == pytest.approx([0.743, 0.815, 0.849], abs=5e-4)
    # Counting each case twice changes the small-sample term alone.
    assert krippendorff_alpha(table, "ordinal", np.full(12, 2.0)) == pytest.approx(found[1], abs=0.01)
    assert np.isnan(krippendorff_alpha(np.ones((2, 5))))


def test_weighted_kappa_by_hand():
    a, b = np.array([1.0, 1, 2, 2]), np.array([1.0, 2, 2, 2])
    # Observed disagreement 1/4; expected 1/2 * 3/4 + 1/2 * 1/4 = 1/2: kappa 0.5 with any weights of two categories.
    assert weighted_kappa(a, b, "unweighted") == pytest.approx(0.5)
    assert weighted_kappa(a, b) == pytest.approx(0.5)
    assert np.isnan(weighted_kappa(np.ones(3), np.ones(3)))


def test_icc_of_shrout_and_fleiss():
    table = np.array([[9, 6, 8, 7, 10, 6], [2, 1, 4, 1, 5, 2], [5, 3, 6, 2, 6, 4], [8, 2, 8, 6, 9, 7]], dtype=float)
    assert intraclass_correlation(table, "ICC2") == pytest.approx(0.29, abs=5e-3)
    assert intraclass_correlation(table, "ICC3") == pytest.approx(0.71, abs=6e-3)


def test_intervals_are_over_patients():
    rng = np.random.default_rng(0)
    truth = np.repeat(rng.integers(1, 6, 20), 3).astype(float)
    table = np.clip(truth + rng.integers(-1, 2, (3, 60)), 1, 5)
    clusters = np.repeat(np.arange(20), 3)
    wide = with_interval("alpha", lambda w: krippendorff_alpha(table, "ordinal", w), clusters, 60, 300)
    narrow = with_interval("alpha", lambda w: krippendorff_alpha(table, "ordinal", w), np.arange(60), 60, 300)
    assert wide.low < wide.value < wide.high
    assert wide.high - wide.low > narrow.high - narrow.low


def test_blinding_indices_at_their_corners():
    assert bang_index("a", 10, 0, 0).value == 1
    assert bang_index("a", 5, 5, 0).value == 0
    assert bang_index("a", 0, 5, 5).value == -0.5
    assert james_index([(10, 0, 0), (0, 10, 0)]) == 0  # all right
    assert james_index([(5, 5, 0), (5, 5, 0)]) == 0.5  # at random
    assert james_index([(0, 0, 10), (0, 0, 10)]) == 1  # nobody knows


def test_adjusted_p_values_by_hand():
    p = [0.01, 0.04, 0.03, float("nan")]
    assert adjust(p, "holm")[:3] == pytest.approx([0.03, 0.06, 0.06])
    assert adjust(p, "hochberg")[:3] == pytest.approx([0.03, 0.04, 0.04])
    assert adjust(p, "benjamini-hochberg")[:3] == pytest.approx([0.03, 0.04, 0.04])
    assert adjust(p, "bonferroni")[:3] == pytest.approx([0.03, 0.12, 0.09])
    assert np.isnan(adjust(p)[3])


def test_preferences_give_back_the_worth_they_were_drawn_from():
    rng = np.random.default_rng(1)
    worth, n = np.array([0.0, 0.8, -0.5]), 1500
    first, second = rng.integers(0, 3, n), rng.integers(1, 3, n)
    second = (first + second) % 3
    weights = np.exp(np.stack([worth[first], (worth[first] + worth[second]) / 2 - 0.5, worth[second]]))
    column = (rng.random(n) > np.cumsum(weights / weights.sum(axis=0), axis=0)).sum(axis=0)
    data = Comparisons(first, second, np.array([1, 0.5, 0])[column], np.arange(n) % 8, np.arange(n) % 90)
    found = davidson(data, ["a", "b", "c"], 30)
    assert found.log_worth == pytest.approx(worth, abs=0.2)
    assert found.ties == pytest.approx(np.exp(-0.5), abs=0.12)
    assert (found.low <= found.log_worth).all()
    assert (found.high >= found.log_worth).all()
