"""An expert on studies: applicability, choice, and the Findings of masks with known answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medvlm.errors import MedVLMError
from medvlm.experts.bundle import Bundle, read_bundle
from medvlm.experts.expert import Expert, select_findings
from medvlm.experts.infer import Prediction, choose_device
from medvlm.experts.registry import find_expert, list_experts, load_expert
from medvlm.experts.to_findings import Reading, read_findings_of
from medvlm.findings.codes import code
from medvlm.findings.finding import Finding
from medvlm.imaging.study import Series, Study, Volume
from tests.experts.tiny import scene, study_of, volume_of, write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return read_bundle(write_bundle(tmp_path_factory.mktemp("experts") / "tiny"))


def findings_of(bundle: Bundle, labels: np.ndarray, volume: Volume, sure: float = 0.9) -> list[Finding]:
    """The Findings of a network that drew `labels` with probability `sure`."""
    shares = np.full((4, *labels.shape), (1 - sure) / 3, np.float32)
    np.put_along_axis(shares, labels[None].astype(np.int64), sure, axis=0)
    prediction = Prediction(labels, torch.from_numpy(shares), volume.affine, {})
    return list(read_findings_of(Reading(bundle, "study", "series", volume, prediction, "hash")))


def test_objects_become_findings_with_place_size_grade_and_probability(bundle: Bundle) -> None:
    values, labels = scene(ball=4.0)
    ball = next(f for f in findings_of(bundle, labels, volume_of(values)) if f.concept == code("lung_nodule"))
    assert (ball.laterality, ball.site, ball.grade) == (code("right"), code("upper_lobe"), "solid")
    assert ball.probability == pytest.approx(0.9, abs=1e-5)
    assert not ball.calibrated
    # A ball of radius 4 voxels of 2 mm: 257 voxel centres lie within it, 8 mm³ each; diameter 16 mm plus up to a voxel.
    assert ball.measure("Volume") == pytest.approx(257 * 8 / 1000, abs=1e-3)
    assert ball.measure("Long axis") == pytest.approx(17, abs=1.2)
    assert ball.provenance.expert == "tiny"
    assert ball.provenance.weights == "hash"


def test_nothing_found_is_said_and_not_left_out(bundle: Bundle) -> None:
    values, labels = scene()
    labels[labels == 3] = 2
    ball = next(f for f in findings_of(bundle, labels, volume_of(values)) if f.concept == code("lung_nodule"))
    assert ball.presence == "absent"
    assert ball.id == "ball-0"


def test_no_millimetre_from_uncalibrated_voxels(bundle: Bundle) -> None:
    values, labels = scene()
    found = findings_of(bundle, labels, volume_of(values, calibrated=False))
    units = {row.unit for finding in found for row in finding.measurements}
    assert units <= {"1"}


def test_no_side_from_an_unknown_orientation(bundle: Bundle) -> None:
    values, labels = scene()
    found = findings_of(bundle, labels, volume_of(values, oriented=False))
    assert all(finding.laterality is None and finding.site is None for finding in found)
    # The transverse ratio needs to know which axis is transverse.
    assert not any(finding.concept == code("cardiomegaly") for finding in found)


def test_a_region_has_the_side_it_lies_on_whatever_the_array_order(bundle: Bundle) -> None:
    values, labels = scene()
    volume = volume_of(values)
    flipped = Volume(values[::-1], volume.affine @ np.diag([-1.0, 1, 1, 1]), unit="HU")
    for array, grid in ((labels, volume), (np.ascontiguousarray(labels[::-1]), flipped)):
        region = next(f for f in findings_of(bundle, array, grid) if f.concept == code("pleural_effusion"))
        assert region.laterality == code("left")
        # 13 x 24 x 24 voxels of 8 mm³.
        assert region.measure("Volume") == pytest.approx(13 * 24 * 24 * 8 / 1000, abs=0.01)


def test_a_region_cut_by_the_edge_has_no_volume(bundle: Bundle) -> None:
    values, labels = scene()
    labels[:3, 10:14, 10:14] = 1
    region = next(f for f in findings_of(bundle, labels, volume_of(values)) if f.concept == code("pleural_effusion"))
    assert region.measure("Volume") is None


def test_a_ratio_says_on_which_side_of_its_threshold_it_is(bundle: Bundle) -> None:
    values, labels = scene()
    ratio = next(f for f in findings_of(bundle, labels, volume_of(values)) if f.concept == code("cardiomegaly"))
    # The left organ is 13 voxels wide, both together 2..30: 28 voxels.
    assert ratio.measure("Cardiothoracic ratio") == pytest.approx(13 / 28, abs=1e-3)
    assert ratio.presence == "present"
    assert ratio.probability is not None
    assert ratio.probability > 0.99


@pytest.mark.parametrize(
    ("study", "reason"),
    [
        (study_of(volume_of(scene()[0]), modality="MR"), "the modality is MR"),
        (study_of(volume_of(scene()[0]), modality=""), "the modality is unknown"),
        (study_of(volume_of(scene()[0]), body_part="head"), "the body part is head"),
        (study_of(volume_of(scene()[0], calibrated=False)), "voxel size is unknown"),
        (study_of(volume_of(scene()[0], unit="1")), "not in HU"),
        (study_of(volume_of(scene()[0][:, :, :5])), "5 slices"),
        (study_of(volume_of(scene()[0], spacing=(2.0, 2.0, 9.0))), "9.0 mm"),
        (study_of(volume_of(np.zeros((32, 32, 32, 3), np.uint8))), "colour"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(bundle: Bundle, study: Study, reason: str) -> None:
    expert = load_expert(bundle.root, "cpu")
    verdict = expert.applies(study.series[0])
    assert not verdict.ok
    assert reason in verdict.reason
    with pytest.raises(MedVLMError, match="applies to no series"):
        expert.run(study)


def test_the_series_with_the_most_slices_is_chosen_and_others_are_not_read(bundle: Bundle) -> None:
    def unreadable() -> Volume:
        raise AssertionError("a series that cannot apply was read")

    few, many = (volume_of(scene()[0][:, :, :size]) for size in (12, 30))
    series = (
        Series("mr", "MR", unreadable),
        Series("few", "CT", lambda: few),
        Series("many", "CT", lambda: many),
    )
    expert = load_expert(bundle.root, "cpu")
    assert expert.choose(Study("s", "p", series, Path("nowhere"))).uid == "many"


def test_a_series_that_cannot_be_read_is_not_applicable(bundle: Bundle) -> None:
    def broken() -> Volume:
        raise MedVLMError("file.dcm: truncated.")

    verdict = load_expert(bundle.root, "cpu").applies(Series("x", "CT", broken))
    assert not verdict.ok
    assert "truncated" in verdict.reason


def test_a_run_gives_a_mask_on_the_series_own_grid(bundle: Bundle) -> None:
    values, _ = scene()
    affine = np.array([[0, 0, -3.0, 5], [2.0, 0, 0, 7], [0, -2.5, 0, 9], [0, 0, 0, 1]])
    study = study_of(Volume(values[:, :30, :20], affine, unit="HU"))
    result = load_expert(bundle.root, "cpu").run(study)
    assert result.mask is not None
    assert result.mask.shape == (32, 30, 20)
    assert result.mask.dtype == np.uint8
    assert result.series == "series"
    assert {finding.provenance.version for finding in result.findings} == {"0.0.1"}


def test_the_same_study_gives_the_same_findings(bundle: Bundle) -> None:
    study = study_of(volume_of(scene()[0]))
    expert = load_expert(bundle.root, "cpu")
    assert expert.run(study).findings == expert.run(study).findings


def test_an_argument_selects_its_findings_and_an_unknown_one_is_refused(bundle: Bundle) -> None:
    values, labels = scene()
    found = tuple(findings_of(bundle, labels, volume_of(values)))
    assert {f.concept for f in select_findings(bundle, found, "Balls")} == {code("lung_nodule")}
    assert select_findings(bundle, found, "everything") == found
    with pytest.raises(MedVLMError, match="there are: balls, organs"):
        select_findings(bundle, found, "bones")


def test_a_gpu_that_is_not_there_is_one_sentence() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(MedVLMError, match="no such GPU"):
        choose_device("cuda")
    with pytest.raises(MedVLMError, match="not a device"):
        choose_device("abacus")
    assert choose_device("auto").type == "cpu"


def test_experts_of_the_users_own_folder_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(tmp_path / "experts" / "tiny")
    monkeypatch.setenv("MEDVLM_PATH", str(tmp_path))
    assert "tiny" in [card.name for card in list_experts()]
    assert find_expert("TINY").name == "tiny"
    assert load_expert("tiny", "cpu") is load_expert("tiny", "cpu")
    with pytest.raises(MedVLMError, match="chest_ct"):
        find_expert("no_such_expert")


def test_no_calibrated_probability_from_interpolated_slices(tmp_path: Path) -> None:
    root = write_bundle(tmp_path / "tiny")
    bundle = read_bundle(root)
    rules = {rule.id: {"slope": 1.0, "offset": 0.0} for rule in bundle.spec.rules}
    expert = Expert(replace(bundle, calibration={"rules": rules}), torch.device("cpu"))
    volume = volume_of(scene()[0])
    assert any(finding.calibrated for finding in expert.run(study_of(volume)).findings)
    gaps = replace(volume, interpolated=0.05)
    assert not any(finding.calibrated for finding in expert.run(study_of(gaps)).findings)
