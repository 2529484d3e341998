"""The outline of a 2-D mask as an SVG path: exact voxel edges, so that what lights up is what was counted."""

from __future__ import annotations

import numpy as np


def outline_path(mask: np.ndarray) -> str:
    """Closed loops along the voxel edges of a boolean `[H, W]` mask, for `fill-rule: evenodd`.

    Returns:
        An SVG path in voxels, `(0, 0)` the outer corner of the first one; `""` for an empty mask.
    """
    ways = _edges(np.pad(np.asarray(mask, dtype=bool), 1))
    loops = []
    while ways:
        start = next(iter(ways))
        loops.append(_loop(ways, start))
    return "".join(loops)


def _edges(padded: np.ndarray) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Corner → the corners that follow it, walking with the inside on the right."""
    inner = padded[1:-1, 1:-1]
    ways: dict[tuple[int, int], list[tuple[int, int]]] = {}
    sides = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),  # top: to the right
        (padded[1:-1, 2:], (1, 0), (1, 1)),  # right: down
        (padded[2:, 1:-1], (1, 1), (0, 1)),  # bottom: to the left
        (padded[1:-1, :-2], (0, 1), (0, 0)),  # left: up
    )
    for neighbour, begin, end in sides:
        rows, columns = np.nonzero(inner & ~neighbour)
        for y, x in zip(rows.tolist(), columns.tolist()):
            ways.setdefault((x + begin[0], y + begin[1]), []).append((x + end[0], y + end[1]))
    return ways


def _loop(ways: dict[tuple[int, int], list[tuple[int, int]]], start: tuple[int, int]) -> str:
    """Walk one loop and take its edges out; straight runs become one step."""
    steps: list[list[int]] = []
    here = start
    while True:
        following = ways[here]
        there = following.pop()
        if not following:
            del ways[here]
        step = [there[0] - here[0], there[1] - here[1]]
        if steps and (steps[-1][0] == 0) == (step[0] == 0):
            steps[-1] = [steps[-1][0] + step[0], steps[-1][1] + step[1]]
        else:
            steps.append(step)
        here = there
        if here == start:
            break
    moves = "".join(f"h{dx}" if dy == 0 else f"v{dy}" for dx, dy in steps[:-1])
    return f"M{start[0]} {start[1]}{moves}z"
