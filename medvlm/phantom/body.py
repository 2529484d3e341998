"""The healthy body: chest wall, bones, mediastinum, heart, abdomen and lungs with their lobes.

Every organ is a closed formula over the grid's coordinates: most are a function of the cross-section (x, y) compared
with a profile along z, so that an organ costs one or two passes over the voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medvlm.phantom.grid import Grid, blend, take
from medvlm.phantom.patient import HEART, Anatomy

AIR, FAT, MUSCLE, SKIN = -1000.0, -100.0, 48.0, 25.0


@dataclass(frozen=True, eq=False)
class Body:
    """A rendered body, `[K, J, I]` arrays.

    Attributes:
        hu: float32 Hounsfield units without noise; the lungs hold their density without vessels.
        depth: float32 signed distance (mm) to the surface of the lung cavity, positive inside; approximate beyond a
            few millimetres.
        labels: uint8, lobes 1-5 and heart 6.
        fissure: float32 distance (mm) to the nearest fissure inside the lungs.
        heart_width, chest_width: largest transverse extents in mm along the patient's x.
    """

    hu: np.ndarray
    depth: np.ndarray
    labels: np.ndarray
    fissure: np.ndarray
    heart_width: float
    chest_width: float


def render_body(grid: Grid, anatomy: Anatomy, pose: np.ndarray, prone: bool) -> Body:
    """Render the body of that anatomy; `pose` (`[4, 4]`) turns it, `prone` puts the table in front of it."""
    hu = np.full(grid.shape, AIR, np.float32)
    cage, section = _cage_distance(grid, anatomy)
    _chest_wall(grid, anatomy, hu)
    _table(grid, anatomy, hu, prone)
    _bones(grid, anatomy, hu, cage)
    depth = _lung_cavity(grid, anatomy, cage)
    _inside(grid, anatomy, hu, cage)
    _spine(grid, anatomy, hu)
    heart = _heart(grid, anatomy, hu, cage, depth)
    share = grid.soft(depth)
    gravity = grid.y * np.float32((1 if prone else -1) * 45 / anatomy.cage[1])
    blend(hu, share, (gravity + np.float32(anatomy.lung_hu)) if section is not None else 0.0)
    labels, fissure = _lobes(grid, anatomy, depth)
    box, inside = heart
    view = labels[box]
    view[inside] = HEART
    return Body(hu, depth, labels, fissure, *_widths(anatomy, pose))


def superellipse(x: np.ndarray, y: np.ndarray, width: float, height: float, power: float) -> np.ndarray:
    """Radius of `(x, y)` in units of the superellipse with those half axes (1 on its outline)."""
    total = np.abs(x / np.float32(width)) ** np.float32(power) + np.abs(y / np.float32(height)) ** np.float32(power)
    return np.asarray(total ** np.float32(1 / power))


def profile(z: np.ndarray, heights: list[float], values: list[float]) -> np.ndarray:
    """Piecewise linear function of z, float32."""
    return np.interp(z, heights, values).astype(np.float32)


def _cage_distance(grid: Grid, a: Anatomy) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance to the inner surface of the rib cage (positive inside) and the radius of the section."""
    section = superellipse(grid.x, grid.y, *a.cage, 2.3)
    # The cage is a cylinder below and closes like a dome towards the apex.
    rise = np.clip((grid.z + 15) / np.float32(a.apex + 15), 0, 1)
    scale = np.sqrt(np.maximum(1 - rise ** np.float32(2.8), 0))
    distance = (scale - section) * np.float32(min(a.cage))
    # The dome is steep: near the top the distance along z is the shorter one.
    return np.minimum(distance, np.float32(a.apex) - grid.z), section


def _chest_wall(grid: Grid, a: Anatomy, hu: np.ndarray) -> None:
    width, height = a.cage[0] + a.wall[0], a.cage[1] + a.wall[1]
    section = superellipse(grid.x, grid.y + np.float32(4), width, height, 2.5)
    scale = profile(grid.z, [a.bottom, 0, a.apex - 20, a.apex + 30], [0.99, 1.0, 0.97, 0.86])
    distance = (scale - section) * np.float32(height)
    blend(hu, grid.soft(distance), SKIN)
    blend(hu, grid.soft(distance - np.float32(2.2)), FAT)
    blend(hu, grid.soft(distance - np.float32(a.fat)), MUSCLE)


def _table(grid: Grid, a: Anatomy, hu: np.ndarray, prone: bool) -> None:
    """A curved table top below the body; it follows gravity, so it is in front of a prone patient."""
    down = grid.y if prone else -grid.y
    surface = np.float32(a.cage[1] + a.wall[1] + 6) - grid.x**2 * np.float32(1 / 1500)
    distance = np.float32(3.5) - np.abs(down - surface - np.float32(3.5))
    blend(hu, grid.soft(distance) * (hu < -900), -420.0)


def _bones(grid: Grid, a: Anatomy, hu: np.ndarray, cage: np.ndarray) -> None:
    """Ribs (oblique rings in the shell around the cage), sternum and shoulder blades."""
    shell = np.flatnonzero((cage < 1) & (cage > -12))
    x, y, z = (np.broadcast_to(axis, grid.shape).reshape(-1)[shell] for axis in (grid.x, grid.y, grid.z))
    depth = cage.reshape(-1)[shell]
    phase = (z + np.float32(a.rib_slope) * y + np.float32(a.rib_phase)) % np.float32(a.rib_pitch)
    along, across = (phase - np.float32(a.rib_pitch / 2)) / np.float32(6.0), (depth + np.float32(5.5)) / np.float32(4.6)
    rib = (1 - np.sqrt(along**2 + across**2)) * np.float32(5)
    front = (y > 0) & (np.abs(x) < 48)
    rib[front & (np.abs(x) < 30)] = -9
    values = np.where(front, np.float32(95), np.where(rib < 1.8, np.float32(720), np.float32(240)))
    flat = hu.reshape(-1)
    share = grid.soft(rib)
    flat[shell] += share * (values - flat[shell])
    plate = np.array((20.0, 6.0, 75.0))
    middle = np.array((0.0, a.cage[1] + 7.0, 10.0))
    _ellipsoid(grid, hu, middle, plate, 0.0, 260.0)
    for side in (1, -1):
        blade = np.array((side * (0.66 * a.cage[0]), -a.cage[1] - 6.0, a.apex - 45))
        _ellipsoid(grid, hu, blade, np.array((38.0, 4.0, 52.0)), side * 0.55, 420.0)


def _ellipsoid(
    grid: Grid, hu: np.ndarray, centre: np.ndarray, axes: np.ndarray, turn: float, value: float
) -> tuple[tuple[slice, slice, slice], np.ndarray]:
    """Draw an ellipsoid turned about z; returns its box and its signed distance there."""
    cos, sin = np.cos(turn), np.sin(turn)
    reach = np.array((np.hypot(axes[0] * cos, axes[1] * sin), np.hypot(axes[0] * sin, axes[1] * cos), axes[2]))
    box = grid.box(centre - reach - grid.edge, centre + reach + grid.edge)
    x, y, z = (axis - np.float32(c) for axis, c in zip(grid.local(box), centre))
    u = (x * np.float32(cos) + y * np.float32(sin)) / np.float32(axes[0])
    v = (y * np.float32(cos) - x * np.float32(sin)) / np.float32(axes[1])
    w = z / np.float32(axes[2])
    radius = np.sqrt(u * u + v * v + w * w)
    # First-order distance: (1 - r) scaled by the local size, exact on the surface along the axes of a sphere.
    distance = (1 - radius) * np.float32(np.min(axes))
    blend(hu[box], grid.soft(distance), value)
    return box, distance


def _lung_cavity(grid: Grid, a: Anatomy, cage: np.ndarray) -> np.ndarray:
    """Signed distance to the surface of both pleural cavities: cage minus mediastinum, spine and diaphragm."""
    side = np.abs(grid.x)
    middle = 9 + 25 * np.exp(-(((grid.y + 4) / np.float32(0.5 * a.cage[1])) ** 2))
    width = profile(grid.z, [a.bottom, -20, a.carina, a.apex], [4.0, 2.0, 0.0, -4.0])
    depth = np.minimum(cage, side - middle - width)
    spine = superellipse(grid.x, grid.y - np.float32(a.spine - 12), 26, 38, 2.2)
    np.minimum(depth, (spine - 1) * np.float32(28), out=depth)
    for sign, dome in zip((1, -1), a.domes):
        centre = sign * 0.5 * a.cage[0]
        u = (grid.x - np.float32(centre)) / np.float32(0.62 * a.cage[0])
        v = (grid.y - np.float32(12)) / np.float32(1.05 * a.cage[1])
        fall = np.float32(a.recess) * np.minimum(u * u * np.float32(0.8) + v * v, np.float32(1.05))
        surface = np.float32(dome) - fall
        half = grid.z - surface
        np.minimum(depth, np.where(grid.x * sign < 0, np.float32(1e3), half * np.float32(0.8)), out=depth)
    return depth


def _inside(grid: Grid, a: Anatomy, hu: np.ndarray, cage: np.ndarray) -> None:
    """What fills the cage besides the lungs: mediastinal fat and muscle above, liver and stomach below."""
    share = grid.soft(cage)
    below = np.clip((np.float32(max(a.domes) + 4) - grid.z) / 6, 0, 1)
    organ = np.where(grid.x > -25, np.float32(a.liver_hu), np.float32(a.liver_hu - 12))
    blend(hu, share, (organ - np.float32(5)) * below + np.float32(5))
    bubble = np.array((-0.5 * a.cage[0], 25.0, a.domes[1] - 32))
    _ellipsoid(grid, hu, bubble, np.array((24.0, 20.0, 14.0)), 0.3, -850.0)


def _spine(grid: Grid, a: Anatomy, hu: np.ndarray) -> None:
    low, high = float(grid.z.min()), float(grid.z.max())
    box = grid.box(np.array((-45.0, a.spine - 62, low)), np.array((45.0, a.spine + 24, high)))
    x, y, z = grid.local(box)
    y = y - np.float32(a.spine)
    part = hu[box]
    body = (1 - superellipse(x, y, 18, 14.5, 2.2)) * np.float32(14)
    disc = np.abs((z + np.float32(a.rib_phase)) % np.float32(a.rib_pitch) - np.float32(a.rib_pitch / 2)) < 2.4
    arch = np.maximum((1 - superellipse(x, y + 22, 17, 12, 2.0)) * 12, 3 - np.abs(x) + 0 * y)
    arch = np.minimum(arch, np.minimum(y + 52, -y))
    transverse = np.minimum(4 - np.abs(y + 17), np.where(disc, np.float32(-9), 34 - np.abs(x)))
    blend(part, grid.soft(np.maximum(arch, transverse)), 380.0)
    blend(part, grid.soft(body), np.where(disc, np.float32(85), np.float32(520)))
    blend(part, grid.soft(body - 2), np.where(disc, np.float32(80), np.float32(190)))
    blend(part, grid.soft((1 - superellipse(x, y + 21, 9, 8, 2.0)) * 8), 25.0)


def _heart(
    grid: Grid, a: Anatomy, hu: np.ndarray, cage: np.ndarray, depth: np.ndarray
) -> tuple[tuple[slice, slice, slice], np.ndarray]:
    """Heart with its fat; it pushes the lungs away (`depth` is lowered). Returns its box and mask there."""
    centre, axes = np.array(a.heart_centre), np.array(a.heart_axes)
    # A layer of fat around the heart keeps its outline visible.
    fat_box, fat = _ellipsoid(grid, hu, centre, axes + 5, a.heart_turn, -85.0)
    np.minimum(depth[fat_box], -fat, out=depth[fat_box])
    box, distance = _ellipsoid(grid, hu, centre, axes, a.heart_turn, 42.0)
    np.minimum(distance, take(cage, box) - 3, out=distance)
    _ellipsoid(grid, hu, centre, axes * 0.72, a.heart_turn, a.blood_hu)
    return box, distance > 0


def _lobes(grid: Grid, a: Anatomy, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lobe labels inside the lungs and the distance to the nearest fissure."""
    labels = np.zeros(grid.shape, np.uint8)
    right = grid.x > 0
    (z_r, slope_r, bend_r), (z_l, slope_l, bend_l) = a.oblique
    outwards = np.abs(grid.x) - np.float32(0.5 * a.cage[0])
    plane_r = np.float32(slope_r) * grid.y - np.float32(z_r) + np.float32(bend_r) * outwards**2
    plane_l = np.float32(slope_l) * grid.y - np.float32(z_l) + np.float32(bend_l) * outwards**2
    oblique = np.where(right, plane_r, plane_l) + grid.z
    level = grid.z - np.float32(a.horizontal[0]) - np.float32(a.horizontal[1]) * grid.y
    upper = oblique > 0
    labels[...] = np.where(right, np.where(level > 0, np.uint8(1), np.uint8(2)), np.uint8(4))
    labels[~upper] = 3
    labels[~upper & ~right] = 5
    labels[depth <= 0] = 0
    fissure = np.abs(oblique) * np.float32(1 / np.hypot(1, (slope_r + slope_l) / 2))
    np.minimum(fissure, np.where(right & upper, np.abs(level), np.float32(99)), out=fissure)
    return labels, fissure


def _widths(a: Anatomy, pose: np.ndarray) -> tuple[float, float]:
    """Transverse widths (mm along the patient's x) of the heart and of the inner rib cage."""
    turned = a.heart_turn + np.arctan2(pose[1, 0], pose[0, 0])
    heart = 2 * np.hypot(a.heart_axes[0] * np.cos(turned), a.heart_axes[1] * np.sin(turned))
    angle = np.linspace(0, 2 * np.pi, 2881)
    outline = np.stack(
        [
            a.cage[0] * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** (2 / 2.3),
            a.cage[1] * np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (2 / 2.3),
        ]
    )
    across = pose[0, :2] @ outline
    return float(heart), float(across.max() - across.min())
