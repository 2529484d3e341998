"""Any path → Study."""

from __future__ import annotations

from pathlib import Path

from medvlm.errors import MedVLMError
from medvlm.imaging.dicom import load_dicom
from medvlm.imaging.nifti import is_nifti, load_nifti
from medvlm.imaging.raster import is_raster, load_raster
from medvlm.imaging.study import Study


def load_study(path: Path | str, modality: str | None = None) -> Study:
    """Read a DICOM file or folder, a NIfTI file or an image (PNG, JPEG, TIFF, BMP).

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
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file()]
        if not files:
            raise MedVLMError(f"{path}: the folder is empty.")
        if len(files) == 1:
            path = files[0]
    if path.is_dir():
        return load_dicom(path)
    if path.stat().st_size == 0:
        raise MedVLMError(f"{path}: the file is empty.")
    if is_nifti(path):
        return load_nifti(path, modality)
    if is_raster(path):
        return load_raster(path, modality)
    return load_dicom(path)
