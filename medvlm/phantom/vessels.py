"""Branching vessels and airways: trees grown towards random points of the lungs, drawn as tapering tubes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medvlm.phantom.body import Body
from medvlm.phantom.grid import Grid, blend
from medvlm.phantom.patient import Anatomy

TERMINALS = 75
LUMEN = -985.0


@dataclass(frozen=True)
class Tube:
    """A straight piece with round ends: start, end (anatomy mm) and radius (mm)."""

    start: np.ndarray
    end: np.ndarray
    radius: float


def grow_tree(rng: np.random.Generator, root: np.ndarray, targets: np.ndarray) -> list[Tube]:
    """Connect `targets` (`[N, 3]` mm) to `root`: from the nearest outwards, each to the closest earlier point.

    Radii follow Murray's law (the cube of a parent's radius is the sum of its children's), so that the tree
    is thick at the hilum and thin at the pleura.
    """
    order = np.argsort(np.linalg.norm(targets - root, axis=1))
    points = np.vstack([root, targets[order]])
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    to_root = distance[0]
    parents = np.zeros(len(points), int)
    for n in range(1, len(points)):
        # The way back to the root counts a little: without it branches run sideways, which vessels do not.
        parents[n] = int(np.argmin(distance[n, :n] + 0.25 * to_root[:n]))
    leaves = np.ones(len(points))
    for n in range(len(points) - 1, 0, -1):
        if parents[n]:
            leaves[parents[n]] += leaves[n]
    radii = rng.uniform(0.85, 1.05) * leaves ** (1 / 3)
    return [Tube(points[parents[n]], points[n], float(radii[n])) for n in range(1, len(points))]


def tube_distance(grid: Grid, tube: Tube, margin: float) -> tuple[tuple[slice, slice, slice], np.ndarray]:
    """The box around a tube and the signed distance to its surface there (positive inside)."""
    reach = tube.radius + margin
    box = grid.box(np.minimum(tube.start, tube.end) - reach, np.maximum(tube.start, tube.end) + reach)
    x, y, z = (axis - np.float32(c) for axis, c in zip(grid.local(box), tube.start))
    along = (tube.end - tube.start).astype(np.float32)
    length = max(float(along @ along), 1e-6)
    t = np.clip((x * along[0] + y * along[1] + z * along[2]) * np.float32(1 / length), 0, 1)
    squared = (x - t * along[0]) ** 2
    squared += (y - t * along[1]) ** 2
    squared += (z - t * along[2]) ** 2
    return box, np.float32(tube.radius) - np.sqrt(squared)


def render_vessels(rng: np.random.Generator, grid: Grid, anatomy: Anatomy, body: Body) -> np.ndarray:
    """Draw great vessels, pulmonary trees and airways into `body`; returns vessel points `[N, 3]` (mm) in the lungs."""
    _great_vessels(grid, anatomy, body)
    lungs = np.flatnonzero(body.depth > 4)
    points = []
    for sign in (1, -1):
        hilum = np.array((sign * 36.0, -4.0, anatomy.carina - 28))
        targets = _points(grid, lungs[rng.integers(len(lungs), size=3 * TERMINALS)])
        targets = targets[targets[:, 0] * sign > 12][:TERMINALS]
        for tube in grow_tree(rng, hilum, targets):
            box, distance = tube_distance(grid, tube, grid.edge)
            share = grid.soft(distance)
            # A tube thinner than a voxel fills only a part of it.
            share *= np.float32(min(1.0, 2.2 * tube.radius / grid.edge))
            blend(body.hu[box], share * (body.depth[box] > -2), anatomy.blood_hu)
            points.append(tube.end)
    _airways(grid, anatomy, body)
    return np.array(points)


def _points(grid: Grid, flat: np.ndarray) -> np.ndarray:
    """Flat voxel numbers → `[N, 3]` anatomy mm."""
    index = np.unravel_index(flat, grid.shape)
    return np.stack([np.broadcast_to(axis, grid.shape)[index] for axis in (grid.x, grid.y, grid.z)], axis=1)


def _great_vessels(grid: Grid, a: Anatomy, body: Body) -> None:
    arch, back = a.carina + 24, a.spine + 22
    pieces = [
        Tube(np.array((-22.0, back, a.bottom)), np.array((-24.0, back, arch - 10)), 11.5),
        Tube(np.array((-24.0, back, arch - 10)), np.array((2.0, 10.0, arch)), 12.0),
        Tube(np.array((2.0, 10.0, arch)), np.array((4.0, 24.0, a.carina - 35)), 14.0),
        Tube(np.array((26.0, 12.0, arch + 8)), np.array((26.0, 10.0, a.carina - 35)), 8.5),
        Tube(np.array((-12.0, 26.0, a.carina - 30)), np.array((-16.0, 8.0, a.carina - 12)), 12.5),
        Tube(np.array((-16.0, 8.0, a.carina - 12)), np.array((36.0, -4.0, a.carina - 22)), 9.0),
        Tube(np.array((-16.0, 8.0, a.carina - 12)), np.array((-38.0, -4.0, a.carina - 18)), 9.0),
    ]
    for tube in pieces:
        box, distance = tube_distance(grid, tube, 2 + grid.edge)
        np.minimum(body.depth[box], -1.5 - distance, out=body.depth[box])
        blend(body.hu[box], grid.soft(distance + 2), -40.0)
        blend(body.hu[box], grid.soft(distance), a.blood_hu)
        # Lobes end where the vessel begins; the heart keeps its label.
        part = body.labels[box]
        part[(distance > -1.5) & (part <= 5)] = 0


def _airways(grid: Grid, a: Anatomy, body: Body) -> None:
    carina = np.array((0.0, -8.0, a.carina))
    pieces = [Tube(np.array((2.0, -2.0, a.apex + 60)), carina, 8.0)]
    for sign, drop in ((1, 22.0), (-1, 32.0)):
        hilum = np.array((sign * 34.0, -10.0, a.carina - drop))
        ends = [
            (sign * 62.0, 8.0, a.carina + 22),
            (sign * 58.0, -30.0, a.carina - 72),
            (sign * 60.0, 36.0, a.carina - 48),
        ]
        pieces.append(Tube(carina, hilum, 6.2))
        pieces += [Tube(hilum, np.array(end), 2.9) for end in ends]
    drawn = [(tube, *tube_distance(grid, tube, 2 + grid.edge)) for tube in pieces]
    for _, box, distance in drawn:
        blend(body.hu[box], grid.soft(distance + np.float32(1.6)), 10.0)
    for tube, box, distance in drawn:
        blend(body.hu[box], grid.soft(distance), LUMEN)
        if tube.radius > 5:
            part = body.labels[box]
            part[(distance > -1.5) & (part <= 5)] = 0
