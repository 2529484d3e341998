"""Nodules and pleural effusions with exact sizes.

A nodule is a star-shaped, centrally symmetric body: `r(u)` along the unit direction u, an ellipsoid whose radius is
modulated by even waves. For such a body the longest diameter of a plane through its centre is twice the largest radius
in that plane, and its volume is the mean of r³ over all directions times 4π/3: both come from the shape, not from
voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medvlm.phantom.body import Body
from medvlm.phantom.grid import Grid, blend
from medvlm.phantom.patient import EFFUSION, HEART, LOBES, NODULE, NodulePlan, Side

SUBSAMPLES = 3


@dataclass(frozen=True, eq=False)
class Nodule:
    """A nodule as placed.

    Attributes:
        lobe: label 1-5 of the lobe of its centre.
        grade: `solid` or `part-solid`.
        long_axis: largest diameter in the axial image plane through the centre, mm.
        volume: mL.
        centre: RAS+ millimetres of the patient.
        slice: index along K of the slice nearest to the centre.
        density: HU of the (solid) tissue.
        neighbour: `pleura`, `vessel` or empty.
    """

    lobe: int
    grade: str
    long_axis: float
    volume: float
    centre: tuple[float, float, float]
    slice: int
    density: float
    neighbour: str

    @property
    def side(self) -> Side:
        return "right" if self.lobe <= 3 else "left"

    @property
    def lobe_name(self) -> str:
        return LOBES[self.lobe]


@dataclass(frozen=True)
class Effusion:
    """A pleural effusion: side and true volume in mL."""

    side: Side
    volume: float


@dataclass(frozen=True, eq=False)
class Shape:
    """`frame` maps mm offsets to the unit sphere of the plain ellipsoid; `waves` (`[N, 3]`) modulate its radius."""

    frame: np.ndarray
    waves: np.ndarray
    depth: float

    def radius(self, direction: np.ndarray) -> np.ndarray:
        """Distance in mm from the centre to the surface along unit vectors `[..., 3]`."""
        mapped = direction @ self.frame.T
        norm = np.linalg.norm(mapped, axis=-1)
        return (1 + self._modulation(mapped / norm[..., None])) / norm

    def inside(self, offset: np.ndarray) -> np.ndarray:
        """Whether mm offsets `[..., 3]` from the centre lie inside."""
        mapped = offset @ self.frame.T
        norm = np.linalg.norm(mapped, axis=-1)
        return norm <= 1 + self._modulation(mapped / np.maximum(norm, 1e-6)[..., None])

    def _modulation(self, unit: np.ndarray) -> np.ndarray:
        # cos is even: opposite directions have the same radius, which makes the longest diameter exact.
        return self.depth * np.cos(unit @ self.waves.T).mean(axis=-1)

    def scaled(self, factor: float) -> Shape:
        return Shape(self.frame / factor, self.waves, self.depth)


def sphere_points(count: int) -> np.ndarray:
    """`[count, 3]` directions spread evenly over the unit sphere (golden spiral)."""
    n = np.arange(count) + 0.5
    z = 1 - 2 * n / count
    angle = np.pi * (1 + np.sqrt(5)) * n
    ring = np.sqrt(1 - z * z)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)


_SPHERE = sphere_points(1500)


def draw_shape(rng: np.random.Generator, long_axis: float, plane: np.ndarray) -> Shape:
    """A random shape whose longest diameter in the plane spanned by `plane` (`[2, 3]` unit vectors) is `long_axis`."""
    axes = np.array((1.0, rng.uniform(0.65, 0.98), rng.uniform(0.65, 1.0)))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    waves = rng.normal(size=(5, 3)) * rng.choice((3.0, 7.0))
    shape = Shape((turn / axes).T.copy(), waves, rng.uniform(0.0, 0.35))
    return shape.scaled(long_axis / in_plane_diameter(shape, plane))


def in_plane_diameter(shape: Shape, plane: np.ndarray) -> float:
    """Longest diameter (mm) of the section through the centre spanned by `plane`."""
    angle = np.linspace(0, np.pi, 361)
    directions = np.cos(angle)[:, None] * plane[0] + np.sin(angle)[:, None] * plane[1]
    return float(2 * shape.radius(directions).max())


def shape_volume(shape: Shape) -> float:
    """Volume in mL."""
    return float(4 / 3 * np.pi * np.mean(shape.radius(_SPHERE) ** 3) / 1000)


def place_effusion(grid: Grid, body: Body, side: Side, millilitres: float, prone: bool) -> Effusion:
    """Fill the dependent part of one pleural cavity: a crescent with a meniscus, compressing the lung above it."""
    sign = 1 if side == "right" else -1
    # The rim, where voxels hold a little lung, is drawn too: else a dark line would part fluid and chest wall.
    cavity = np.flatnonzero((body.depth > -0.5 * grid.edge) & (grid.x * sign > 0) & (body.labels != HEART))
    x, y, z = (np.broadcast_to(axis, grid.shape).reshape(-1)[cavity] for axis in (grid.x, grid.y, grid.z))
    depth = body.depth.reshape(-1)[cavity]
    half = np.float32(float(np.abs(x).max()) / 2)
    level = (-y if prone else y) + np.float32(0.22) * z
    level -= np.float32(22) * ((np.abs(x) - half) / half) ** 2 + np.float32(14) * np.exp(depth * np.float32(-1 / 6))
    flat, labels = body.hu.reshape(-1), body.labels.reshape(-1)
    lung = labels[cavity] > 0
    count = min(round(millilitres * 1000 / grid.voxel_volume), int(0.7 * lung.sum()))
    surface = np.partition(level[lung], count)[count]
    over = level - surface
    values = flat[cavity]
    values += lung * np.float32(330) * np.exp(np.maximum(over, 0) * np.float32(-1 / 5)) * (over < 30)
    values += grid.soft(-over) * (np.float32(11) - values)
    flat[cavity] = values
    wet = (over < 0) & lung
    labels[cavity[wet]] = EFFUSION
    return Effusion(side, float(wet.sum() * grid.voxel_volume / 1000))


def place_nodule(
    rng: np.random.Generator, grid: Grid, body: Body, plan: NodulePlan, vessels: np.ndarray, pose: np.ndarray
) -> Nodule | None:
    """Place one nodule wholly inside aerated lung of its lobe and draw it; None where nothing of its size fits."""
    plane = (grid.step[:, :2] / np.linalg.norm(grid.step[:, :2], axis=0)).T
    shape = draw_shape(rng, plan.long_axis, plane)
    reach = float(shape.radius(_SPHERE).max())
    centre = _find_place(rng, grid, body, plan, reach, vessels)
    if centre is None:
        return None
    density = float(rng.uniform(-20, 60)) if rng.random() > 0.08 else float(rng.uniform(200, 450))
    box = grid.box(centre - reach, centre + reach)
    share = _coverage(grid, shape, centre, box)
    hu, labels = body.hu[box], body.labels[box]
    if plan.grade == "part-solid":
        blend(hu, share, float(rng.uniform(-660, -520)))
        core = _coverage(grid, shape.scaled(float(rng.uniform(0.4, 0.65))), centre, box)
        blend(hu, core, density)
    else:
        blend(hu, share, density)
    # A nodule smaller than a voxel still has one: the voxel that holds most of it.
    labels[share >= min(0.5, float(share.max()))] = NODULE
    place = pose[:3, :3] @ centre + pose[:3, 3]
    slice_index = int(np.clip(round(float(grid.index(centre)[0])), 0, grid.shape[0] - 1))
    x, y, z = (round(float(value), 2) for value in place)
    return Nodule(
        plan.lobe, plan.grade, plan.long_axis, shape_volume(shape), (x, y, z), slice_index, density, plan.neighbour
    )


def _find_place(
    rng: np.random.Generator, grid: Grid, body: Body, plan: NodulePlan, reach: float, vessels: np.ndarray
) -> np.ndarray | None:
    """A centre in the lobe at least `reach` from the pleura, from effusion and from other nodules."""
    candidates = np.flatnonzero((body.labels == plan.lobe) & (body.depth > reach + 1))
    if plan.neighbour == "pleura":
        near = candidates[body.depth.reshape(-1)[candidates] < reach + 5]
        candidates = near if len(near) else candidates
    if not len(candidates):
        return None
    for flat in candidates[rng.integers(len(candidates), size=60)]:
        index = np.unravel_index(int(flat), grid.shape)
        centre = np.array([np.broadcast_to(axis, grid.shape)[index] for axis in (grid.x, grid.y, grid.z)], float)
        if plan.neighbour == "vessel" and len(vessels):
            towards = vessels[np.argmin(np.linalg.norm(vessels - centre, axis=1))] - centre
            gap = float(np.linalg.norm(towards))
            centre = centre + towards * max(0.0, 1 - 0.9 * reach / max(gap, 1e-6))
        box = grid.box(centre - reach - 3, centre + reach + 3)
        around = body.labels[box]
        if around.size and not np.isin(around, (EFFUSION, NODULE)).any() and _label_at(grid, body, centre) == plan.lobe:
            corner = np.clip(np.round(grid.index(centre)).astype(int), 0, np.array(grid.shape) - 1)
            if body.depth[tuple(corner)] > reach:
                return centre
    return None


def _label_at(grid: Grid, body: Body, point: np.ndarray) -> int:
    index = np.round(grid.index(point)).astype(int)
    if (index < 0).any() or (index >= grid.shape).any():
        return 0
    return int(body.labels[tuple(index)])


def _coverage(grid: Grid, shape: Shape, centre: np.ndarray, box: tuple[slice, slice, slice]) -> np.ndarray:
    """Share (0..1) of each voxel of a box that lies inside a shape, by sampling every voxel several times."""
    x, y, z = np.broadcast_arrays(*grid.local(box))
    voxels = np.stack([x, y, z], axis=-1) - centre
    total = np.zeros(voxels.shape[:3], np.float32)
    ticks = (np.arange(SUBSAMPLES) + 0.5) / SUBSAMPLES - 0.5
    for a in ticks:
        for b in ticks:
            for c in ticks:
                total += shape.inside(voxels + grid.step @ np.array((a, b, c)))
    return total / SUBSAMPLES**3
