"""Keys and values of a batch of conversations: written in place, with room for what comes.

transformers' own dynamic cache copies everything for each new token; here a token is written into the next column and
the copy happens once in `ROOM` columns. Rows and columns that are not needed any more can be dropped, and some rows can
go on by themselves for a while.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

ROOM = 64


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer, `[B, H, T, D]`: views of buffers that are longer."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._buffers = [key_states.new_zeros(0), value_states.new_zeros(0)]
        length = self.get_seq_length()
        end = length + key_states.shape[-2]
        if length == 0 or end > self._buffers[0].shape[-2]:
            self._grow((key_states, value_states), length, end)
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, length:end] = new
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values

    def _grow(self, like: tuple[Tensor, Tensor], length: int, end: int) -> None:
        """New buffers with room for `ROOM` columns behind `end`."""
        old = self._buffers
        # Zeros: a column that is masked in every row is still multiplied, by nought.
        self._buffers = [new.new_zeros(*new.shape[:2], end + ROOM, new.shape[3]) for new in like]
        for buffer, known in zip(self._buffers, old, strict=True):
            if length:
                buffer[:, :, :length] = known[:, :, :length]

    @property
    def held(self) -> tuple[Tensor, Tensor]:
        """Keys and values of what has been seen."""
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values

    def hold(self, keys: Tensor, values: Tensor) -> None:
        """Become these keys and values; room is made when the next token comes."""
        self.lazy_initialization(keys, values)
        self._buffers = [keys, values]
        self.keys, self.values = keys, values


def _layers(cache: Cache) -> list[RoomyLayer]:
    """The layers of a cache that `roomy_cache` made."""
    return [layer for layer in cache.layers if isinstance(layer, RoomyLayer)]


def roomy_cache() -> Cache:
    """An empty cache."""
    return Cache(layer_class_to_replicate=RoomyLayer)


def repeat(cache: Cache, times: int) -> None:
    """Each row `times` times, side by side."""
    for layer in _layers(cache):
        layer.hold(*(known.repeat_interleave(times, dim=0) for known in layer.held))


def select(cache: Cache, rows: Tensor, columns: Tensor | None = None) -> Cache:
    """A copy with some rows only, and of each row some columns.

    Args:
        cache: what to choose from.
        rows: `[R]` row numbers.
        columns: `[R, C]` column numbers of each chosen row.
    """
    chosen = roomy_cache()
    for layer in _layers(cache):
        parts = []
        for known in layer.held:
            part = known[rows]
            if columns is not None:
                index = columns[:, None, :, None].expand(-1, part.shape[1], -1, part.shape[3])
                part = part.gather(2, index)
            parts.append(part)
        own = RoomyLayer()
        own.hold(*parts)
        chosen.layers.append(own)
    return chosen


def write_back(cache: Cache, part: Cache, rows: Tensor, since: int) -> None:
    """Put the columns from `since` on that some rows wrote by themselves back beside the others.

    Args:
        cache: all rows; grows to the length of `part`, with zeros in the other rows.
        part: the cache of `rows`, the same as `cache` before column `since`.
        rows: `[R]` row numbers in `cache`.
        since: first new column.
    """
    for whole, own in zip(_layers(cache), _layers(part), strict=True):
        new = [known[:, :, since:] for known in own.held]
        count = whole.held[0].shape[0]
        whole.update(*(one.new_zeros(count, *one.shape[1:]).index_copy_(0, rows, one) for one in new))
