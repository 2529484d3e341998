"""What is drawn is what the truth says."""

from __future__ import annotations

import numpy as np
import pytest

from medvlm.errors import MedVLMError
from medvlm.phantom import PhantomCase, generate_case
from medvlm.phantom.patient import EFFUSION, HEART, NODULE


@pytest.fixture(scope="module")
def cases() -> list[PhantomCase]:
    """Twelve cases of one seed: supine, prone and oblique ones are among them."""
    return [generate_case(3, index) for index in range(12)]


def patient_points(case: PhantomCase, label: int) -> np.ndarray:
    """`[N, 3]` RAS+ mm of the voxels with a label."""
    return case.volume.to_patient(np.argwhere(case.labels == label))


def test_same_seed_and_number_give_the_same_voxels() -> None:
    first, second = generate_case(5, 2), generate_case(5, 2)
    assert np.array_equal(first.volume.array, second.volume.array)
    assert np.array_equal(first.labels, second.labels)
    assert first.findings == second.findings
    assert not np.array_equal(first.volume.affine, generate_case(6, 2).volume.affine)


@pytest.mark.slow
def test_the_patient_stays_the_same_on_a_full_scanner() -> None:
    small, full = generate_case(5, 1), generate_case(5, 1, "full")
    assert small.patient == full.patient
    assert full.volume.array.shape[:2] == (512, 512)
    assert 1.0 <= full.volume.spacing[2] <= 2.5
    assert [e.side for e in full.effusions] == [e.side for e in small.effusions]
    for a, b in zip(small.effusions, full.effusions):
        assert a.volume == pytest.approx(b.volume, rel=0.02)


def test_densities_are_those_of_the_tissues(cases: list[PhantomCase]) -> None:
    for case in cases:
        lungs = case.volume.array[np.isin(case.labels, (1, 2, 3, 4, 5))]
        heart = case.volume.array[case.labels == HEART]
        assert -920 < np.median(lungs) < -700
        assert 20 < np.median(heart) < 260
        assert case.volume.array.min() >= -1024
        assert case.volume.unit == "HU"


def test_right_lobes_lie_on_the_right_and_upper_lobes_above(cases: list[PhantomCase]) -> None:
    for case in cases:
        centre = {lobe: patient_points(case, lobe).mean(axis=0) for lobe in range(1, 6)}
        assert min(centre[1][0], centre[2][0], centre[3][0]) > max(centre[4][0], centre[5][0])
        assert centre[1][2] > centre[2][2]
        assert centre[1][2] > centre[3][2]
        assert centre[4][2] > centre[5][2]
        # The middle lobe is in front of the lower one.
        assert centre[2][1] > centre[3][1]


def test_the_heart_points_to_the_left(cases: list[PhantomCase]) -> None:
    for case in cases:
        spine_x = case.acquisition.pose[0, 3]
        assert patient_points(case, HEART)[:, 0].mean() < spine_x


def test_heart_width_over_chest_width_can_be_measured_in_the_mask(cases: list[PhantomCase]) -> None:
    for case in cases:
        heart = np.ptp(patient_points(case, HEART)[:, 0])
        chest = np.ptp(case.volume.to_patient(np.argwhere(np.isin(case.labels, (1, 2, 3, 4, 5, EFFUSION))))[:, 0])
        # A pixel is up to 2.7 mm, which is 0.02 of the heart's width.
        assert heart / chest == pytest.approx(case.cardiothoracic_ratio, abs=0.03)


def test_effusion_volume_is_the_volume_of_its_voxels(cases: list[PhantomCase]) -> None:
    assert any(case.effusions for case in cases)
    for case in cases:
        points = patient_points(case, EFFUSION)
        litres = len(points) * case.volume.voxel_volume / 1e6
        assert litres * 1000 == pytest.approx(sum(e.volume for e in case.effusions), rel=1e-3)


def test_effusion_lies_on_its_side_and_on_the_dependent_wall(cases: list[PhantomCase]) -> None:
    for case in cases:
        middle = case.acquisition.pose[:3, 3]
        lungs = case.volume.to_patient(np.argwhere(np.isin(case.labels, (1, 2, 3, 4, 5))))
        for effusion in case.effusions:
            points = patient_points(case, EFFUSION) - middle
            sign = 1 if effusion.side == "right" else -1
            assert (points[:, 0] * sign > 0).any()
        if case.effusions:
            behind = patient_points(case, EFFUSION)[:, 1].mean() < lungs[:, 1].mean()
            assert behind != case.patient.prone


def test_nodules_are_where_the_truth_says_and_of_that_volume(cases: list[PhantomCase]) -> None:
    checked = 0
    for case in cases:
        inverse = np.linalg.inv(case.volume.affine)
        for nodule in case.nodules:
            index = inverse[:3, :3] @ np.array(nodule.centre) + inverse[:3, 3]
            around = tuple(slice(max(0, round(v) - 2), round(v) + 3) for v in index)
            assert (case.labels[around] == NODULE).any()
            assert round(float(index[2])) == nodule.slice
        total = sum(nodule.volume for nodule in case.nodules)
        if total > 2:
            voxels = (case.labels == NODULE).sum() * case.volume.voxel_volume / 1000
            assert voxels == pytest.approx(total, rel=0.15)
            checked += 1
    assert checked >= 2


def test_nodules_have_their_side_and_lobe_in_the_findings(cases: list[PhantomCase]) -> None:
    for case in cases:
        found = [f for f in case.findings if f.concept.meaning == "Pulmonary nodule" and f.presence == "present"]
        assert len(found) == len(case.nodules)
        for finding, nodule in zip(found, case.nodules):
            assert finding.laterality is not None
            assert finding.laterality.meaning.lower() == nodule.side
            assert finding.measure("Long axis") == pytest.approx(nodule.long_axis, abs=0.01)
            assert finding.grade in ("solid", "part-solid")


def test_absence_is_said_in_a_finding_of_its_own(cases: list[PhantomCase]) -> None:
    for case in cases:
        absent = {f.concept.meaning for f in case.findings if f.presence == "absent"}
        assert ("Pulmonary nodule" in absent) == (not case.nodules)
        assert ("Pleural effusion" in absent) == (not case.effusions)
        assert ("Cardiomegaly" in absent) == (case.cardiothoracic_ratio <= 0.5)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(MedVLMError, match="small, full"):
        generate_case(0, 0, "huge")
