"""Multi-reader multi-case statistics against published figures and the R packages.

`unbalanced.imrmc` (a third of the reads missing) and `split_plot.imrmc` were simulated for these tests; the expected
values were computed from them with the R package iMRMC 2.1.2 (doAUCmrmc, uStat11.jointD, uStat11.conditionalD).
"""

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medvlm.errors import MedVLMError
from medvlm.reader_study.power import PowerComponents, cases_needed, components_from_merits, power
from medvlm.reader_study.statistics import (
    Contrast,
    Ratings,
    dorfman_berbaum_metz,
    figures_of_merit,
    obuchowski_rockette,
    ratings_from_rows,
    read_ratings,
    standalone_against_readers,
    two_way_bootstrap,
    u_statistic_auc,
    u_statistic_mean,
    write_imrmc,
    write_rjafroc,
)

DATA = Path(__file__).parent / "data"
VAN_DYKE = Path(os.environ.get("MEDVLM_VAN_DYKE", "RocData.imrmc"))


@pytest.fixture
def van_dyke() -> Ratings:
    if not VAN_DYKE.is_file():
        pytest.skip("the Van Dyke data are not shipped: see docs/reader-study-statistics.md, then set MEDVLM_VAN_DYKE")
    return read_ratings(VAN_DYKE)


def test_van_dyke_obuchowski_rockette(van_dyke):
    delong = obuchowski_rockette(figures_of_merit(van_dyke, "auc", "delong"))
    parts = delong.components
    expected = (0.0007921325, 0.0003420090, 0.0003395265, 0.0002358497, 0.004796171, 0.0005510306)
    found = (parts.var, parts.cov1, parts.cov2, parts.cov3, parts.ms_t, parts.ms_tr)
    assert found == pytest.approx(expected, abs=1e-9)
    assert (delong.test.f, delong.test.df2, delong.test.p) == pytest.approx((4.484854, 15.06611, 0.05123303), abs=5e-6)
    assert delong.differences[0].interval == pytest.approx((-0.0878671960, 0.0002665519), abs=1e-9)
    assert [mean.estimate for mean in delong.means] == pytest.approx((0.8970370370, 0.9408373591), abs=1e-9)
    jackknife = obuchowski_rockette(figures_of_merit(van_dyke, "auc", "jackknife"))
    assert (jackknife.test.f, jackknife.test.df2, jackknife.test.p) == pytest.approx(
        (4.456319, 15.25967, 0.05166569), abs=5e-6
    )
    assert dorfman_berbaum_metz(van_dyke).test.p == pytest.approx(jackknife.test.p, abs=1e-9)


def test_van_dyke_sensitivity(van_dyke):
    ill = van_dyke.of_truth(1)
    called = replace(ill, scores=(ill.scores >= 3).astype(float))
    result = obuchowski_rockette(figures_of_merit(called, "mean", "jackknife"))
    assert (result.test.f, result.test.df2, result.test.p) == pytest.approx((6.689493, 15.71732, 0.02008822), abs=5e-6)


def test_van_dyke_u_statistics(van_dyke):
    result = u_statistic_auc(van_dyke)
    unbiased, biased = result.variances["0 - 1"]
    assert (unbiased, biased) == pytest.approx((0.0004273125, 0.0006261327), abs=1e-9)
    assert result.df["0 - 1"] == pytest.approx((12.81341, 27.5110), abs=1e-4)
    assert result.differences[0].p == pytest.approx(0.05564666, abs=1e-7)
    assert result.differences[0].interval == pytest.approx((-0.08883974, 0.00123909), abs=1e-7)
    assert u_statistic_auc(van_dyke, biased=True).differences[0].p == pytest.approx(0.09140174, abs=1e-7)
    means = u_statistic_mean(van_dyke)
    assert means.variances["0 - 1"] == pytest.approx(0.01122693, abs=1e-8)


def test_van_dyke_sample_size(van_dyke):
    parts = components_from_merits(figures_of_merit(van_dyke, "auc", "jackknife"), 114, "pilot")
    found = power(parts, 5, 100, 0.05)
    assert (found.power, found.ncp, found.df2) == pytest.approx((0.573336, 5.213184, 15.963928), abs=1e-5)
    assert power(parts, 8, 200, 0.05).power == pytest.approx(0.905763, abs=1e-5)
    assert power(parts, 10, 114, 0.05).power == pytest.approx(0.787671, abs=1e-5)


def test_u_statistics_of_an_unbalanced_design_equal_those_of_imrmc():
    ratings = read_ratings(DATA / "unbalanced.imrmc")
    result = u_statistic_auc(ratings)
    assert [mean.estimate for mean in result.means] == pytest.approx((0.804405874499, 0.810693641618), abs=1e-11)
    assert result.variances["A"] == pytest.approx((0.006993577248665, 0.00769388873429), abs=1e-12)
    # The variance of the difference is estimated below zero: iMRMC gives no test, and neither do we.
    assert result.variances["A - B"] == pytest.approx((-0.00238652294889, 0.00277224830899), abs=1e-12)
    assert math.isnan(result.differences[0].p)
    assert math.isnan(result.differences[0].interval[0])
    assert u_statistic_auc(ratings, biased=True).differences[0].p == pytest.approx(0.906767649421, abs=1e-9)
    assert result.df["B"][0] == 4.0  # not below the smallest, five readers minus one
    assert u_statistic_mean(ratings).variances["A"] == pytest.approx(0.0297936579912, abs=1e-11)
    conditional = u_statistic_mean(ratings, "conditional").variances
    assert conditional["A"] == pytest.approx(0.0247085886482, abs=1e-11)
    assert conditional["A - B"] == pytest.approx(-0.0255232396085, abs=1e-11)


def test_u_statistics_of_a_split_plot_equal_those_of_imrmc():
    ratings = read_ratings(DATA / "split_plot.imrmc")
    result = u_statistic_auc(ratings)
    assert result.variances["A - B"] == pytest.approx((0.00259170586918, 0.00594876864712), abs=1e-13)
    assert result.differences[0].interval == pytest.approx((-0.216281902002, 0.0454485686688), abs=1e-10)
    assert result.differences[0].p == pytest.approx(0.154220897166, abs=1e-10)
    assert u_statistic_mean(ratings).variances["A - B"] == pytest.approx(0.00601979389858, abs=1e-12)
    assert u_statistic_mean(ratings, "conditional").variances["A - B"] == pytest.approx(0.00460359200029, abs=1e-12)


def crossed(seed: int = 0, modalities: int = 2, readers: int = 4, cases: int = 40) -> Ratings:
    rng = np.random.default_rng(seed)
    truth = np.arange(cases) % 2.0
    scores = np.round(2 * truth + rng.normal(size=(modalities, readers, cases)) + rng.normal(size=cases), 1)
    names = [tuple(f"{kind}{k:02d}" for k in range(n)) for kind, n in zip("mrc", scores.shape)]
    return Ratings(scores, *names, truth)


def test_auc_and_delong_of_one_reader_by_hand():
    # Diseased 2, 3; normal 1, 2: pairs won 1, 1, 1 and one tie: AUC 3.5 / 4. Components: diseased (0.75, 1), normal
    # (1, 0.75); each sample variance is 0.03125, over 2 cases each: 0.015625 + 0.015625.
    ratings = Ratings(np.array([[[1.0, 2, 2, 3]]]), ("m",), ("r",), tuple("abcd"), np.array([0.0, 0, 1, 1]))
    merits = figures_of_merit(ratings)
    assert merits.theta[0, 0] == 0.875
    assert merits.covariance[0, 0] == pytest.approx(0.03125)


def test_dbm_equals_or_with_the_jackknife_for_three_modalities():
    ratings = crossed(1, modalities=3)
    for random in ("readers and cases", "readers"):
        dbm = dorfman_berbaum_metz(ratings, random=random)
        other = obuchowski_rockette(figures_of_merit(ratings, "auc", "jackknife"), random)
        assert dbm.test.f == pytest.approx(other.test.f)
        assert dbm.test.df2 == pytest.approx(other.test.df2)
        assert dbm.differences[2].se == pytest.approx(other.differences[2].se)


def test_covariances_of_cases_agree_with_each_other():
    ratings = crossed(2, cases=200)
    found = [
        figures_of_merit(ratings, "auc", method, 3000).covariance for method in ("delong", "jackknife", "unbiased")
    ]
    assert found[1] == pytest.approx(found[0], rel=0.03, abs=2e-6)
    assert found[2] == pytest.approx(found[0], rel=0.05, abs=5e-6)
    bootstrap = figures_of_merit(ratings, "auc", "bootstrap", 4000).covariance
    assert np.diag(bootstrap) == pytest.approx(np.diag(found[0]), rel=0.12)


def test_equal_modalities_have_no_difference_no_width_and_p_one():
    same = crossed()
    same = replace(same, scores=np.repeat(same.scores[:1], 2, axis=0))
    result = obuchowski_rockette(figures_of_merit(same))
    assert (result.test.f, result.test.p) == (0.0, 1.0)
    assert result.differences[0].interval == (0.0, 0.0)
    assert result.differences[0].p == 1.0


def test_a_negative_covariance_excess_is_set_to_zero_and_gives_the_smallest_degrees_of_freedom():
    rng = np.random.default_rng(5)
    merits = figures_of_merit(crossed(3))
    covariance = np.eye(8) * 0.001 + 0.0001  # Cov2 - Cov3 = 0
    covariance[:4, :4] -= 0.00005  # Cov2 below Cov3
    covariance[4:, 4:] -= 0.00005
    result = obuchowski_rockette(replace(merits, covariance=covariance, theta=rng.random((2, 4))))
    assert result.test.denominator == result.components.ms_tr
    assert result.test.df2 == 3.0  # (2 - 1)(4 - 1)


def test_perfect_readers_do_not_break_anything():
    truth = np.arange(20) % 2.0
    scores = np.broadcast_to(truth, (2, 3, 20)).copy()
    perfect = Ratings(scores, ("a", "b"), ("1", "2", "3"), tuple(map(str, range(20))), truth)
    assert obuchowski_rockette(figures_of_merit(perfect)).differences[0].p == 1.0
    assert u_statistic_auc(perfect).differences[0].p == 1.0
    assert u_statistic_mean(perfect).differences[0].estimate == 0.0


def test_readers_nested_in_modalities_are_compared_between_readers():
    ratings = crossed(4, readers=6)
    scores = ratings.scores.copy()
    scores[0, 3:], scores[1, :3] = np.nan, np.nan
    result = obuchowski_rockette(figures_of_merit(replace(ratings, scores=scores)))
    assert result.test.df1 == 1
    assert math.isnan(result.components.ms_tr)
    scores[1, 0] = 1.0  # one reader read a little of both: neither factorial nor nested
    with pytest.raises(MedVLMError, match=r"use the U-statistics|only cases of one truth"):
        obuchowski_rockette(figures_of_merit(replace(ratings, scores=scores)))


def test_a_standalone_machine_is_compared_with_the_mean_of_readers():
    ratings = crossed(6)
    scores = ratings.scores.copy()
    scores[1] = scores[1, :1]
    found = standalone_against_readers(figures_of_merit(replace(ratings, scores=scores)), "m01")
    theta = figures_of_merit(replace(ratings, scores=scores)).theta
    assert found.estimate == pytest.approx(theta[0].mean() - theta[1, 0])
    assert found.df >= 3
    with pytest.raises(MedVLMError, match="its rows differ"):
        standalone_against_readers(figures_of_merit(ratings), "m01")


def test_mean_differences_of_a_crossed_study_equal_the_two_way_analysis_of_variance():
    # For d[r, c] = a - b the unbiased variance of the mean is (MSR + MSC - MSE) / (R C).
    rng = np.random.default_rng(8)
    scores = rng.normal(size=(2, 5, 30)) + rng.normal(size=(2, 5, 1)) + rng.normal(size=(2, 1, 30))
    ratings = Ratings(scores, ("a", "b"), tuple("12345"), tuple(map(str, range(30))))
    d = scores[0] - scores[1]
    rows, columns = d.mean(axis=1), d.mean(axis=0)
    msr, msc = 30 * rows.var(ddof=1), 5 * columns.var(ddof=1)
    mse = ((d - rows[:, None] - columns + d.mean()) ** 2).sum() / (4 * 29)
    result = u_statistic_mean(ratings)
    assert result.variances["a - b"] == pytest.approx((msr + msc - mse) / 150)
    assert result.differences[0].df == pytest.approx(4 * ((msr + msc - mse) / msr) ** 2)
    other = obuchowski_rockette(figures_of_merit(ratings, "mean")).differences[0]
    assert result.differences[0].estimate == pytest.approx(other.estimate)


def test_patients_with_several_cases_widen_the_interval():
    rng = np.random.default_rng(9)
    patient = np.repeat(rng.normal(size=(2, 1, 15)), 4, axis=2)
    scores = patient + 0.2 * rng.normal(size=(2, 4, 60))
    ratings = Ratings(scores, ("a", "b"), tuple("1234"), tuple(map(str, range(60))))
    clustered = replace(ratings, clusters=tuple(str(k // 4) for k in range(60)))
    assert u_statistic_mean(clustered).differences[0].se > 1.5 * u_statistic_mean(ratings).differences[0].se
    wide = two_way_bootstrap(clustered, (0, 1), count=400)
    narrow = two_way_bootstrap(ratings, (0, 1), count=400)
    assert wide.se > 1.5 * narrow.se


def test_non_inferiority_and_equivalence_by_hand():
    # t = (-0.1 + 0.5) / 0.2 = 2 on infinite df: one-sided 0.02275; equivalence is the worse of 2 and 3.
    contrast = Contrast("a - b", -0.1, 0.2)
    assert contrast.non_inferiority(0.5) == pytest.approx(0.0227501, abs=1e-6)
    assert contrast.equivalence(0.5) == pytest.approx(0.0227501, abs=1e-6)
    assert Contrast("a - b", -0.6, 0.2).non_inferiority(0.5) > 0.5


def test_power_grows_with_cases_and_the_needed_number_has_it():
    parts = PowerComponents(0.01, 0.6, 0.2, 1, "test")
    needed = cases_needed(parts, 8, 0.3)
    assert power(parts, 8, needed, 0.3).power >= 0.8 > power(parts, 8, needed - 1, 0.3).power
    assert cases_needed(replace(parts, var_tr=1.0), 3, 0.1) is None


def test_an_imrmc_file_keeps_to_the_format(tmp_path):
    ratings = replace(crossed(), modalities=("AI, fast", 'the "old" way'), title="Line\nbreaks, and commas")
    file = tmp_path / "a.imrmc"
    write_imrmc(file, ratings)
    lines = file.read_text().splitlines()
    assert lines[:6] == ["Line breaks, and commas", "N0: 20", "N1: 20", "NR: 4", "NM: 2", "BEGIN DATA:"]
    body = [line.split(",") for line in lines[6:]]
    assert all(len(fields) == 4 and all(fields) for fields in body)
    assert sum(fields[0] == "truth" and fields[2] == "truth" and fields[3] in "01" for fields in body) == 40
    keys = [tuple(fields[:3]) for fields in body]
    assert len(set(keys)) == len(keys)
    assert not set("\"' ") & set("".join(lines[6:]))
    again = read_ratings(file)
    assert np.array_equal(again.scores, ratings.scores)
    assert np.array_equal(again.truth, ratings.truth)


def test_an_rjafroc_workbook_keeps_to_the_format(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    ratings = crossed(modalities=3)
    numbers = write_rjafroc(tmp_path / "a.xlsx", ratings)
    book = openpyxl.load_workbook(tmp_path / "a.xlsx")
    assert set(book.sheetnames) == {"TRUTH", "FP", "TP"}
    rows = list(book["TRUTH"].iter_rows(values_only=True))
    assert rows[0] == ("CaseID", "LesionID", "Weight", "ReaderID", "ModalityID", "Paradigm")
    assert [row[5] for row in rows[1:4]] == ["ROC", "FCTRL", None]
    assert {row[3:5] for row in rows[1:]} == {("0,1,2,3", "0,1,2")}
    assert all(row[1] == row[2] == (1 if row[0] > 20 else 0) for row in rows[1:])
    false = list(book["FP"].iter_rows(values_only=True))
    assert false[0] == ("ReaderID", "ModalityID", "CaseID", "FP_Rating")
    assert len(false) - 1 == 20 * 4 * 3
    true = list(book["TP"].iter_rows(values_only=True))
    assert true[0] == ("ReaderID", "ModalityID", "CaseID", "LesionID", "TP_Rating")
    assert all(isinstance(row[0], str) and row[3] == 1 for row in true[1:])
    again = read_ratings(tmp_path / "a.xlsx")
    assert numbers["case"]["c00"] == 1
    assert np.allclose(again.scores[:, :, 0], ratings.scores[:, :, 0])
    with pytest.raises(MedVLMError, match="needs the truth and every read"):
        write_rjafroc(tmp_path / "b.xlsx", replace(ratings, truth=None))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("BEGIN DATA:\ntruth,1,truth,0\nr,1,A,2\nr,1,A,3\n", "read case 1 twice"),
        ("BEGIN DATA:\nr,1,A,2\ntruth,2,truth,1\n", "no truth for 1 cases"),
        ("BEGIN DATA:\ntruth,1,truth,0\nr,1,A\n", "line 3: expected reader"),
        ("BEGIN DATA:\ntruth,1,truth,2\nr,1,A,1\n", "must be 0 or 1"),
        ("reader,case\n1,2\n", "no column for the score"),
        ("reader,case,score\n1,2,x\n", "line 2: 'x' is not a number"),
    ],
)
def test_a_broken_file_of_ratings_is_refused_with_the_line(tmp_path, text, reason):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(MedVLMError, match=reason):
        read_ratings(tmp_path / "a.csv")


def test_long_tables_with_other_names_and_missing_reads_are_read(tmp_path):
    (tmp_path / "a.csv").write_text(
        "Treatment,Reader,Case,Truth,Rating\n1,1,10,0,2\n1,1,9,1,NA\n2,1,9,1,5\n2,1,10,0,1\n"
    )
    ratings = read_ratings(tmp_path / "a.csv")
    assert ratings.cases == ("9", "10")  # by value
    assert np.isnan(ratings.scores[0, 0, 0])
    assert ratings_from_rows([("r", "c", "m", 1.0)]).truth is None
