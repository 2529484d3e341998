"""Real files: those that the packages pydicom and pydicom-data carry. Expected values come from other readers."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medvlm.errors import MedVLMError
from medvlm.imaging import load_study

data_store = pytest.importorskip("data_store", reason="pydicom-data is not installed")
ROOTS = (Path(pydicom.__file__).parent / "data" / "test_files", Path(data_store.__file__).parent)
REFUSED = {
    "JPEG2000-embedded-sequence-delimiter.dcm": "cannot be decoded",  # 250 of its bytes are there
    "MR_truncated.dcm": "truncated: 8130 of 8192 bytes",
    "meta_missing_tsyntax.dcm": "holds no image",  # two bytes of pixels, no size
    "nested_priv_SQ.dcm": "holds no image",
}


def find(name: str) -> Path:
    return next(path for root in ROOTS for path in root.rglob(name))


def files_with_pixels() -> list[Path]:
    found = []
    for root in ROOTS:
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.suffix in (".dcm", "") and "dicomdirtests" not in path.parts:
                with warnings.catch_warnings(action="ignore"):
                    try:
                        dataset = pydicom.dcmread(path, force=True)
                    except Exception:
                        continue
                    if "PixelData" in dataset:
                        found.append(path)
    return found


def test_at_least_126_of_131_files_are_read_and_the_rest_refused_by_name():
    refused = {}
    files = files_with_pixels()
    for path in files:
        try:
            for series in load_study(path).series:
                assert series.volume.array.size > 0
        except MedVLMError as error:
            refused[path.name] = str(error)
    assert len(files) >= 131
    assert len(files) - len(refused) >= 126
    assert refused.keys() == REFUSED.keys()
    for name, words in REFUSED.items():
        assert words in refused[name]
        assert name in refused[name]


# Lowest and highest value as GDCM (through SimpleITK 2.5) or highdicom 0.28 give them, see each comment.
VALUES = {
    "RG1_UNCR.dcm": (6288, 31893),  # MONOCHROME1 inverted within 15 bits: 32767 - 26479, 32767 - 874
    "RG1_J2KR.dcm": (6288, 31893),
    "mlut_18.dcm": (0, 65535),  # modality LUT applied (highdicom)
    "eCT_Supplemental.dcm": (-1024, 172),  # enhanced CT in HU
    "693_J2KR.dcm": (-1024, 1468),  # padding of -2000 is air, not -3024 HU
    "liver.dcm": (0, 1),  # a mask, not 0 and 255
    "emri_small_jpeg_2k_lossless.dcm": (0, 467),
    "JPEG2000.dcm": (-30, 245),
    "MR2_UNCR.dcm": (6.1e-05, 2245.5977),  # fractional slope
    "CT_small.dcm": (-896, 1167),
}


@pytest.mark.parametrize(("name", "ends"), VALUES.items(), ids=VALUES)
def test_values_are_those_that_the_standard_asks_for(name, ends):
    volume = load_study(find(name)).series[0].volume
    assert (volume.array.min(), volume.array.max()) == (pytest.approx(ends[0]), pytest.approx(ends[1]))


SAME = {
    "OBXXXX1A.dcm": ["OBXXXX1A_rle.dcm", "OBXXXX1A_expb.dcm"],
    "gdcm-US-ALOKA-16.dcm": ["gdcm-US-ALOKA-16_big.dcm"],
    "RG3_UNCR.dcm": ["RG3_J2KR.dcm"],
    "MR_small.dcm": [
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
    ],
    "emri_small.dcm": ["emri_small_RLE.dcm", "emri_small_big_endian.dcm", "emri_small_jpeg_ls_lossless.dcm"],
    "SC_rgb.dcm": ["SC_rgb_rle.dcm", "SC_rgb_expb.dcm", "SC_rgb_16bit.dcm", "SC_rgb_32bit.dcm"],
    "color-pl.dcm": ["color-px.dcm"],
    "693_UNCR.dcm": ["693_J2KR.dcm"],
}


@pytest.mark.parametrize(("first", "others"), SAME.items(), ids=SAME)
def test_the_same_picture_in_another_encoding_has_the_same_values(first, others):
    expected = load_study(find(first)).series[0].volume.array
    for other in others:
        assert np.array_equal(load_study(find(other)).series[0].volume.array, expected), other


def test_an_ultrasound_cine_is_rgb_with_time_along_k():
    volume = load_study(find("examples_ybr_color.dcm")).series[0].volume
    assert volume.array.shape == (320, 240, 30, 3)
    assert not volume.calibrated
    expected = pydicom.dcmread(find("examples_ybr_color.dcm")).pixel_array  # [frames, rows, columns, 3] RGB
    assert np.array_equal(volume.array.transpose(2, 1, 0, 3), expected)


def test_a_radiograph_with_a_pixel_spacing_of_zero_has_no_millimetres_but_sides():
    (series,) = load_study(find("RG1_UNCR.dcm")).series
    assert not series.volume.calibrated
    assert series.volume.oriented
    assert series.notes == ("No pixel spacing.",)


def test_a_localizer_that_is_all_there_is_can_be_looked_at():
    (series,) = load_study(find("6293")).series
    assert series.modality == "CT"


def test_a_dicom_file_with_a_tiff_preamble_is_dicom():
    assert find("CT_small.dcm").read_bytes()[:4] == b"II*\0"
    assert load_study(find("CT_small.dcm")).series[0].modality == "CT"
