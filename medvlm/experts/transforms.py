"""MONAI transforms for bundle configs that MONAI itself does not have."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Crop, InvertibleTransform, MapTransform
from torch import nn

WINDOW = "intensity_window"


class LocateCropd(MapTransform, InvertibleTransform):
    """Crop to what a first, coarse network finds, with a margin; the first of two stages.

    The whole image is resized to a fixed shape, standardised between two quantiles, and given to the network. The box
    around the largest piece of its foreground, widened, is kept. The intensities at the quantiles stay in the image's
    meta data for `StandardiseRanged`.

    Args:
        keys: of the images, `[1, X, Y, Z]` MetaTensors.
        network: `[1, 1, *shape]` → probabilities `[1, C, *shape]`.
        shape: voxels of the coarse image.
        channel: the network's foreground channel.
        quantiles: of the coarse image; the intensities there become the ends of the range.
        mean, spread: of the standardised image.
        least: share of foreground in a plane below which the plane is outside the box.
        margin: widening on each side, as a share of the box's size.
    """

    def __init__(
        self,
        keys: KeysCollection,
        network: nn.Module,
        shape: Sequence[int] = (128, 128, 128),
        channel: int = 1,
        quantiles: tuple[float, float] = (0.005, 0.995),
        mean: float = 0.0,
        spread: float = 1.0,
        least: float = 0.02,
        margin: float = 0.1,
    ) -> None:
        super().__init__(keys)
        self.network = network
        self.shape = tuple(shape)
        self.channel = channel
        self.quantiles = quantiles
        self.mean, self.spread = mean, spread
        self.least, self.margin = least, margin
        self.cropper = Crop()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        changed = dict(data)
        for key in self.key_iterator(changed):
            image = changed[key]
            small = nn.functional.interpolate(_plain(image)[None], self.shape, mode="nearest-exact")
            low, high = (float(torch.quantile(small, share)) for share in self.quantiles)
            with torch.inference_mode():
                output = self.network(standardise(small, low, high, self.mean, self.spread))
            box = self.box(output[0, self.channel].float().cpu().numpy() > 0.5, image.shape[1:])
            changed[key] = self.cropper(image, box)
            changed[key].meta[WINDOW] = (low, high)
        return changed

    def box(self, found: np.ndarray, shape: Sequence[int]) -> tuple[slice, ...]:
        """The slices of the full image around the largest piece of the coarse foreground.

        The whole image where nothing was found: the second network then finds nothing either.
        """
        from scipy import ndimage

        pieces, count = ndimage.label(found, structure=np.ones((3, 3, 3)))
        if count == 0:
            return tuple(slice(0, size) for size in shape)
        largest = pieces == int(np.bincount(pieces.ravel())[1:].argmax()) + 1
        slices = []
        for axis, size in enumerate(shape):
            others = tuple(other for other in range(3) if other != axis)
            used = np.flatnonzero(largest.mean(axis=others) > self.least)
            if not used.size:
                return tuple(slice(0, full) for full in shape)
            scale = size / largest.shape[axis]
            centre = round(scale * (used[-1] + 1 + used[0]) / 2)
            extent = round((1 + 2 * self.margin) * scale * (used[-1] + 1 - used[0]))
            slices.append(slice(max(0, int(centre - extent / 2)), min(size, int(centre + extent / 2))))
        return tuple(slices)

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        changed = dict(data)
        for key in self.key_iterator(changed):
            changed[key] = self.cropper.inverse(changed[key])
        return changed


class StandardiseRanged(MapTransform):
    """Clip to the window that `LocateCropd` found, then give the image a mean and a standard deviation.

    Args:
        keys: of the images.
        mean, spread: of the result.
    """

    def __init__(self, keys: KeysCollection, mean: float = 0.0, spread: float = 1.0) -> None:
        super().__init__(keys)
        self.mean, self.spread = mean, spread

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        changed = dict(data)
        for key in self.key_iterator(changed):
            image = changed[key]
            low, high = image.meta[WINDOW]
            changed[key] = MetaTensor(
                standardise(_plain(image), low, high, self.mean, self.spread),
                meta=image.meta,
                applied_operations=image.applied_operations,
            )
        return changed


class SolidObjectd(MapTransform):
    """Keep the largest piece (26 neighbours) of a foreground mask and fill the holes in it.

    Args:
        keys: of the masks, `[1, X, Y, Z]`.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        from scipy import ndimage

        changed = dict(data)
        for key in self.key_iterator(changed):
            image = changed[key]
            found = np.asarray(image)[0] > 0
            box = next(iter(ndimage.find_objects(found.astype(np.uint8))), None)
            if box is not None:
                pieces, count = ndimage.label(found[box], structure=np.ones((3, 3, 3)))
                if count > 1:
                    pieces = pieces == int(np.bincount(pieces.ravel())[1:].argmax()) + 1
                found[...] &= False
                found[box] = ndimage.binary_fill_holes(pieces)
            solid = torch.from_numpy(found[None].astype(np.float32))
            changed[key] = MetaTensor(solid, meta=image.meta, applied_operations=image.applied_operations)
        return changed


def standardise(image: torch.Tensor, low: float, high: float, mean: float, spread: float) -> torch.Tensor:
    """Clip to `low..high`, then shift and scale to a mean and a standard deviation."""
    clipped = ((image - low) / max(high - low, 1e-6)).clamp(0.0, 1.0)
    return spread * (clipped - clipped.mean()) / clipped.std().clamp_min(1e-6) + mean


def _plain(image: Any) -> torch.Tensor:
    return torch.as_tensor(image).as_subclass(torch.Tensor).float()
