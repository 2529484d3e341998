"""Pictures beside those of a cohort: turned ones for training, spoilt ones, and the blank one of the controls."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from medvlm.storage import atomic_path

if TYPE_CHECKING:
    from PIL.Image import Image

BLANK = "blank.png"
SPOILT = "spoilt"
# Rows below this share of the brightest are margin; some of it is kept.
DARK, MARGIN = 0.3, 9
SIDES = {"no": 1, "mirrored": 2, "square": 8}


def write_blank(folder: Path) -> None:
    """The picture of the controls: mid grey."""
    from PIL import Image

    _save(Image.new("RGB", (64, 64), (128, 128, 128)), folder / BLANK)


def turned_pictures(
    folder: Path, picture: str, turned: str, spoilt: str = "", cropped: bool = False
) -> tuple[str, ...]:
    """The picture and its turned copies, written where they are missing.

    Args:
        folder: where paths start from.
        picture: path of the picture.
        turned: `no`, `mirrored` or `square` (all eight sides, as for cells that have no up and no left).
        spoilt: name of an out-of-focus copy to make instead of the picture itself; empty: the picture.
        cropped: cut the dark margins above and below.
    """
    parent = Path(picture).parent
    first = f"{parent / spoilt}.png" if spoilt else picture
    first = f"{first.removesuffix(Path(first).suffix)}-cropped.png" if cropped else first
    stem = first.removesuffix(Path(first).suffix)
    names = [first, *(f"{stem}-{number}.png" for number in range(1, SIDES[turned]))]
    missing = [number for number, name in enumerate(names) if not (folder / name).is_file()]
    if missing:
        from PIL import Image

        with Image.open(folder / picture) as opened:
            image = opened.convert("RGB")
        image = _crop(image) if cropped else image
        image = _defocus(image, spoilt) if spoilt else image
        for number in missing:
            _save(_turn(image, number), folder / names[number])
    return tuple(names)


def _turn(image: Image, number: int) -> Image:
    """Side `number` of eight; odd ones are mirrored left to right."""
    from PIL.Image import Transpose

    if number % 2:
        image = image.transpose(Transpose.FLIP_LEFT_RIGHT)
    quarter = (None, Transpose.ROTATE_90, Transpose.ROTATE_180, Transpose.ROTATE_270)[number // 2]
    return image if quarter is None else image.transpose(quarter)


def _crop(image: Image) -> Image:
    """Without the rows at the upper and lower edge that are dark beside the brightest ones."""
    import numpy as np

    rows = np.asarray(image.convert("L"), dtype=float).mean(axis=1)
    smooth = np.convolve(rows, np.full(MARGIN, 1 / MARGIN), mode="same")
    bright = np.flatnonzero(smooth > smooth.min() + DARK * (smooth.max() - smooth.min()))
    low, high = max(0, int(bright[0]) - MARGIN), min(len(rows), int(bright[-1]) + MARGIN + 1)
    return image.crop((0, low, image.width, high))


def _defocus(image: Image, name: str) -> Image:
    """Out of focus and flat, by an amount that follows from the name."""
    from PIL import Image as images
    from PIL import ImageFilter

    amount = (zlib.crc32(name.encode()) % 1000) / 1000
    blurred = image.filter(ImageFilter.GaussianBlur(max(image.size) * (0.05 + 0.04 * amount)))
    grey = images.new("RGB", image.size, (150, 145, 150))
    return images.blend(blurred, grey, 0.15 + 0.25 * (1 - amount))


def _save(image: Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        # Fast rather than small: thousands of turned copies are written.
        image.save(temporary, format="PNG", compress_level=1)
