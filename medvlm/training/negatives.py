"""Pictures that no longer show what the right answers say: a lesion erased or drowned in noise, the wrong window.

The words of a preference pair stay the same and the picture changes, so that the model must look (POVID, Zhou et al.,
arXiv 2402.11411; S-VCO, Wu et al., arXiv 2502.13928). Everything outside of the lesion stays as it was.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.storage import atomic_path

Change = Literal["erased", "noised", "wrong_window"]
CHANGES: tuple[Change, ...] = get_args(Change)
# Pixels from a lesion's edge: those up to the first are blurred by it, those up to the second are its surroundings.
EDGE, AROUND = 1, 5
# The wrong window spreads this share of the picture's grey values over the whole scale.
WINDOW = 0.25


def changed(picture: np.ndarray, change: Change, lesion: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """A changed copy of a picture.

    Args:
        picture: `[H, W, 3]` uint8.
        change: `erased` fills the lesion with pixels from around it, `noised` puts noise of the picture's own mean and
            spread in its place, `wrong_window` shows a quarter of the grey values, the darkest or the brightest ones.
        lesion: `[H, W]` bool, for the first two.
        seed: of what is drawn.

    Raises:
        MedVLMError: no lesion is marked, it fills the picture, or there is no such change.
    """
    rng = np.random.default_rng(seed)
    if change == "wrong_window":
        low, high = (float(np.percentile(picture, share)) for share in (1, 99))
        width = max(1.0, WINDOW * (high - low))
        start = low if rng.random() < 0.5 else high - width
        return (255 * np.clip((picture - start) / width, 0, 1)).round().astype(np.uint8)
    if change not in CHANGES:
        raise MedVLMError(f"there is no change '{change}' of a picture; choose {', '.join(CHANGES)}.")
    if lesion is None or not lesion.any():
        raise MedVLMError(f"a picture cannot be {change} without a marked lesion.")
    edited = picture.copy()
    if change == "noised":
        spread = picture.reshape(-1, 3).astype(float)
        noise = rng.normal(spread.mean(axis=0), spread.std(axis=0) + 1, (int(lesion.sum()), 3))
        edited[lesion] = np.clip(noise, 0, 255).round()
        return edited
    return _erase(edited, lesion, rng)


def _erase(edited: np.ndarray, lesion: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every part of the lesion filled with draws from the ring around it."""
    from scipy import ndimage

    parts, count = ndimage.label(lesion)
    for number in range(1, count + 1):
        own = parts == number
        gone = ndimage.binary_dilation(own, iterations=EDGE)
        ring = ndimage.binary_dilation(own, iterations=AROUND) & ~gone & ~lesion
        if not ring.any():
            raise MedVLMError("a lesion fills the picture: there is nothing to replace it by.")
        gone &= ~lesion | own
        edited[gone] = rng.choice(edited[ring], int(gone.sum()))
    return edited


def changed_pictures(
    pictures: Sequence[str],
    change: Change,
    out: Path,
    masks: Mapping[str, Path] | None = None,
    labels: Collection[int] = (),
    seed: int = 0,
) -> list[str | None]:
    """Write the changed pictures; those that are there already are kept.

    Args:
        pictures: paths of pictures, one a conversation (several conversations may show one).
        change: see `changed`.
        out: folder for the changed ones.
        masks: picture → label map of the same size (PNG), for what needs a lesion.
        labels: which numbers of the label map are the lesion; none: all but 0.
        seed: of what is drawn.

    Returns:
        For each picture the path of the changed one, or None where it shows no lesion.
    """
    made = {name: _write(name, change, out, (masks or {}).get(name), labels, seed) for name in dict.fromkeys(pictures)}
    return [made[name] for name in pictures]


def _write(name: str, change: Change, out: Path, mask: Path | None, labels: Collection[int], seed: int) -> str | None:
    from PIL import Image

    from medvlm.models.chat import load_image

    picture, lesion = np.asarray(load_image(name)), None
    if change != "wrong_window":
        if mask is None:
            return None
        with Image.open(mask) as opened:
            marked = np.asarray(opened)
        if marked.shape != picture.shape[:2]:
            raise MedVLMError(f"{mask}: is {marked.shape} pixels and its picture {picture.shape[:2]}.")
        lesion = np.isin(marked, list(labels)) if labels else marked != 0
        if not lesion.any():
            return None
    target = out / f"{Path(name).stem}-{change}.png"
    if not target.is_file():
        with atomic_path(target) as temporary:
            Image.fromarray(changed(picture, change, lesion, seed)).save(temporary, format="PNG")
    return str(target)
