"""Plain 2-D images for networks: resized to the working size and back."""

from __future__ import annotations

import numpy as np
import torch

from medvlm.errors import MedVLMError
from medvlm.experts.input import InputSpec
from medvlm.imaging.study import Volume


def image_tensor(volume: Volume, spec: InputSpec) -> torch.Tensor:
    """`[C, i, j]` float32 in 0..1 at the working size.

    Raises:
        MedVLMError: the volume has several slices, or the wrong number of channels.
    """
    assert spec.size is not None
    array = volume.array
    channels = 3 if volume.is_rgb else 1
    if array.shape[2] != 1 or channels != spec.channels:
        wanted = "colour" if spec.channels == 3 else "grey"
        raise MedVLMError(f"expected one {wanted} image, got {array.shape[2]} slice(s) with {channels} channel(s).")
    image = torch.from_numpy(np.ascontiguousarray(array[:, :, 0], dtype=np.float32)).reshape(*array.shape[:2], channels)
    image = image.permute(2, 0, 1).sub(spec.low).div(spec.high - spec.low).clamp(0.0, 1.0)
    if tuple(image.shape[1:]) != spec.size:
        image = torch.nn.functional.interpolate(image[None], spec.size, mode="bilinear", antialias=True)[0]
    return image


def image_labels(volume: Volume, spec: InputSpec) -> np.ndarray:
    """`[i, j]` labels at the working size (nearest neighbour)."""
    assert spec.size is not None
    array = volume.array[:, :, 0]
    rows, columns = ((np.arange(new) + 0.5) * old / new for new, old in zip(spec.size, array.shape, strict=True))
    return array[rows.astype(int)][:, columns.astype(int)]


def labels_to_image(labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """`[i, j, 1]` labels on the image's own pixels."""
    rows, columns = ((np.arange(new) + 0.5) * old / new for new, old in zip(shape, labels.shape, strict=True))
    return np.ascontiguousarray(labels[rows.astype(int)][:, columns.astype(int), None])
