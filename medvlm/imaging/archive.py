"""Containers of files: ZIP archives and gzip (bounded), and DICOMDIR."""

from __future__ import annotations

import gzip
import shutil
import stat
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pydicom

from medvlm.errors import MedVLMError
from medvlm.imaging.dicom_fields import Fields
from medvlm.imaging.dicom_header import quiet_pydicom

MAX_MEMBERS = 100_000
MAX_BYTES = 32 << 30
MAX_RATIO = 200  # real images compress some 2 to 20 times; a bomb thousands of times
DICOMDIR_CLASS = "1.2.840.10008.1.3.10"


class Unpacked:
    """A temporary folder that lives as long as something refers to this object."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="medvlm-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


def is_zip(path: Path) -> bool:
    """Whether a file is a ZIP archive by its content."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def unpack_zip(path: Path) -> Unpacked:
    """Unpack a ZIP archive into a temporary folder, within bounds of number, size and compression.

    Links and members that point outside the folder are refused.

    Raises:
        MedVLMError: the archive is broken, encrypted or out of bounds.
    """
    unpacked = Unpacked()
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _check(path, members, shutil.disk_usage(unpacked.folder).free)
            for member in members:
                _write(archive, member, unpacked.folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise MedVLMError(f"{path}: the archive cannot be unpacked ({error}).") from None
    return unpacked


def _check(path: Path, members: list[zipfile.ZipInfo], free: int) -> None:
    if len(members) > MAX_MEMBERS:
        raise MedVLMError(f"{path}: {len(members)} files in one archive are too many (at most {MAX_MEMBERS}).")
    total = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if total > MAX_BYTES or total > free // 2:
        raise MedVLMError(f"{path}: unpacked it would take {total / 1e9:.1f} GB, more than is allowed or free.")
    if total > 10_000_000 and total > MAX_RATIO * max(packed, 1):
        raise MedVLMError(f"{path}: it would grow {total // max(packed, 1)} times; that is not a folder of images.")
    for member in members:
        parts = PurePosixPath(member.filename.replace("\\", "/")).parts
        outside = ".." in parts or member.filename.startswith(("/", "\\")) or ":" in member.filename
        if outside or stat.S_ISLNK(member.external_attr >> 16):
            raise MedVLMError(f"{path}: a member points outside the archive; it was not unpacked.")


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    target = folder / PurePosixPath(member.filename.replace("\\", "/"))
    target.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    with archive.open(member) as source, target.open("wb") as file:
        while chunk := source.read(min(left + 1, 1 << 20)):
            left -= len(chunk)
            if left < 0:
                raise zipfile.BadZipFile(f"{member.filename} is longer than declared")
            file.write(chunk)


def is_gzip(path: Path) -> bool:
    """Whether a file is compressed with gzip by its content."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def unpack_gzip(files: Sequence[Path]) -> Unpacked:
    """Unpack single files (`slice.dcm.gz`) into a temporary folder, within bounds, under numbers and their own names.

    Raises:
        MedVLMError: a file is broken, or all of them are too large.
    """
    unpacked = Unpacked()
    left = min(MAX_BYTES, shutil.disk_usage(unpacked.folder).free // 2)
    for number, path in enumerate(files):
        target = unpacked.folder / f"{number:06d}" / path.name.removesuffix(".gz")
        target.parent.mkdir()
        allowed = min(left, max(10_000_000, MAX_RATIO * path.stat().st_size))
        try:
            with gzip.open(path) as source, target.open("wb") as file:
                while chunk := source.read(1 << 20):
                    allowed, left = allowed - len(chunk), left - len(chunk)
                    if allowed < 0:
                        raise MedVLMError(f"{path}: it grows beyond what is allowed; that is not an image.")
                    file.write(chunk)
        except (OSError, EOFError, zlib.error) as error:
            raise MedVLMError(f"{path}: cannot be unpacked ({error}).") from None
    return unpacked


def is_dicomdir(path: Path) -> bool:
    """Whether a file is the directory of a DICOM medium."""
    with path.open("rb") as file:
        start = file.read(1024)
    return start[128:132] == b"DICM" and DICOMDIR_CLASS.encode() in start


def dicomdir_files(path: Path) -> tuple[list[Path], list[str]]:
    """The image files that a DICOMDIR lists: those that are there, and the names of those that are not.

    Raises:
        MedVLMError: the directory is broken, or lists nothing.
    """
    try:
        with quiet_pydicom():
            records = Fields(pydicom.dcmread(path)).items("DirectoryRecordSequence")
    except Exception as error:  # a broken directory can fail anywhere inside the parser
        raise MedVLMError(f"{path}: a broken DICOMDIR ({type(error).__name__}).") from None
    root = path.parent.resolve()
    found, missing = [], []
    for record in records:
        words = record.words("ReferencedFileID")
        if not words or record.word("DirectoryRecordType") not in ("IMAGE", ""):
            continue
        file = root.joinpath(*words)
        if file.is_file() and file.resolve().is_relative_to(root):
            found.append(file)
        else:
            missing.append("/".join(words))
    if not found:
        raise MedVLMError(f"{path}: none of the {len(missing)} images that the DICOMDIR lists is beside it.")
    return found, missing
