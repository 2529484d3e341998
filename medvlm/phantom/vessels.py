"""Branching vessels and airways: trees grown towards random points of the lungs, drawn as tapering tubes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medvlm.phantom.body import Body
from medvlm.phantom.grid import Grid, blend
from medvlm.phantom.patient import HEART, Anatomy

TERMINALS = 130
LUMEN = -985.0


@dataclass(frozen=True)
class Tube:
    """A straight piece with round ends: start, end (anatomy mm) and radius (mm)."""

    start: np.ndarray
    end: np.ndarray
    radius: float


def grow_tree(rng: np.random.Generator, root: np.ndarray, targets: np.ndarray) -> list[Tube]:
    """Connect `targets` (`[N, 3]` mm) to `root`: from the nearest outwards, each to the closest earlier point.

    Radii follow Murray's law (close to it: the power 1/0.36 of a parent's radius is the sum of its children's), so
    that the tree is thick at the hilum and thin at the pleura. Every piece is bent once, as vessels are not straight.
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
    radii = rng.uniform(0.85, 1.05) * leaves**0.36
    tubes = []
    for n in range(1, len(points)):
        start, end, radius = points[parents[n]], points[n], float(radii[n])
        middle = (start + end) / 2 + rng.normal(0, 0.07, 3) * np.linalg.norm(end - start)
        tubes += [Tube(start, middle, radius), Tube(middle, end, 0.9 * radius)]
    return tubes


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
        part = body.labels[box]
        outside = part != HEART
        blend(body.hu[box], grid.soft(distance + 2) * outside, -40.0)
        blend(body.hu[box], grid.soft(distance) * outside, a.blood_hu)
        # Lobes end where the vessel begins; the heart keeps its label.
        part[(distance > -1.5) & (part <= 5)] = 0


def _airways(grid: Grid, a: Anatomy, body: Body) -> None:
    """Trachea, main and lobar bronchi: a thin wall around air; lobar bronchi show only inside the lungs."""
    carina = np.array((0.0, -8.0, a.carina))
    central = [Tube(np.array((2.0, -2.0, a.apex + 60)), carina, 8.0)]
    lobar = []
    for sign, drop in ((1, 22.0), (-1, 32.0)):
        hilum = np.array((sign * 34.0, -10.0, a.carina - drop))
        central.append(Tube(carina, hilum, 6.2))
        for x, y, z in ((62.0, 8.0, 22.0), (58.0, -30.0, -72.0), (66.0, 30.0, -48.0)):
            lobar.append(Tube(hilum, np.array((sign * x, y, a.carina + z)), 2.8))
    for tubes, shown_from in ((lobar, -1.0), (central, -1e6)):
        drawn = []
        for tube in tubes:
            box, distance = tube_distance(grid, tube, 2 + grid.edge)
            drawn.append((box, distance, (body.depth[box] > shown_from) & (body.labels[box] != HEART)))
        for box, distance, shown in drawn:
            blend(body.hu[box], grid.soft(distance + np.float32(1.5)) * shown, 10.0)
        for box, distance, shown in drawn:
            blend(body.hu[box], grid.soft(distance) * shown, LUMEN)
            if tubes is central:
                part = body.labels[box]
                part[(distance > -1.5) & (part <= 5)] = 0
