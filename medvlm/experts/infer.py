"""Volume in, structures and probabilities out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

from medvlm.errors import MedVLMError
from medvlm.experts.bundle import Bundle
from medvlm.experts.grid import WorkingGrid, plan_grid, resample
from medvlm.experts.image import image_tensor, labels_to_image
from medvlm.experts.output import split_output
from medvlm.experts.sliding_window import SlidingWindow, WindowSettings
from medvlm.imaging.study import Volume

if TYPE_CHECKING:
    from torch import nn

# Objects are looked for where their probability on the working grid exceeds this share of the level at which they are
# drawn after interpolation: a small object that lies between working voxels never reaches the level on them.
SEED = 0.7


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says about one volume.

    Attributes:
        mask: `[I, J, K]` uint8 label map on the volume's own grid.
        probabilities: `[L, X, Y, Z]` (or `[L, i, j]`) on the working grid, float32 or bfloat16.
        affine: `[4, 4]` working index → RAS+ mm; None for plain images.
        classes: class name → probability; empty without a class head.
    """

    mask: np.ndarray
    probabilities: torch.Tensor
    affine: np.ndarray | None
    classes: dict[str, float]

    def channel(self, label: int) -> np.ndarray:
        """Probability of one structure on the working grid, float32."""
        return self.probabilities[label].float().numpy()

    def at(self, label: int, voxels: np.ndarray, volume: Volume) -> np.ndarray:
        """Probability of a structure at voxels `[N, 3]` of the volume's own grid (nearest working voxel)."""
        field = self.channel(label)
        if self.affine is None:
            scale = np.array(field.shape) / np.array(volume.array.shape[:2])
            index = ((voxels[:, :2] + 0.5) * scale).astype(int)
        else:
            place = np.linalg.inv(self.affine) @ volume.affine
            index = np.floor(voxels @ place[:3, :3].T + place[:3, 3] + 0.5).astype(int)
        index = np.clip(index, 0, np.array(field.shape) - 1)
        return field[tuple(index.T)]


def choose_device(device: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU.

    Raises:
        MedVLMError: a device that this machine does not have.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise MedVLMError(f"'{device}' is not a device; use auto, cpu, cuda or cuda:N.") from None
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise MedVLMError(f"device '{device}': this machine has no such GPU; use --device auto or cpu.")
    return chosen


def choose_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor computes in it, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


class Predictor:
    """A bundle's network, ready to run."""

    def __init__(self, bundle: Bundle, device: torch.device, network: nn.Module | None = None) -> None:
        self.bundle = bundle
        self.device = device
        self.precision = choose_precision(device)
        network = bundle.load_network() if network is None else network.eval()
        network = network.to(device=device, dtype=self.precision)
        self.window = SlidingWindow(network, device, self.precision, WindowSettings.from_config(bundle.inference))
        numbers = {name: number for number, name in bundle.labels.items()}
        objects = {rule.label: rule.level for rule in bundle.spec.rules if rule.kind == "components"}
        self.objects = {numbers[name]: level for name, level in sorted(objects.items()) if name in numbers}
        scattered = objects.keys() | {rule.label for rule in bundle.spec.rules if rule.kind == "region"}
        self.organs = sorted(number for name, number in numbers.items() if number and name not in scattered)

    def predict(self, volume: Volume) -> Prediction:
        """Run the network on one volume (3-D) or image (2-D)."""
        if self.bundle.input.dims == 2:
            return self._predict_image(volume)
        grid = plan_grid(volume, self.bundle.input)
        logits, classes = self.logits(resample(volume, grid, self.bundle.input))
        probabilities = logits.softmax(dim=0)
        mask = draw_mask(logits, probabilities, grid, self.objects, self.organs)
        return Prediction(mask, probabilities, grid.affine, classes)

    def _predict_image(self, volume: Volume) -> Prediction:
        logits, classes = self.logits(image_tensor(volume, self.bundle.input))
        labels = logits.argmax(dim=0).to(torch.uint8).numpy()
        mask = labels_to_image(labels, (volume.array.shape[0], volume.array.shape[1]))
        return Prediction(mask, logits.softmax(dim=0), None, classes)

    @torch.inference_mode()
    def logits(self, image: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        """`[C, ...]` in 0..1 → structure logits `[L, ...]` on the CPU and class probabilities."""
        structures, classes = split_output(self.window(image)[None], len(self.bundle.labels))
        named: dict[str, float] = {}
        if classes is not None:
            temperature = float(self.bundle.calibration.get("class_temperature", 1.0))
            shares = (classes[0].float() / temperature).softmax(dim=0).tolist()
            named = dict(zip(self.bundle.classes, shares, strict=True))
        return structures[0], named


def draw_mask(
    logits: torch.Tensor,
    probabilities: torch.Tensor,
    grid: WorkingGrid,
    objects: Mapping[int, float],
    organs: Collection[int],
) -> np.ndarray:
    """Label map on the series' own grid.

    Anatomy is the likeliest structure among those that are not objects, taken over voxel by voxel; objects (small,
    measured to the millimetre) are drawn over it where their interpolated probability exceeds their level. An organ
    is one piece.

    Args:
        logits, probabilities: `[L, X, Y, Z]` on the working grid.
        grid: between the working grid and the series' own.
        objects: label → level, 0..1.
        organs: labels that are one connected piece.
    """
    anatomy = [channel for channel in range(len(logits)) if channel not in objects]
    kept = logits if not objects else logits[anatomy]
    lookup = np.array(anatomy, np.uint8)
    labels = lookup[kept.max(dim=0).indices.numpy()]
    keep_largest(labels, organs)
    mask = grid.labels_to_canonical(labels)
    for label, level in objects.items():
        field = probabilities[label].float().numpy()
        parts, _ = ndimage.label(field > SEED * level, structure=np.ones((3, 3, 3)))
        for found in ndimage.find_objects(parts):
            box = tuple(
                slice(max(0, cut.start - 2), min(size, cut.stop + 2))
                for cut, size in zip(found, field.shape, strict=True)
            )
            values, region = grid.region_to_native(field, box)
            mask[region][values > level] = label
    return grid.from_canonical(mask)


def keep_largest(labels: np.ndarray, organs: Collection[int]) -> None:
    """In place: of each organ keep the largest connected piece; its other voxels become background."""
    regions = ndimage.find_objects(labels, max_label=max(organs, default=0))
    for organ in organs:
        region = regions[organ - 1]
        if region is None:
            continue
        part = labels[region]
        own = part == organ
        pieces, count = ndimage.label(own)
        if count > 1:
            largest = int(np.bincount(pieces.ravel())[1:].argmax()) + 1
            part[own & (pieces != largest)] = 0
