"""The NIfTI suite: every fault that a NIfTI file can carry is read right, noted or refused by name."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medvlm.errors import MedVLMError
from medvlm.imaging import load_study

SHAPE = (12, 10, 8)
AFFINE = np.array([[-2.0, 0, 0, 11], [0, 2, 0, -7], [0, 0, 3, 5], [0, 0, 0, 1]])


def voxels(dtype=np.int16) -> np.ndarray:
    return np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)


def save(path: Path, array: np.ndarray | None = None, affine=AFFINE, kind=nib.Nifti1Image, **header) -> Path:
    image = kind(voxels() if array is None else array, affine)
    image.header.set_xyzt_units("mm")
    for name, value in header.items():
        image.header[name] = value
    image.to_filename(path)
    return path


def load(path: Path, **settings):
    (series,) = load_study(path, **settings).series
    return series


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.img"])
def test_a_plain_file_keeps_values_affine_and_type(tmp_path: Path, name):
    kind = nib.Nifti1Pair if name.endswith(".img") else nib.Nifti1Image
    series = load(save(tmp_path / name, kind=kind))
    assert np.array_equal(series.volume.array, voxels())
    assert series.volume.array.dtype == np.int16
    assert np.allclose(series.volume.affine, AFFINE)
    assert series.volume.calibrated
    assert series.volume.oriented


def test_nifti_2_is_read(tmp_path: Path):
    assert np.array_equal(load(save(tmp_path / "a.nii.gz", kind=nib.Nifti2Image)).volume.array, voxels())


def test_an_uncompressed_file_stays_on_disk(tmp_path: Path):
    volume = load(save(tmp_path / "a.nii")).volume
    assert isinstance(volume.array, np.memmap)


def test_a_disagreement_of_sform_and_qform_is_noted(tmp_path: Path):
    image = nib.Nifti1Image(voxels(), AFFINE)
    image.set_sform(AFFINE, 1)
    other = AFFINE.copy()
    other[0] *= -1
    image.set_qform(other, 1)
    image.to_filename(tmp_path / "a.nii.gz")
    series = load(tmp_path / "a.nii.gz")
    assert np.allclose(series.volume.affine, AFFINE)
    assert any("sform and qform disagree; the sform is used" in note for note in series.notes)


def test_only_a_qform_is_used(tmp_path: Path):
    image = nib.Nifti1Image(voxels(), AFFINE)
    image.set_sform(None, 0)
    image.set_qform(AFFINE, 1)
    image.to_filename(tmp_path / "a.nii.gz")
    assert np.allclose(load(tmp_path / "a.nii.gz").volume.affine, AFFINE)


def test_without_orientation_no_side_can_be_stated_but_sizes_can(tmp_path: Path):
    image = nib.Nifti1Image(voxels(), None)
    image.header["pixdim"][1:4] = 2, 2, 3
    image.to_filename(tmp_path / "a.nii.gz")
    series = load(tmp_path / "a.nii.gz")
    assert not series.volume.oriented
    assert series.volume.calibrated
    assert np.allclose(series.volume.spacing, [2, 2, 3])
    assert any("no side can be stated" in note for note in series.notes)


def test_a_geometry_that_nobody_filled_in_gives_no_millimetres(tmp_path: Path):
    nib.Nifti1Image(voxels(), None).to_filename(tmp_path / "a.nii.gz")
    series = load(tmp_path / "a.nii.gz")
    assert not series.volume.calibrated
    assert not series.volume.oriented
    assert any("no size can be stated" in note for note in series.notes)


def test_a_sheared_sform_is_kept_and_noted(tmp_path: Path):
    sheared = AFFINE.copy()
    sheared[1, 2] = 0.8
    series = load(save(tmp_path / "a.nii.gz", affine=sheared))
    assert np.allclose(series.volume.affine, sheared)
    assert series.volume.voxel_volume == pytest.approx(12.0)
    assert any("not perpendicular" in note for note in series.notes)


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000.0), ("micron", 0.001), ("mm", 1.0)])
def test_units_of_length_become_millimetres(tmp_path: Path, unit, factor):
    image = nib.Nifti1Image(voxels(), AFFINE)
    image.header.set_xyzt_units(unit)
    image.to_filename(tmp_path / "a.nii.gz")
    assert np.allclose(load(tmp_path / "a.nii.gz").volume.affine[:3], AFFINE[:3] * factor)


def test_an_unknown_unit_is_taken_as_millimetres_with_a_note(tmp_path: Path):
    series = load(save(tmp_path / "a.nii.gz", xyzt_units=0))
    assert any("millimetres assumed" in note for note in series.notes)


def test_non_finite_voxels_are_counted_and_replaced(tmp_path: Path):
    array = voxels(np.float32)
    array[0, 0, 0], array[1, 1, 1] = np.nan, np.inf
    series = load(save(tmp_path / "a.nii.gz", array))
    assert np.isfinite(series.volume.array).all()
    assert series.volume.array[0, 0, 0] == 1.0  # the lowest of the others
    assert any(note.startswith("2 voxels are not finite") for note in series.notes)


@pytest.mark.parametrize("shape", [(*SHAPE, 3), (*SHAPE, 1, 3)], ids=["4-D", "5-D"])
def test_one_volume_of_many_is_chosen_and_named(tmp_path: Path, shape):
    array = np.zeros(shape, np.int16)
    array[..., 0] = voxels().reshape((*SHAPE, *([1] * (len(shape) - 4))))
    series = load(save(tmp_path / "a.nii.gz", array))
    assert np.array_equal(series.volume.array, voxels())
    assert any("Volume 0 of 3 is used (the first)" in note for note in series.notes)


def test_the_first_b0_is_chosen_where_a_bval_file_says_which(tmp_path: Path):
    array = np.zeros((*SHAPE, 3), np.int16)
    array[..., 1] = voxels()
    (tmp_path / "a.bval").write_text("1000 0 0\n")
    series = load(save(tmp_path / "a.nii.gz", array))
    assert np.array_equal(series.volume.array, voxels())


def test_a_single_fourth_dimension_disappears(tmp_path: Path):
    assert load(save(tmp_path / "a.nii.gz", voxels()[..., None])).volume.array.shape == SHAPE


def test_a_two_dimensional_file_is_one_slice(tmp_path: Path):
    assert load(save(tmp_path / "a.nii.gz", voxels()[:, :, 0])).volume.array.shape == (12, 10, 1)


def test_slope_and_intercept_are_applied(tmp_path: Path):
    path = save(tmp_path / "a.nii")
    data = bytearray(path.read_bytes())
    data[112:120] = np.array([0.5, -10.0], "<f4").tobytes()  # scl_slope, scl_inter
    path.write_bytes(data)
    assert np.allclose(load(path).volume.array, voxels() * 0.5 - 10)


@pytest.mark.parametrize("slope", [0.0, np.nan], ids=["zero", "nan"])
def test_a_slope_of_zero_or_nan_means_none(tmp_path: Path, slope):
    path = save(tmp_path / "a.nii")
    data = bytearray(path.read_bytes())
    data[112:120] = np.array([slope, 7.0], "<f4").tobytes()
    path.write_bytes(data)
    assert np.array_equal(load(path).volume.array, voxels())


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint32, np.float64, np.dtype(">i2")], ids=str)
def test_every_number_type_is_read_into_at_most_32_native_bits(tmp_path: Path, dtype):
    image = nib.Nifti1Image(voxels(np.uint8).astype(dtype), AFFINE, dtype=np.dtype(dtype).newbyteorder("="))
    if np.dtype(dtype).byteorder == ">":
        image = nib.Nifti1Image(voxels(np.uint8).astype(dtype), AFFINE, image.header.as_byteswapped(">"))
    image.to_filename(tmp_path / "a.nii.gz")
    array = load(tmp_path / "a.nii.gz").volume.array
    assert np.array_equal(array, voxels(np.uint8))
    assert array.dtype.itemsize <= 4
    assert array.dtype.isnative


def test_rgb_voxels_become_colour(tmp_path: Path):
    colour = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    colour["G"] = voxels(np.uint8)
    volume = load(save(tmp_path / "a.nii.gz", colour)).volume
    assert volume.array.shape == (*SHAPE, 3)
    assert np.array_equal(volume.array[..., 1], voxels(np.uint8))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_truncated_file_is_refused(tmp_path: Path, name):
    path = save(tmp_path / name, np.random.default_rng(0).integers(0, 999, SHAPE).astype(np.int16))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MedVLMError, match="truncated"):
        load_study(path)


@pytest.mark.parametrize("place", [0.3, 0.5, 0.8, 0.95])
def test_a_flipped_byte_in_a_compressed_file_is_refused(tmp_path: Path, place):
    path = save(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 999, SHAPE).astype(np.int16))
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 0x40
    path.write_bytes(data)
    with pytest.raises(MedVLMError, match=r"corrupt|truncated"):
        load_study(path)


def test_a_raw_file_named_gz_and_a_gz_file_named_nii_are_read_by_content(tmp_path: Path):
    raw = save(tmp_path / "a.nii")
    (tmp_path / "raw.nii.gz").write_bytes(raw.read_bytes())
    (tmp_path / "packed.nii").write_bytes(gzip.compress(raw.read_bytes()))
    for name in ("raw.nii.gz", "packed.nii"):
        assert np.array_equal(load(tmp_path / name).volume.array, voxels())


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08", b"not an image " * 60], ids=["empty", "stub", "text"])
def test_what_is_not_a_nifti_is_refused(tmp_path: Path, content):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(content)
    with pytest.raises(MedVLMError, match=r"empty|not a NIfTI"):
        load_study(path)


def test_a_file_without_signal_is_refused(tmp_path: Path):
    with pytest.raises(MedVLMError, match="no signal: every voxel is 0"):
        load_study(save(tmp_path / "a.nii.gz", np.zeros(SHAPE, np.int16)))


def test_a_singular_affine_is_refused(tmp_path: Path):
    path = save(tmp_path / "a.nii")
    data = bytearray(path.read_bytes())
    data[280:296] = bytes(16)  # srow_x
    path.write_bytes(data)
    with pytest.raises(MedVLMError, match="affine is singular"):
        load_study(path)


def test_absurd_sizes_are_refused_before_memory_is_taken(tmp_path: Path):
    for name in ("a.nii", "a.nii.gz"):
        path = save(tmp_path / name)
        raw = path.read_bytes()
        data = bytearray(gzip.decompress(raw) if name.endswith("gz") else raw)
        data[42:48] = np.array([32000] * 3, "<i2").tobytes()  # dim[1..3]
        path.write_bytes(gzip.compress(bytes(data)) if name.endswith("gz") else bytes(data))
        with pytest.raises(MedVLMError, match="truncated"):
            load_study(path)


def test_an_image_without_its_header_is_refused(tmp_path: Path):
    save(tmp_path / "a.img", kind=nib.Nifti1Pair)
    (tmp_path / "a.hdr").unlink()
    with pytest.raises(MedVLMError, match=r"needs both a\.hdr and a\.img"):
        load_study(tmp_path / "a.img")


def test_modality_comes_from_the_option_the_sidecar_the_name_or_the_values_and_says_so(tmp_path: Path):
    plain = save(tmp_path / "a.nii.gz")
    assert load(plain).modality == ""
    assert any("Unknown modality" in note for note in load(plain).notes)
    assert load(plain, modality="MR").modality == "MR"
    named = save(tmp_path / "sub-01_T1w.nii.gz")
    assert load(named).modality == "MR"
    (tmp_path / "sub-01_T1w.json").write_text(json.dumps({"Modality": "PT"}))
    assert load(named).modality == "PT"
    body = np.full(SHAPE, -1000, np.int16)
    body[3:9, 3:7, 2:6] = 40
    body[5:6, 5:6, 3:5] = 700
    series = load(save(tmp_path / "b.nii.gz", body))
    assert (series.modality, series.volume.unit) == ("CT", "HU")
    assert any("Modality CT from the intensities" in note for note in series.notes)
