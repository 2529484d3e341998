"""Mutated DICOM and NIfTI files: whatever the bytes say, the readers give a study or one sentence, soon and in bounds.

The default run mutates a few hundred files; `pytest -m slow tests/imaging/test_fuzz.py` mutates 20,000.
"""

from __future__ import annotations

import gzip
import resource
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from medvlm.errors import MedVLMError
from medvlm.imaging import load_study, overview
from tests.imaging.make_dicom import MR, positions, write_enhanced, write_slice

SECONDS = 5.0
GIBIBYTES = 2.0
FILES = Path(pydicom.__file__).parent / "data" / "test_files"
REAL = (
    "MR_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_rle_2frame.dcm",
    "SC_rgb_small_odd.dcm",
    "rtdose_1frame.dcm",
    "image_dfl.dcm",
)


def seeds(folder: Path) -> list[tuple[str, bytes]]:
    """Small valid files of every kind: `(suffix, content)`."""
    write_slice(folder / "ct.dcm", "s", 1, (0, 0, 0))
    write_slice(folder / "mr.dcm", "s", 1, (0, 0, 0), sop_class=MR, PixelPaddingValue=-2000)
    write_enhanced(folder / "enhanced.dcm", positions(4))
    found = [(".dcm", path.read_bytes()) for path in sorted(folder.glob("*.dcm"))]
    found += [(".dcm", (FILES / name).read_bytes()) for name in REAL]
    array = np.random.default_rng(0).integers(0, 900, (9, 8, 7)).astype(np.int16)
    for kind, name in ((nib.Nifti1Image, "a.nii"), (nib.Nifti2Image, "b.nii"), (nib.Nifti1Image, "c.nii.gz")):
        kind(array, np.diag([1.0, 2.0, 3.0, 1.0])).to_filename(folder / name)
        found.append((name[1:], (folder / name).read_bytes()))
    return found


def flip_bits(data: bytearray, random: np.random.Generator) -> None:
    for place in random.integers(0, len(data), random.integers(1, 12)):
        data[place] ^= 1 << random.integers(8)


def flip_header_bits(data: bytearray, random: np.random.Generator) -> None:
    for place in random.integers(0, min(len(data), 1200), random.integers(1, 6)):
        data[place] = random.integers(256)


def truncate(data: bytearray, random: np.random.Generator) -> None:
    del data[random.integers(1, len(data)) :]


def repeat_a_piece(data: bytearray, random: np.random.Generator) -> None:
    start = random.integers(0, len(data))
    piece = data[start : start + random.integers(1, 200)]
    place = random.integers(0, len(data))
    data[place:place] = piece * random.integers(1, 5)


def swap_pieces(data: bytearray, random: np.random.Generator) -> None:
    length = int(random.integers(2, 40))
    a, b = sorted(int(place) for place in random.integers(0, max(len(data) - length, 1), 2))
    if a + length <= b:
        data[a : a + length], data[b : b + length] = data[b : b + length], data[a : a + length]


def write_an_absurd_size(data: bytearray, random: np.random.Generator) -> None:
    """Put a huge, zero or negative number where a length or a dimension may be."""
    place = int(random.integers(0, min(len(data), 2000)))
    value = random.choice(np.array([0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000], np.uint32))
    size = int(random.choice([2, 4]))
    data[place : place + size] = int(value).to_bytes(4, "little")[:size]


MUTATIONS: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (
    flip_bits,
    flip_header_bits,
    truncate,
    repeat_a_piece,
    swap_pieces,
    write_an_absurd_size,
)


def mutated(suffix: str, content: bytes, random: np.random.Generator) -> bytes:
    inside = suffix.endswith(".gz") and random.random() < 0.5  # half of the faults lie below the compression
    data = bytearray(gzip.decompress(content) if inside else content)
    for _ in range(random.integers(1, 3)):
        if data:
            MUTATIONS[random.integers(len(MUTATIONS))](data, random)
    return gzip.compress(bytes(data), 1) if inside else bytes(data)


def run(folder: Path, count: int, seed: int) -> dict[str, int]:
    """Read `count` mutated files; the number that were read and refused.

    Anything but a study or a MedVLMError, or too much time or memory, fails the test with the seed to repeat it.
    """
    originals = seeds(folder)
    outcomes = {"read": 0, "refused": 0}
    sentences: list[str] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        random = np.random.default_rng((seed, number))
        suffix, content = originals[number % len(originals)]
        path = folder / f"mutated{suffix}"
        path.write_bytes(mutated(suffix, content, random))
        start = time.process_time()  # the machine may be busy with other tests
        try:
            with warnings.catch_warnings(action="ignore"):
                for series in load_study(path).series:
                    assert overview(series, 64).pixels.shape == (64, 64, 3)
            outcomes["read"] += 1
        except MedVLMError as error:
            sentences.append(str(error))
            outcomes["refused"] += 1
        except BaseException as error:
            pytest.fail(f"file {number} of seed {seed} ({suffix}): {type(error).__name__}: {error}")
        assert time.process_time() - start < SECONDS, number
    assert [sentence for sentence in sentences if "\n" in sentence] == []
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20 < GIBIBYTES
    return outcomes


def test_a_few_hundred_mutated_files(tmp_path: Path):
    outcomes = run(tmp_path, 340, seed=0)
    # Both must happen, or the mutations test nothing.
    assert outcomes["read"] > 50
    assert outcomes["refused"] > 50


@pytest.mark.slow
def test_twenty_thousand_mutated_files(tmp_path: Path):
    run(tmp_path, 20_000, seed=1)
