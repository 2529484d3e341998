"""`medvlm study`: what is in here, what would be used and why."""

from __future__ import annotations

from pathlib import Path


def study(path: Path) -> None:
    """Print what a study holds: series, geometry, what was skipped and why.

    Example:
        medvlm study path/to/dicom

    Args:
        path: DICOM file or folder, NIfTI file or image.
    """
    print(path)


COMMAND = study
