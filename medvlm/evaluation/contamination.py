"""Are test pictures in the training data? Near-duplicates by perceptual hash, whatever their size, format or file name.

The hash is the sign of the 8 × 8 lowest frequencies of a 32 × 32 grey picture (discrete cosine transform) against
their median: 64 bits that survive scaling, recompression and a change of brightness. Two pictures within a few bits
look alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medvlm.errors import MedVLMError

SIDE, KEPT = 32, 8
NEAR = 6


@dataclass(frozen=True)
class Match:
    """A test picture and the training picture nearest to it; `bits` of 64 differ, 0 is the same to the eye."""

    test: str
    train: str
    bits: int

    @property
    def patient(self) -> str:
        """What keeps a picture from being shown twice."""
        return self.test

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def picture_hash(path: Path) -> int:
    """The 64-bit perceptual hash of a picture.

    Raises:
        MedVLMError: it cannot be read.
    """
    from PIL import Image
    from scipy.fft import dctn

    try:
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS), float)
    except OSError as error:
        raise MedVLMError(f"{path}: not a readable picture ({type(error).__name__}).") from None
    low = dctn(grey, norm="ortho")[:KEPT, :KEPT].ravel()
    # The first is the mean brightness, which says nothing about the shape.
    bits = low > np.median(low[1:])
    return int("".join("1" if bit else "0" for bit in bits), 2)


def find_duplicates(test: Mapping[str, int], train: Mapping[str, int], near: int = NEAR) -> list[Match]:
    """Test pictures that have a training picture within `near` bits, each with its nearest.

    Args:
        test: name → hash.
        train: name → hash.
        near: most bits that may differ; about 6 for the same picture saved anew.
    """
    names = list(train)
    known = np.array([train[name] for name in names], np.uint64)
    if not len(known):
        return []
    found = []
    for name, value in test.items():
        distances = np.bitwise_count(known ^ np.uint64(value))
        best = int(distances.argmin())
        if distances[best] <= near:
            found.append(Match(name, names[best], int(distances[best])))
    return found


def hash_pictures(root: Path, names: Iterable[str], progress: bool = True) -> dict[str, int]:
    """Name → hash of the pictures below a folder."""
    from rich.progress import track

    chosen: Sequence[str] = sorted(set(names))
    return {
        name: picture_hash(root / name)
        for name in track(chosen, description="picture hashes", transient=True, disable=not progress)
    }
