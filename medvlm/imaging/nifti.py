"""NIfTI files → Study. Every doubt a NIfTI leaves (orientation, units, modality) becomes a note or a refusal."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from medvlm.errors import MedVLMError
from medvlm.imaging.study import Grid, Series, Study, Volume
from medvlm.imaging.text import clean_text

_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".img", ".img.gz")
_MAGIC = (b"n+1\0", b"ni1\0", b"n+2\0", b"ni2\0")
_NAMED_MODALITY = (
    (r"(t1w?|t2w?|flair|pdw?|bold|dwi|adc|swi|mprage|mri?|t1ce|t1gd)", "MR"),
    (r"(ct|cta|ncct|cect|hu)", "CT"),
    (r"(pet|suv)", "PT"),
    (r"(oct)", "OPT"),
)
_MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}
_DEFLATE_LIMIT = 1040  # no deflate stream expands further


@dataclass(frozen=True)
class _File:
    """Where a NIfTI's header and voxels are."""

    header: Nifti1Header
    path: Path
    offset: int


def is_nifti(path: Path) -> bool:
    """Whether a file is NIfTI by content, or says so by name."""
    return path.name.lower().endswith(_SUFFIXES) or _has_magic(_start(path, 540))


def _has_magic(start: bytes) -> bool:
    return start[344:348] in _MAGIC or start[4:8] in _MAGIC


def _start(path: Path, count: int) -> bytes:
    """The first bytes, decompressed where the content (not the name) is gzip."""
    with path.open("rb") as file:
        head = file.read(2)
        file.seek(0)
        if head != b"\x1f\x8b":
            return file.read(count)
        try:
            with gzip.open(file) as stream:
                return stream.read(count)
        except (OSError, EOFError, zlib.error):
            return b""


def load_nifti(path: Path, modality: str | None = None, volume: int | None = None) -> Study:
    """Read a NIfTI file (`.nii`, `.nii.gz`, `.hdr` + `.img`) as a study of one series.

    Voxels are checked at once: uncompressed files through a memory map, compressed ones to the end of the stream, so
    that truncation and flipped bits cannot pass.

    Args:
        path: the file.
        modality: DICOM modality code; otherwise a sidecar, the file name or the intensities decide.
        volume: which volume of a 4-D file; by default the first (the first b=0 where a .bval says so).

    Raises:
        MedVLMError: not NIfTI, truncated, corrupt, without signal, or without usable geometry.
    """
    file = _open(path)
    notes: list[str] = []
    array = _select(_voxels(file), path, volume, notes)
    array = _scaled(array, file.header, notes)
    low, high = float(array.min()), float(array.max())
    if low == high:
        raise MedVLMError(f"{path}: no signal: every voxel is {low:g}.")
    affine, calibrated, oriented = _geometry(file.header, path, notes)
    chosen = modality or _guess_modality(path, array, notes)
    unit = "HU" if chosen == "CT" else "1"
    result = Volume(array, affine, unit, calibrated, oriented)
    uid = (
        "nifti-"
        + hashlib.sha256(file.header.binaryblock + np.ascontiguousarray(array[..., 0]).tobytes()).hexdigest()[:16]
    )
    name = re.sub(r"\.(nii|hdr|img)(\.gz)?$", "", path.name)
    size = " x ".join(str(count) for count in array.shape[:3])
    series = Series(
        uid=uid,
        modality=chosen,
        load=lambda: result,
        description=clean_text(name),
        tags={"size": size},
        files=(path,),
        notes=tuple(notes),
        grid=Grid(array.shape[:3], affine, calibrated, oriented, result.is_rgb),
    )
    return Study(uid, "p" + uid[-12:], (series,), path)


def _open(path: Path) -> _File:
    holder = path
    stem = re.sub(r"\.(hdr|img)(\.gz)?$", "", path.name)
    if stem != path.name:
        pair = {kind: [path.with_name(stem + kind + end) for end in ("", ".gz")] for kind in (".hdr", ".img")}
        headers, images = ([file for file in pair[kind] if file.is_file()] for kind in (".hdr", ".img"))
        if not headers or not images:
            raise MedVLMError(f"{path}: an Analyze/NIfTI pair needs both {stem}.hdr and {stem}.img.")
        holder, path = headers[0], images[0]
    start = _start(holder, 540)
    if not _has_magic(start):
        raise MedVLMError(f"{holder}: not a NIfTI file.")
    kind, size = (Nifti2Header, 540) if start[4:8] in _MAGIC else (Nifti1Header, 348)
    if len(start) < size:
        raise MedVLMError(f"{holder}: truncated: the header is incomplete; copy the file again.")
    try:
        header = kind.from_fileobj(io.BytesIO(start[:size]), check=False)
        shape = header.get_data_shape()
        stored = header.get_data_dtype()
        offset = int(header["vox_offset"]) if holder == path else 0
    except Exception as error:  # nibabel meets absurd values in a broken header in many ways
        raise MedVLMError(f"{holder}: a broken NIfTI header ({clean_text(error, 100)}).") from None
    if stored.kind not in "iufc" and not (stored.names and len(stored.names) >= 3):
        raise MedVLMError(f"{holder}: voxels of type {clean_text(stored, 24)} are not numbers or colours.")
    if not 1 <= len(shape) <= 7 or min(shape) < 1 or offset < 0:
        raise MedVLMError(f"{holder}: a broken NIfTI header (shape {shape}, data at byte {offset}).")
    return _File(header, path, max(offset, size) if holder == path else offset)


def _voxels(file: _File) -> np.ndarray:
    """All stored voxels, Fortran order; a read-only memory map for an uncompressed file."""
    kind, shape = file.header.get_data_dtype(), file.header.get_data_shape()
    expected = int(np.prod(shape, dtype=object)) * kind.itemsize
    size = file.path.stat().st_size
    with file.path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    if not compressed:
        if size - file.offset < expected:
            raise _truncated(file.path, max(size - file.offset, 0), expected)
        return np.memmap(file.path, kind, "r", file.offset, shape, order="F")
    if file.offset + expected > size * _DEFLATE_LIMIT:
        raise _truncated(file.path, size, expected)
    buffer = bytearray(expected)
    view = memoryview(buffer)
    try:
        with gzip.open(file.path) as stream:
            stream.read(file.offset)
            done = 0
            while done < expected and (count := stream.readinto(view[done : done + (1 << 22)])):
                done += count
            while stream.read(1 << 20):  # reading to the end is what makes gzip check its CRC
                pass
    except EOFError:
        raise MedVLMError(f"{file.path}: truncated: the compressed stream ends early; copy the file again.") from None
    except (OSError, zlib.error) as error:
        raise MedVLMError(f"{file.path}: corrupt: {clean_text(error, 80)}; copy the file again.") from None
    if done < expected:
        raise _truncated(file.path, done, expected)
    return np.frombuffer(buffer, kind).reshape(shape, order="F")


def _truncated(path: Path, present: int, expected: int) -> MedVLMError:
    return MedVLMError(f"{path}: truncated: {present} of {expected} bytes of voxels are there; copy the file again.")


def _select(array: np.ndarray, path: Path, volume: int | None, notes: list[str]) -> np.ndarray:
    """One `[I, J, K]` volume (or `[I, J, K, 3]` colour) of the stored array."""
    if array.dtype.names:  # RGB and RGBA are structured
        names = array.dtype.names[:3]
        array = np.stack([array[name] for name in names], axis=-1)
        extra = array.shape[3:-1]
        array = array.reshape(*array.shape[:3], -1, 3) if extra else array
        return array[:, :, :, 0] if extra else _three_dimensional(array, colour=True)
    if np.iscomplexobj(array):
        notes.append("Complex voxels: the magnitude is used.")
        array = np.abs(array)
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim > 3:
        count = int(np.prod(array.shape[3:]))
        chosen, why = (volume, "as asked") if volume is not None else _default_volume(path, count)
        if not 0 <= chosen < count:
            raise MedVLMError(f"{path}: no volume {chosen}; there are {count}, counted from 0.")
        notes.append(f"Volume {chosen} of {count} is used ({why}).")
        array = array.reshape(*array.shape[:3], count, order="F")[..., chosen]
    return _three_dimensional(array, colour=False)


def _three_dimensional(array: np.ndarray, colour: bool) -> np.ndarray:
    while array.ndim < 3 + colour:
        array = np.expand_dims(array, -1 - colour)
    return array


def _default_volume(path: Path, count: int) -> tuple[int, str]:
    table = path.with_name(re.sub(r"\.nii(\.gz)?$", ".bval", path.name))
    if table.is_file() and table != path:
        try:
            values = [float(word) for word in table.read_text().split()]
        except (ValueError, UnicodeDecodeError):
            return 0, f"the first; {table.name} cannot be read"
        if len(values) == count and min(values) <= 50:
            return int(np.argmin(values)), "the first b=0"
    return 0, "the first"


def _scaled(array: np.ndarray, header: Nifti1Header, notes: list[str]) -> np.ndarray:
    """Stored → real values: `scl_slope`, non-finite voxels replaced and counted, at most 32 bits, native order."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if np.isfinite(slope) and slope != 0 and (slope, intercept) != (1.0, 0.0):
        offset = intercept if np.isfinite(intercept) else 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            array = array.astype(np.float32) * np.float32(slope) + np.float32(offset)
    elif array.dtype.kind == "f" and array.dtype.itemsize != 4:
        with np.errstate(over="ignore", invalid="ignore"):
            array = array.astype(np.float32)
    elif array.dtype.itemsize > 4:
        whole = array.min() >= -(1 << 31) and array.max() < 1 << 31
        array = array.astype(np.int32 if whole else np.float32)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        lost = int(array.size - np.count_nonzero(finite))
        if lost == array.size:
            return np.zeros(array.shape, np.float32)
        if lost:
            floor = array[finite].min()
            notes.append(f"{lost} voxels are not finite; replaced by the lowest value ({floor:g}).")
            array = np.where(finite, array, floor)
    return array


def _geometry(header: Nifti1Header, path: Path, notes: list[str]) -> tuple[np.ndarray, bool, bool]:
    """Affine in RAS+ mm, whether millimetres are known, whether sides are known."""
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    calibrated = oriented = True
    units = int(header["xyzt_units"]) & 7
    if sform > 0:
        affine = header.get_sform()
        if qform > 0 and not np.allclose(affine, _qform(header, path), atol=1e-3):
            notes.append("sform and qform disagree; the sform is used.")
    elif qform > 0:
        affine = _qform(header, path)
    else:
        zooms = np.abs(np.asarray(header.get_zooms()[:3] + (1.0,) * 3, dtype=float)[:3])
        affine = np.diag([*zooms, 1.0])
        oriented = False
        notes.append("The file has no orientation (both codes are 0): no side can be stated.")
        if units not in _MILLIMETRES and np.all(zooms == 1):  # what a header says that nobody filled in
            calibrated = False
            notes.append("Neither unit nor spacing were filled in: no size can be stated.")
    if calibrated and units not in _MILLIMETRES:
        notes.append("The unit of length is not given; millimetres assumed.")
    affine = np.array(affine, dtype=np.float64)
    affine[:3] *= _MILLIMETRES.get(units, 1.0)
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or edges.min() < 1e-6 or abs(np.linalg.det(affine[:3, :3] / edges)) < 0.05:
        raise MedVLMError(f"{path}: the affine is singular, so its voxels have no place; repair the sform or qform.")
    cosines = affine[:3, :3] / edges
    if np.abs(cosines.T @ cosines - np.eye(3)).max() > 1e-2:
        notes.append("The axes are not perpendicular; the sheared grid is kept as it is.")
    return affine, calibrated, oriented


def _qform(header: Nifti1Header, path: Path) -> np.ndarray:
    try:
        return np.asarray(header.get_qform())
    except Exception as error:  # an impossible quaternion
        raise MedVLMError(f"{path}: the qform cannot be read ({clean_text(error, 80)}).") from None


def _guess_modality(path: Path, array: np.ndarray, notes: list[str]) -> str:
    """DICOM modality from the sidecar, the name or the intensities, saying which; `""` where nothing tells."""
    stem = re.sub(r"\.(nii|hdr|img)(\.gz)?$", "", path.name)
    sidecar = path.with_name(stem + ".json")
    if sidecar.is_file():
        named = _sidecar_modality(sidecar)
        if named:
            notes.append(f"Modality {named} from {sidecar.name}.")
            return named
    words = re.split(r"[^a-z0-9]+", stem.lower())
    for pattern, modality in _NAMED_MODALITY:
        if any(re.fullmatch(pattern, word) for word in words):
            notes.append(f"Modality {modality} from the file name.")
            return modality
    steps = tuple(slice(None, None, max(1, size // 64)) for size in array.shape[:3])
    sample = array[steps] if array.ndim == 3 else array[:0]
    if sample.size and sample.min() <= -900 and sample.max() > 100:
        air = float(np.mean((sample >= -1100) & (sample <= -850)))
        if air > 0.01:
            notes.append(f"Modality CT from the intensities ({100 * air:.0f} % are air at about -1000).")
            return "CT"
    notes.append("Unknown modality: neither a sidecar, the name nor the intensities tell; give it by option.")
    return ""


def _sidecar_modality(path: Path) -> str:
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, OSError):
        return ""
    return clean_text(data.get("Modality", ""), 16).upper() if isinstance(data, dict) else ""
