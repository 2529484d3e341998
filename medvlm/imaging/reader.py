"""Any path → Study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from medvlm.errors import MedVLMError
from medvlm.imaging.archive import (
    Unpacked,
    dicomdir_files,
    is_dicomdir,
    is_gzip,
    is_zip,
    unpack_gzip,
    unpack_zip,
)
from medvlm.imaging.dicom import load_dicom
from medvlm.imaging.nifti import is_nifti, load_nifti
from medvlm.imaging.raster import is_raster, load_raster
from medvlm.imaging.study import Skipped, Study, Volume


def load_study(path: Path | str, modality: str | None = None) -> Study:
    """Read a DICOM file, folder, DICOMDIR or ZIP, a NIfTI file, or an image (PNG, JPEG, TIFF, BMP).

    What a file is decides its content, not its name. Voxels are read when they are used.

    Args:
        path: the file or folder.
        modality: DICOM modality code for formats that carry none (NIfTI, plain images).

    Raises:
        MedVLMError: nothing usable is there; one sentence with the reason.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise MedVLMError(f"{path}: no such file or folder.")
    try:
        return _load_folder(path, modality) if path.is_dir() else _load_file(path, modality)
    except OSError as error:
        raise MedVLMError(f"{path}: cannot be read ({error.strerror}).") from None


def _load_file(path: Path, modality: str | None) -> Study:
    if path.stat().st_size == 0:
        raise MedVLMError(f"{path}: the file is empty.")
    if is_zip(path):
        return _load_zip(path, modality)
    if is_nifti(path):
        return load_nifti(path, modality)
    if is_raster(path):
        return load_raster(path, modality)
    if is_gzip(path):
        return _load_packed(path, [path], [])
    if is_dicomdir(path):
        files, missing = dicomdir_files(path)
        study = load_dicom(path, files)
        absent = tuple(Skipped(name, "listed in the DICOMDIR but not there") for name in missing)
        return replace(study, skipped=study.skipped + absent)
    return load_dicom(path)


def _load_folder(path: Path, modality: str | None) -> Study:
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    if not files:
        raise MedVLMError(f"{path}: the folder is empty.")
    if len(files) == 1:
        return _load_file(files[0], modality)
    packed = [file for file in files if file.suffix == ".gz" and is_gzip(file) and not is_nifti(file)]
    if packed:
        return _load_packed(path, packed, [file for file in files if file not in set(packed)])
    try:
        return load_dicom(path)
    except MedVLMError:
        others = [file for file in files if file.stat().st_size and (is_nifti(file) or is_raster(file))]
        if len(others) == 1:
            return _load_file(others[0], modality)
        if others:
            raise MedVLMError(
                f"{path}: {len(others)} NIfTI files or images, but no DICOM; give one of them ({others[0].name}, ...)."
            ) from None
        raise


def _load_zip(path: Path, modality: str | None) -> Study:
    unpacked = unpack_zip(path)
    try:
        study = _load_folder(unpacked.folder, modality)
    except MedVLMError as error:
        raise MedVLMError(str(error).replace(str(unpacked.folder), str(path))) from None
    return _held(study, unpacked, path)


def _load_packed(path: Path, packed: list[Path], others: list[Path]) -> Study:
    """DICOM files of which some are compressed one by one."""
    unpacked = unpack_gzip(packed)
    files = sorted(file for file in unpacked.folder.rglob("*") if file.is_file())
    return _held(load_dicom(path, [*files, *others]), unpacked, path)


def _held(study: Study, unpacked: Unpacked, source: Path) -> Study:
    series = tuple(replace(one, load=_holding(one.load, unpacked)) for one in study.series)
    return replace(study, series=series, source=source)


def _holding(load: Callable[[], Volume], unpacked: Unpacked) -> Callable[[], Volume]:
    """The same loader; the unpacked files stay until it is gone."""

    def held() -> Volume:
        assert unpacked.folder.is_dir()
        return load()

    return held
