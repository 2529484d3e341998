"""PNG, JPEG, TIFF and BMP → Study: uncalibrated and unoriented unless the user says otherwise."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from medvlm.errors import MedVLMError
from medvlm.imaging.study import Series, Study, Volume

_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"BM")
MAX_PIXELS = 200_000_000


def is_raster(path: Path) -> bool:
    """Whether a file starts like a PNG, JPEG, TIFF or BMP, and is no DICOM with such a preamble (PS3.10 7.1)."""
    with path.open("rb") as file:
        start = file.read(132)
    return start.startswith(_MAGIC) and start[128:] != b"DICM"


def load_raster(path: Path, modality: str | None = None) -> Study:
    """Read an image file as a study of one series.

    Raises:
        MedVLMError: the image is broken or absurdly large.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
    except Exception as error:
        raise MedVLMError(f"{path}: not a readable image ({type(error).__name__}).") from None
    if width * height > MAX_PIXELS:
        raise MedVLMError(f"{path}: {width} x {height} pixels are too many for one image; cut it into tiles.")

    def load() -> Volume:
        return Volume(_pixels(path), np.diag([1.0, -1.0, -1.0, 1.0]), "1", calibrated=False, oriented=False)

    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    series = Series(
        uid=f"image-{digest}",
        modality=modality or "",
        load=load,
        tags={"size": f"{width} x {height}"},
        files=(path,),
        notes=("No pixel spacing.", "Unknown orientation: no side can be stated."),
    )
    return Study(f"image-{digest}", f"p{digest[:12]}", (series,), path)


def _pixels(path: Path) -> np.ndarray:
    """`[I, J, 1]` grey (8 or 16 bit) or `[I, J, 1, 3]` uint8 colour; i runs along the width."""
    try:
        with Image.open(path) as image:
            if image.mode in ("I;16", "I;16L", "I;16B", "I", "F", "L"):
                grey = np.asarray(image)
                return np.ascontiguousarray(grey.T)[:, :, None]
            colour = np.asarray(image.convert("RGB"))
    except Exception as error:
        raise MedVLMError(f"{path}: not a readable image ({type(error).__name__}: {error}).") from None
    return colour.transpose(1, 0, 2)[:, :, None]
