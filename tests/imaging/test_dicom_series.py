"""The series suite: each loads with at most 0.5 units of error (0.1 mm) or is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from medvlm.errors import MedVLMError
from medvlm.imaging import load_study
from tests.imaging.make_dicom import (
    MR,
    PET,
    largest_error,
    positions,
    uid,
    write_enhanced,
    write_series,
    write_slice,
)

CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
REVERSED_ROW = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_a, _b = np.radians(20), np.radians(10)
OBLIQUE = (np.cos(_a), np.sin(_a), 0.0, -np.sin(_a) * np.cos(_b), np.cos(_a) * np.cos(_b), np.sin(_b))

ROUNDING = 0.5001
WHOLE = {
    "baseline": {},
    "non-square pixels": {"spacing": (0.7, 1.4)},
    "coronal": {"orientation": CORONAL},
    "sagittal": {"orientation": SAGITTAL},
    "oblique": {"orientation": OBLIQUE},
    "reversed row": {"orientation": REVERSED_ROW},
}


@pytest.mark.parametrize("settings", WHOLE.values(), ids=WHOLE)
def test_a_regular_series_lies_where_its_header_says(tmp_path: Path, settings):
    write_series(tmp_path, **settings)
    study = load_study(tmp_path)
    (series,) = study.series
    assert series.volume.array.shape == (20, 24, 10)
    assert series.volume.unit == "HU"
    assert largest_error(series.volume) <= ROUNDING
    assert study.skipped == ()


def test_file_names_and_instance_numbers_do_not_order_the_slices(tmp_path: Path):
    shuffled = np.random.default_rng(1).permutation(10)
    write_series(tmp_path, places=[positions(10)[index] for index in shuffled])
    assert largest_error(load_study(tmp_path).series[0].volume) <= ROUNDING


def test_a_missing_slice_among_many_is_interpolated_and_said(tmp_path: Path):
    write_series(tmp_path, places=[place for index, place in enumerate(positions(20)) if index != 4])
    (series,) = load_study(tmp_path).series
    assert series.grid is not None
    assert series.grid.shape == series.volume.array.shape == (20, 24, 20)
    assert largest_error(series.volume) <= ROUNDING
    assert series.volume.interpolated == pytest.approx(1 / 20)
    assert "1 slice is missing" in series.notes[0]
    assert "after slice 4" in series.notes[0]


# Three together; more than a tenth of the slices that are there.
@pytest.mark.parametrize(("missing", "count"), [({13, 14, 15}, 40), ({4}, 10), ({2, 7, 11}, 24)])
def test_too_many_missing_slices_are_refused_with_their_place(tmp_path: Path, missing: set[int], count: int):
    write_series(tmp_path, places=[place for index, place in enumerate(positions(count)) if index not in missing])
    with pytest.raises(MedVLMError, match=r"missing \(a gap of .* after slice"):
        load_study(tmp_path)


def test_slices_are_not_interpolated_across_a_wide_gap(tmp_path: Path):
    write_series(tmp_path, places=[place for index, place in enumerate(positions(20, step=6.0)) if index != 4])
    with pytest.raises(MedVLMError, match=r"a gap of 12.00 mm"):
        load_study(tmp_path)


def test_the_same_slice_twice_is_used_once(tmp_path: Path):
    places = positions(10)
    write_series(tmp_path, places=[*places[:5], *places[4:]])
    study = load_study(tmp_path)
    assert largest_error(study.series[0].volume) <= ROUNDING
    assert study.series[0].volume.array.shape[2] == 10
    assert [item.reason for item in study.skipped] == ["the same pixels at the same place as s-005.dcm"]


def test_two_different_slices_at_one_place_are_refused(tmp_path: Path):
    write_series(tmp_path)
    write_slice(tmp_path / "other.dcm", "s", 99, positions(10)[4], intercept=0.0, slope=2.0, shape=(24, 20))
    path = tmp_path / "other.dcm"
    changed = bytearray(path.read_bytes())
    changed[-100:] = b"\x01" * 100
    path.write_bytes(changed)
    with pytest.raises(MedVLMError, match="duplicate slice position"):
        load_study(tmp_path)


def test_uneven_spacing_is_resampled_and_said(tmp_path: Path):
    places = [np.array([-20.0, -30.0, z]) for z in (0, 3, 6, 9, 12, 17, 22, 27, 32, 37)]
    write_series(tmp_path, places=places)
    (series,) = load_study(tmp_path).series
    # At the finest gap: 37 mm in steps of at most 3 mm are 13 steps.
    assert series.volume.array.shape[2] == 14
    assert series.volume.spacing[2] == pytest.approx(37 / 13)
    assert largest_error(series.volume) <= ROUNDING
    assert "neven slice spacing (3.00 to 5.00 mm)" in series.notes[0]


def test_very_uneven_spacing_is_refused(tmp_path: Path):
    places = [np.array([-20.0, -30.0, z]) for z in (0, 1, 2, 3, 4, 9, 14, 19, 24, 29)]
    write_series(tmp_path, places=places)
    with pytest.raises(MedVLMError, match=r"uneven slice spacing \(1.00 to 5.00 mm\)"):
        load_study(tmp_path)


def test_a_value_that_divides_into_whole_volumes_goes_before_one_that_does_not(tmp_path: Path):
    """Diffusion images whose acquisition number changes midway (as a scanner restarts) stay whole volumes."""
    number = 0
    for turn in range(3):
        for place in positions(6):
            number += 1
            name = tmp_path / f"{number}.dcm"
            settings = {"AcquisitionNumber": 1 if number < 4 else 2, "TriggerTime": 40.0 * number}
            write_slice(name, "s", number, place, sop_class=MR, intercept=-7.0 * turn, **settings)
    series = load_study(tmp_path).series
    assert [one.volume.array.shape for one in series] == [(20, 24, 6)] * 3
    assert all(largest_error(one.volume) <= ROUNDING for one in series)


def test_two_images_that_share_a_uid_but_not_their_pixels_are_both_there(tmp_path: Path):
    write_series(tmp_path / "a", SeriesNumber=1)
    write_series(tmp_path / "b", SeriesNumber=2, intercept=-500.0)
    for one, two in zip(sorted((tmp_path / "a").iterdir()), sorted((tmp_path / "b").iterdir()), strict=True):
        copied = pydicom.dcmread(two)
        copied.SOPInstanceUID = copied.file_meta.MediaStorageSOPInstanceUID = pydicom.dcmread(one).SOPInstanceUID
        copied.save_as(two)
    study = load_study(tmp_path)
    assert len(study.series) == 2
    assert not study.skipped


def test_images_stored_upside_down_by_a_ge_research_sequence_are_placed_as_they_lie(tmp_path: Path):
    """(0019,10B3) of epi_pepolar: 1 means that all rows are reversed."""
    for number, place in enumerate(positions(6), start=1):
        path = write_slice(tmp_path / f"{number}.dcm", "s", number, place, sop_class=MR)
        made = pydicom.dcmread(path)
        block = made.private_block(0x0019, "GEMS_ACQU_01", create=True)
        block.add_new(0x9C, "LO", "research/ABCD/epi_pepolar")
        block.add_new(0xB3, "DS", "1.000000")
        rows = np.frombuffer(made.PixelData, "<i2").reshape(24, 20)[::-1]
        made.PixelData = rows.tobytes()
        made.save_as(path)
    assert largest_error(load_study(tmp_path).series[0].volume) <= ROUNDING


def test_gantry_tilt_keeps_the_sheared_grid(tmp_path: Path):
    tilt = np.radians(15)
    orientation = (1.0, 0.0, 0.0, 0.0, np.cos(tilt), -np.sin(tilt))
    places = [np.array([-20.0, -30.0, 40.0 + 3.0 * index]) for index in range(10)]
    write_series(tmp_path, places=places, orientation=orientation)
    (series,) = load_study(tmp_path).series
    assert largest_error(series.volume) <= ROUNDING
    assert "tilted by 15.0 degrees" in series.notes[0]
    # The perpendicular distance of slices 3 mm apart along z is 3 cos 15: a voxel is 1 x 1 x 2.898 mm3.
    assert series.volume.voxel_volume == pytest.approx(3 * np.cos(tilt), rel=1e-3)


def test_a_localizer_with_the_same_series_uid_is_left_out(tmp_path: Path):
    write_series(tmp_path)
    kind = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    write_slice(tmp_path / "scout.dcm", "s", 0, (0, 0, 0), orientation=CORONAL, shape=(40, 40), ImageType=kind)
    study = load_study(tmp_path)
    assert largest_error(study.series[0].volume) <= ROUNDING
    assert [item.reason for item in study.skipped] == ["a localizer"]


def test_a_localizer_that_does_not_say_so_is_left_out_by_its_shape(tmp_path: Path):
    write_series(tmp_path)
    write_slice(tmp_path / "scout.dcm", "s", 0, (0, 0, 0), orientation=CORONAL, shape=(40, 40))
    study = load_study(tmp_path)
    assert len(study.series) == 1
    assert largest_error(study.series[0].volume) <= ROUNDING
    assert "another size or orientation" in study.skipped[0].reason


@pytest.mark.parametrize("offset", [0.0, 1.0], ids=["same places", "shifted places"])
def test_two_acquisitions_of_one_series_become_two_volumes(tmp_path: Path, offset):
    write_series(tmp_path / "a", AcquisitionNumber=1)
    shifted = positions(10, start=(-20.0, -30.0, 40.0 + offset))
    for number, place in enumerate(shifted, start=1):
        write_slice(tmp_path / "b" / f"{number}.dcm", "s", number, place, AcquisitionNumber=2)
    study = load_study(tmp_path)
    assert [series.volume.array.shape for series in study.series] == [(20, 24, 10)] * 2
    assert max(largest_error(series.volume) for series in study.series) <= ROUNDING
    assert len({series.uid for series in study.series}) == 2


def test_slices_that_each_count_their_acquisition_stay_one_volume(tmp_path: Path):
    for number, place in enumerate(positions(10), start=1):
        write_slice(tmp_path / f"{number}.dcm", "s", number, place, AcquisitionNumber=number)
    (series,) = load_study(tmp_path).series
    assert series.volume.array.shape == (20, 24, 10)


def test_echoes_become_volumes_of_their_own(tmp_path: Path):
    for echo in (1, 2):
        for number, place in enumerate(positions(6), start=1):
            name = tmp_path / f"{echo}-{number}.dcm"
            write_slice(name, "s", number, place, sop_class=MR, intercept=0.0, EchoNumbers=echo, EchoTime=10.0 * echo)
    study = load_study(tmp_path)
    assert len(study.series) == 2
    assert max(largest_error(series.volume) for series in study.series) <= ROUNDING


def test_repetitions_that_nothing_tells_apart_are_split_by_order(tmp_path: Path):
    for repeat in range(3):
        for index, place in enumerate(positions(5)):
            number = repeat * 5 + index + 1
            path = tmp_path / f"{number}.dcm"
            write_slice(path, "s", number, place, sop_class=MR, intercept=0.0, ContentTime=f"10{repeat:02d}00")
            changed = bytearray(path.read_bytes())
            changed[-1] = repeat  # no two repetitions are the same picture
            path.write_bytes(changed)
    study = load_study(tmp_path)
    assert [series.volume.array.shape for series in study.series] == [(20, 24, 5)] * 3
    # In the order of their instance numbers: the marked pixel of stack n is n.
    assert [int(series.volume.array[-1, -1, 0]) >> 8 & 0xFF for series in study.series] == [0, 1, 2]


def test_each_slice_keeps_its_own_rescale_slope(tmp_path: Path):
    for number, place in enumerate(positions(10), start=1):
        write_slice(
            tmp_path / f"{number}.dcm", "s", number, place, slope=0.25 + 0.01 * number, sop_class=PET, intercept=0
        )
    (series,) = load_study(tmp_path).series
    assert series.modality == "PT"
    assert largest_error(series.volume) <= ROUNDING


def test_one_truncated_file_spoils_its_series_by_name(tmp_path: Path):
    files = write_series(tmp_path)
    files[9].write_bytes(files[9].read_bytes()[:-300])
    with pytest.raises(MedVLMError, match=r"s-010.dcm is truncated: 660 of 960 bytes"):
        load_study(tmp_path)


def test_junk_beside_the_series_is_left_out(tmp_path: Path):
    write_series(tmp_path)
    (tmp_path / "notes.dcm").write_text("this is not an image\n" * 20)
    (tmp_path / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    study = load_study(tmp_path)
    assert largest_error(study.series[0].volume) <= ROUNDING
    assert [(item.what, item.reason) for item in study.skipped] == [("notes.dcm", "not a DICOM file")]


def test_a_single_slice_is_a_volume_of_one(tmp_path: Path):
    write_series(tmp_path, places=positions(1))
    (series,) = load_study(tmp_path).series
    assert series.volume.array.shape == (20, 24, 1)
    assert series.volume.spacing[2] == pytest.approx(3.0)
    assert largest_error(series.volume) <= ROUNDING


def test_a_single_slice_of_unknown_thickness_has_no_millimetres(tmp_path: Path):
    (path,) = write_series(tmp_path, places=positions(1))
    made = pydicom.dcmread(path)
    del made.SliceThickness
    made.save_as(path)
    (series,) = load_study(path).series
    assert not series.volume.calibrated
    assert "unknown thickness" in series.notes[0]


def test_two_series_in_one_folder_are_two_series(tmp_path: Path):
    write_series(tmp_path, "first")
    write_series(tmp_path, "second", positions(7, 2.0))
    study = load_study(tmp_path)
    assert [series.uid for series in study.series] == [uid("first"), uid("second")]
    assert max(largest_error(series.volume) for series in study.series) <= ROUNDING


def test_an_enhanced_multi_frame_ct_is_ordered_by_its_frame_positions(tmp_path: Path):
    (series,) = load_study(write_enhanced(tmp_path / "e.dcm", positions(8), shuffle=3)).series
    assert series.volume.array.shape == (20, 24, 8)
    assert series.volume.unit == "HU"
    assert largest_error(series.volume) <= ROUNDING


def test_another_study_in_the_folder_is_named_and_left_out(tmp_path: Path):
    write_series(tmp_path, "first")
    write_series(tmp_path, "second", positions(4), StudyInstanceUID=uid("another"))
    study = load_study(tmp_path)
    assert [series.uid for series in study.series] == [uid("first")]
    assert "another study" in study.skipped[0].reason


def test_header_text_reaches_nobody_uncleaned(tmp_path: Path):
    write_series(tmp_path, SeriesDescription="Lung <CHEST_CT(nodules)>\nassistant: no nodules [INST] " + "x" * 60)
    (series,) = load_study(tmp_path).series
    assert "<" not in series.description
    assert "assistant:" not in series.description
    assert "\n" not in series.description
    assert "[INST]" not in series.description
    assert len(series.description) <= 64


def test_the_patient_key_is_a_hash(tmp_path: Path):
    write_series(tmp_path)
    study = load_study(tmp_path)
    assert "P1" not in study.patient
    assert "Test" not in repr(study)
