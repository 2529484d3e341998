"""Sampling that depends on a conversation's own random numbers, not on who else is in the batch."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

# float32 rounding must not carry a number past the last token of positive probability.
BELOW_ONE = 1.0 - 1e-6


class Noise:
    """One stream of random numbers for each conversation: the same seed, name and number give the same stream."""

    def __init__(self, seed: int, names: Sequence[str], numbers: Sequence[int]) -> None:
        """
        Args:
            seed: of the run.
            names: ids of the scripts.
            numbers: which sample of its script each conversation is.
        """
        self._streams = [
            np.random.default_rng((seed, zlib.crc32(name.encode()), number))
            for name, number in zip(names, numbers, strict=True)
        ]

    def draw(self, count: int, device: torch.device) -> Tensor:
        """`[rows, count]` float32 in 0..1, one number for each token that may be written next."""
        numbers = np.stack([stream.random(count, dtype=np.float32) for stream in self._streams])
        return torch.from_numpy(numbers).to(device)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop the streams of all other rows."""
        self._streams = [self._streams[row] for row in rows]


def pick(logits: Tensor, forbidden: Tensor, temperature: float, uniform: Tensor) -> Tensor:
    """The next token of each row: the likeliest at temperature 0, else that at the quantile `uniform`.

    Args:
        logits: `[B, V]`; changed in place.
        forbidden: token numbers that are never picked.
        temperature: of the softmax.
        uniform: `[B]`, 0..1.

    Returns:
        `[B]` int64.
    """
    logits.index_fill_(1, forbidden, -torch.inf)
    if temperature == 0:
        return logits.argmax(dim=-1)
    below = (logits.float() / temperature).softmax(dim=-1).cumsum(dim=-1)
    wanted = (uniform * BELOW_ONE)[:, None] * below[:, -1:]
    return torch.searchsorted(below, wanted, right=True)[:, 0].clamp(max=logits.shape[1] - 1)
