"""What a network wants to see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medvlm.errors import MedVLMError


@dataclass(frozen=True)
class InputSpec:
    """What a network wants to see; the `input` block of `configs/inference.json`.

    Attributes:
        dims: 3 for volumes, 2 for plain images.
        low, high: intensities that become 0 and 1; values beyond are clipped.
        channels: 1, or 3 for colour images.
        multiple: each working axis is padded to a multiple of this (the network's total stride along it).
        spacing: `(x, y, z)` millimetres of the working grid; for volumes.
        crop: `body` keeps the bounding box of the body, `none` keeps everything; for volumes.
        size: `(i, j)` pixels of the working grid; for plain images.
    """

    dims: int
    low: float
    high: float
    channels: int = 1
    multiple: tuple[int, ...] = (16, 16, 16)
    spacing: tuple[float, float, float] | None = None
    crop: str = "none"
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.dims not in (2, 3) or self.high <= self.low or min(self.multiple) < 1:
            raise ValueError(f"dims {self.dims}, range {self.low}..{self.high}, multiple {self.multiple}")
        if (self.dims == 3) != (self.spacing is not None) or (self.dims == 2) != (self.size is not None):
            raise ValueError("3-D input needs 'spacing', 2-D input needs 'size'")
        if self.crop not in ("body", "none"):
            raise ValueError(f"crop is 'body' or 'none', not {self.crop!r}")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> InputSpec:
        """Build from the `input` block.

        Raises:
            MedVLMError: a key is missing, unknown or impossible.
        """
        try:
            fields: dict[str, Any] = {
                key: tuple(item) if isinstance(item, list) else item for key, item in data.items()
            }
            return cls(**fields)
        except (TypeError, ValueError) as error:
            raise MedVLMError(f"the 'input' block of configs/inference.json is wrong ({error}).") from None
