"""DICOM files → Study."""

from __future__ import annotations

import filecmp
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.imaging.dicom_header import Header, quiet_pydicom, read_header
from medvlm.imaging.dicom_pixels import read_voxels
from medvlm.imaging.dicom_series import series_of
from medvlm.imaging.study import Series, Skipped, Study

_QUIET = {"DICOMDIR", ".DS_Store", "Thumbs.db", "LICENSE", "README.md", "README.txt"}


def load_dicom(path: Path, files: Iterable[Path] | None = None) -> Study:
    """Read the headers of a DICOM file or folder into a Study; pixels are read when a series is used.

    Args:
        path: what the user named; shown in messages.
        files: the files to read; by default `path`, or everything below it.

    Raises:
        MedVLMError: nothing usable is there (says why, file by file or series by series).
    """
    found = list(files) if files is not None else _files_below(path)
    headers, skipped = _read_headers(found)
    headers, extra = _one_study(headers)
    skipped += extra
    by_uid: dict[str, list[Header]] = {}
    for header in headers:
        by_uid.setdefault(header.series, []).append(header)
    series, left_out = _all_series(by_uid, localizers=False)
    if not series:  # where nothing else is there, the localizer is what the user wants to see
        series, left_out = _all_series(by_uid, localizers=True)
    skipped += left_out
    if not series:
        raise MedVLMError(_nothing(path, skipped))
    first = headers[0]
    return Study(first.study or _digest(str(path)), _patient_key(first), tuple(series), path, tuple(skipped))


def _all_series(by_uid: dict[str, list[Header]], localizers: bool) -> tuple[list[Series], list[Skipped]]:
    series: list[Series] = []
    skipped: list[Skipped] = []
    for uid, group in by_uid.items():
        usable, left_out = series_of(uid or "series", group, localizers)
        series += usable
        skipped += left_out
    return series, skipped


def _files_below(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name not in _QUIET)


def _read_headers(files: Sequence[Path]) -> tuple[list[Header], list[Skipped]]:
    headers: list[Header] = []
    skipped: list[Skipped] = []
    instances: dict[str, Header] = {}
    known: dict[str, Header] = {}
    with quiet_pydicom():
        for file in files:
            try:
                header = read_header(file, known)
            except MedVLMError as error:
                skipped.append(Skipped(file.name, str(error).removeprefix(f"{file}: ").rstrip(".")))
                continue
            first = instances.setdefault(header.instance, header)
            if first is not header and _same_image(first, header):
                skipped.append(Skipped(file.name, f"the same image as {first.path.name}"))
                continue
            headers.append(header)
    return headers, skipped


def _same_image(one: Header, other: Header) -> bool:
    """Whether two files of one SOPInstanceUID are copies; some software leaves changed images the uid of the first."""
    if filecmp.cmp(one.path, other.path, shallow=False):
        return True
    if one.problem or other.problem or one.series != other.series or len(one.frames) != len(other.frames):
        return False
    a, b = one.frames[0], other.frames[0]
    if (a.layout.rows, a.layout.columns, a.layout.signed) != (b.layout.rows, b.layout.columns, b.layout.signed):
        return False
    return a.stack == b.stack and np.array_equal(read_voxels([a], "", None), read_voxels([b], "", None))


def _one_study(headers: list[Header]) -> tuple[list[Header], list[Skipped]]:
    """Keep the study with the most files; say what else is there."""
    studies: dict[str, list[Header]] = {}
    for header in headers:
        studies.setdefault(header.study, []).append(header)
    if len(studies) < 2:
        return headers, []
    chosen = max(studies.values(), key=len)
    others = [
        Skipped(f"study {number}", f"another study in the same folder ({len(group)} files); give its files alone")
        for number, group in enumerate((g for g in studies.values() if g is not chosen), start=2)
    ]
    return chosen, others


def _nothing(path: Path, skipped: Sequence[Skipped]) -> str:
    if not skipped:
        return f"{path}: no files here."
    first = skipped[0]
    if path.is_file():
        return f"{path}: {first.reason}."
    more = f" and {len(skipped) - 1} more" if len(skipped) > 1 else ""
    return f"{path}: nothing can be used: {first.what}: {first.reason}{more}."


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _patient_key(header: Header) -> str:
    return "p" + _digest(header.patient or header.study or str(header.path))
