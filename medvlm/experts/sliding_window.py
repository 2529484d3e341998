"""A network over an image of any size: one pass where it fits, else overlapping windows.

Against running every window of a float32 network (MONAI's `SlidingWindowInferer` at its defaults), this one computes in
the precision and memory layout that suit the processor, leaves out what is empty, and writes each window straight to
its place: the weights of overlapping windows are known before the first is run, so nothing is counted or divided
afterwards.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from medvlm.errors import MedVLMError

if TYPE_CHECKING:
    from torch import nn

# A volume of up to so many voxels is one pass where no window size is set: the activations of a small UNet stay
# below about 2 GiB.
WHOLE_VOXELS = 12_000_000
# The window beyond that, along each axis.
FALLBACK_SIZE = 160
# Side of the blocks whose mean decides what is empty: the mean of 64 voxels is not moved by noise.
BLOCK = 4
INFERER = "SlidingWindowInferer"
AXES = "xyz"
_PER_SAMPLE = (torch.nn.modules.instancenorm._InstanceNorm, torch.nn.GroupNorm, torch.nn.LayerNorm)


@dataclass(frozen=True)
class WindowSettings:
    """How a network is run; from the blocks `inferer` (MONAI's own) and `speed` of `configs/inference.json`.

    Attributes:
        size: window along each axis; None runs the whole image in one pass where it is small enough.
        overlap: share of a window that the next one covers again, 0 (none) to below 1.
        blend: how overlapping windows are averaged: `constant`, or `gaussian` (the middle of a window counts more).
        batch: windows in one pass; None is 1 on a CPU (measured: larger batches leave its cache) and 4 elsewhere.
        empty: a window is not run where the mean of every block of 4 voxels is at or below this and no voxel exceeds
            four times it (working intensities, 0..1); the network is asked once what it says of nothing. The default
            leaves out only what is exactly 0, which changes nothing.
        flips: test-time augmentation: mirror images along these axes (`x`, `xy`, ...) are averaged in. Not for
            networks whose structures have sides, along the axis from side to side.
    """

    size: tuple[int, ...] | None = None
    overlap: float = 0.25
    blend: str = "constant"
    batch: int | None = None
    empty: float = 0.0
    flips: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"a window is at least one voxel, not {self.size}")
        if not 0.0 <= self.overlap < 1.0 or self.blend not in ("constant", "gaussian"):
            raise ValueError(f"overlap {self.overlap} (0 to below 1), blend {self.blend!r} (constant or gaussian)")
        if (self.batch is not None and self.batch < 1) or self.empty < 0.0:
            raise ValueError(f"batch {self.batch} (1 or more), empty {self.empty} (0 or more)")
        if any(not flip or set(flip) - set(AXES) or len(set(flip)) != len(flip) for flip in self.flips):
            raise ValueError(f"flips are axes such as 'x' or 'yz', not {self.flips}")

    @classmethod
    def from_config(cls, inference: Mapping[str, Any]) -> WindowSettings:
        """Read the blocks `inferer` and `speed`.

        Raises:
            MedVLMError: a value is unknown or impossible.
        """
        inferer = inference.get("inferer")
        fields: dict[str, Any] = dict(inference.get("speed") or {})
        fields["flips"] = tuple(fields.get("flips", ()))
        if isinstance(inferer, dict) and str(inferer.get("_target_", "")).endswith(INFERER):
            literal = {key: value for key, value in inferer.items() if not str(value).startswith(("$", "@"))}
            size = literal.get("roi_size")
            fields["size"] = None if size is None else tuple(size)
            fields |= {ours: literal[theirs] for ours, theirs in _MONAI_NAMES.items() if theirs in literal}
        try:
            return cls(**fields)
        except (TypeError, ValueError) as error:
            raise MedVLMError(f"configs/inference.json: 'inferer' or 'speed' is wrong ({error}).") from None


_MONAI_NAMES = {"overlap": "overlap", "blend": "mode", "batch": "sw_batch_size"}


class SlidingWindow:
    """A network on a device that answers for images of any size."""

    def __init__(self, network: nn.Module, device: torch.device, precision: torch.dtype, settings: WindowSettings):
        self.network = network
        self.device = device
        self.precision = precision
        self.settings = settings
        # Channels last speeds up convolutions; on a CPU normalisation over each sample undoes that (measured).
        per_sample = any(isinstance(part, _PER_SAMPLE) for part in network.modules())
        self.channels_last = device.type != "cpu" or not per_sample
        if self.channels_last:
            for size in {parameter.ndim for parameter in network.parameters()} & {4, 5}:
                layout = torch.channels_last if size == 4 else torch.channels_last_3d
                network.to(memory_format=layout)  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """`[C, ...]` float32 → what the network says, `[O, ...]` on the CPU.

        Each axis, and each window, is a multiple of the network's stride along it (the working grid sees to that).

        The result is float32 where windows were blended, else in the network's precision.
        """
        image = image.to(self.device)
        result = self._once(image)
        flips = self.settings.flips
        for flip in flips:
            axes = [AXES.index(axis) + 1 for axis in flip]
            if max(axes) >= image.ndim:
                raise MedVLMError(f"flip '{flip}': the image has no axis {flip[-1]}.")
            result = result + self._once(image.flip(axes)).flip(axes)
        return (result / (len(flips) + 1) if flips else result).cpu().contiguous()

    def _once(self, image: torch.Tensor) -> torch.Tensor:
        shape = tuple(image.shape[1:])
        size = self.settings.size
        if size is None:
            if image[0].numel() <= WHOLE_VOXELS:
                return self._run(image[None])[0]
            size = (FALLBACK_SIZE,) * len(shape)
        if len(size) != len(shape):
            raise MedVLMError(f"a window of {len(size)} axes does not fit an image of {len(shape)}.")
        return self._windows(image, tuple(min(pair) for pair in zip(size, shape, strict=True)))

    def _windows(self, image: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        settings = self.settings
        shape = tuple(image.shape[1:])
        # The windows are those of MONAI; cropping the margin instead would move them, and with them the answer.
        content = _content(image, settings.empty).cpu()
        axes = [_Axis.plan(length, window, settings) for length, window in zip(shape, size, strict=True)]
        windows = [_Window(parts) for parts in itertools.product(*axes)]
        filled = [window for window in windows if _has_content(content, window.region)]
        result: torch.Tensor | None = None
        for batch in _batches(filled, settings.batch or (1 if self.device.type == "cpu" else 4)):
            answers = self._run(torch.stack([image[(slice(None), *window.region)] for window in batch]))
            if result is None:
                result = answers.new_zeros((answers.shape[1], *shape), dtype=torch.float32)
            for window, answer in zip(batch, answers, strict=True):
                # In place: one read of the answer, one read and write of its voxels.
                result[(slice(None), *window.region)].addcmul_(answer, window.weight(self.device))
        if len(filled) < len(windows):
            nothing = self._run(torch.zeros((1, len(image), *size), device=self.device))[0].float()
            result = nothing.new_zeros((len(nothing), *shape)) if result is None else result
            for window in windows:
                if window not in filled:
                    result[(slice(None), *window.region)].addcmul_(nothing, window.weight(self.device))
        assert result is not None
        return result

    def _run(self, batch: torch.Tensor) -> torch.Tensor:
        """`[B, C, ...]` → `[B, O, ...]` in the network's precision."""
        batch = batch.to(self.precision)
        if self.channels_last:
            batch = batch.to(memory_format=torch.channels_last_3d if batch.ndim == 5 else torch.channels_last)
        output = self.network(batch)
        return output[0] if isinstance(output, tuple | list) else output


@dataclass(frozen=True, eq=False)
class _Axis:
    """One window along one axis: where it lies, and the share of each voxel that is its own (all shares sum to 1)."""

    start: int
    stop: int
    share: torch.Tensor

    @classmethod
    def plan(cls, length: int, window: int, settings: WindowSettings) -> list[_Axis]:
        step = max(1, int(window * (1.0 - settings.overlap)))
        # As in MONAI: regular steps, the last window moved back to end with the image.
        starts = [*range(0, length - window, step), length - window]
        profile = torch.ones(window)
        if settings.blend == "gaussian":
            # MONAI's width: an eighth of the window.
            place = torch.arange(window) - (window - 1) / 2
            profile = torch.exp(-0.5 * (place / (0.125 * window)) ** 2).clamp_min(1e-3)
        total = torch.zeros(length)
        for start in starts:
            total[start : start + window] += profile
        return [cls(start, start + window, profile / total[start : start + window]) for start in starts]


@dataclass(frozen=True, eq=False)
class _Window:
    """One window: a product of axes, so the shares of all windows sum to 1 at every voxel without counting."""

    parts: tuple[_Axis, ...]

    @property
    def region(self) -> tuple[slice, ...]:
        return tuple(slice(part.start, part.stop) for part in self.parts)

    def weight(self, device: torch.device) -> torch.Tensor:
        """The share of this window at each of its voxels, shaped like the window."""
        product = self.parts[0].share
        for part in self.parts[1:]:
            product = product[..., None] * part.share
        return product.to(device)


def _batches(windows: Sequence[_Window], size: int) -> Iterator[Sequence[_Window]]:
    for first in range(0, len(windows), size):
        yield windows[first : first + size]


def _content(image: torch.Tensor, empty: float) -> torch.Tensor:
    """`[...]` of blocks of `BLOCK` voxels: True where a block holds more than nothing."""
    pool = torch.nn.functional.max_pool3d if image.ndim == 4 else torch.nn.functional.max_pool2d
    mean = torch.nn.functional.avg_pool3d if image.ndim == 4 else torch.nn.functional.avg_pool2d
    batch = image.float()[None]
    highest = pool(batch, BLOCK, BLOCK, ceil_mode=True)[0].amax(0)
    if empty <= 0.0:
        return highest > 0.0
    average = mean(batch, BLOCK, BLOCK, ceil_mode=True)[0].amax(0)
    return (average > empty) | (highest > 4.0 * empty)


def _has_content(content: torch.Tensor, region: tuple[slice, ...]) -> bool:
    return bool(content[tuple(slice(cut.start // BLOCK, -(-cut.stop // BLOCK)) for cut in region)].any())
