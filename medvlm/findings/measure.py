"""Masks → numbers: components, volume, axes, place.

Voxels are boxes, not points. A diameter is taken between points a quarter of a voxel outside the outermost centres:
between centres it comes out short, between faces long (the longest of many directions profits from every uneven edge).
With a quarter, digital spheres of 4 to 25 mm come out within 0.25 mm on average (tests/findings/test_measure.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, KDTree, QhullError

from medvlm.findings.codes import code
from medvlm.findings.finding import Code, Evidence, Measurement
from medvlm.imaging.study import Volume

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Component:
    """One connected part of a structure.

    Attributes:
        label: number of the structure in the mask.
        number: 1 for the largest component of that label.
        voxels: how many.
        volume: mL, or None where millimetres are unknown.
        long_axis: longest diameter in an axial slice, mm (RECIST), or None.
        short_axis: longest chord perpendicular to it in the same slice, mm, or None.
        diameter: longest diameter in 3-D, mm, or None.
        centroid: RAS+ mm.
        box: RAS+ mm, `(min x, min y, min z, max x, max y, max z)`.
        slice: index along the canonical superior axis of the slice with the largest area.
        mean: mean intensity (HU in CT), NaN for colour images.
        deviation: its standard deviation.
        touches_border: cut by the edge of the volume, so that its size is not its whole size.
        mask: the component's own boolean mask within `region`.
        region: slices of the volume's array.
    """

    label: int
    number: int
    voxels: int
    volume: float | None
    long_axis: float | None
    short_axis: float | None
    diameter: float | None
    centroid: tuple[float, float, float]
    box: tuple[float, float, float, float, float, float]
    slice: int
    mean: float
    deviation: float
    touches_border: bool
    mask: np.ndarray
    region: Box

    def measurements(self) -> tuple[Measurement, ...]:
        """Axes and volume as coded measurements; none of anatomy that is cut or uncalibrated."""
        rows: list[Measurement] = []
        if not self.touches_border:
            for key, value, unit in (
                ("long_axis", self.long_axis, "mm"),
                ("short_axis", self.short_axis, "mm"),
                ("volume", self.volume, "mL"),
            ):
                if value is not None:
                    rows.append(Measurement(code(key), value, unit))
        return tuple(rows)

    def evidence(self, series: str) -> Evidence:
        """Where this component can be seen."""
        return Evidence(series, self.label, self.number, self.slice, self.centroid, self.box)


def components(
    mask: np.ndarray, volume: Volume, label: int = 1, minimum_ml: float = 0.0, minimum_voxels: int = 1
) -> list[Component]:
    """The connected components (26 neighbours) of one label, from the largest to the smallest.

    Args:
        mask: `[I, J, K]` label map on the grid of `volume`.
        volume: gives geometry and intensities.
        label: number of the structure in the mask.
        minimum_ml: smaller components are noise (ignored where millimetres are unknown).
        minimum_voxels: likewise, in voxels.
    """
    if mask.shape != volume.array.shape[:3]:
        raise ValueError(f"mask {mask.shape} and volume {volume.array.shape[:3]} are on different grids")
    outer = bounding_box(mask == label)
    if outer is None:
        return []
    inside = mask[outer] == label
    numbered, count = ndimage.label(inside, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(numbered.ravel(), minlength=count + 1)
    regions = ndimage.find_objects(numbered)
    least = max(minimum_voxels, minimum_ml * 1000 / volume.voxel_volume if volume.calibrated else 0)
    order = sorted((n for n in range(1, count + 1) if sizes[n] >= least), key=lambda n: (-sizes[n], n))
    found = []
    for number, original in enumerate(order, start=1):
        local = regions[original - 1]
        own = numbered[local] == original
        region = tuple(
            slice(whole.start + part.start, whole.start + part.stop) for whole, part in zip(outer, local, strict=True)
        )
        found.append(_component(own, region, volume, label, number))  # type: ignore[arg-type]
    return found


def bounding_box(mask: np.ndarray) -> Box | None:
    """The smallest box of a boolean `[I, J, K]` mask, or None where it is empty."""
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        used = np.flatnonzero(mask.any(axis=others))
        if used.size == 0:
            return None
        box.append(slice(int(used[0]), int(used[-1]) + 1))
    return box[0], box[1], box[2]


def _component(own: np.ndarray, region: Box, volume: Volume, label: int, number: int) -> Component:
    start = np.array([part.start for part in region], dtype=float)
    stop = np.array([part.stop for part in region], dtype=float)
    voxels = int(own.sum())
    inside = np.argwhere(own)
    corners = np.array(np.meshgrid(*zip(start - 0.5, stop - 0.5, strict=True))).reshape(3, -1).T
    placed = volume.to_patient(corners)
    plane, flipped = superior_axis(volume.affine)
    areas = own.sum(axis=tuple(axis for axis in range(3) if axis != plane))
    best = int(areas.argmax()) + region[plane].start
    long_axis = short_axis = diameter = None
    if volume.calibrated:
        long_axis, short_axis = _recist(own, plane, volume.affine)
        diameter = _longest(inside, volume.affine[:3, :3])[0]
    values = volume.array[region][own] if not volume.is_rgb else np.array([np.nan])
    shape = volume.array.shape
    return Component(
        label=label,
        number=number,
        voxels=voxels,
        volume=voxels * volume.voxel_volume / 1000 if volume.calibrated else None,
        long_axis=long_axis,
        short_axis=short_axis,
        diameter=diameter,
        centroid=_three(volume.to_patient(inside.mean(axis=0) + start)),
        box=(*_three(placed.min(axis=0)), *_three(placed.max(axis=0))),
        slice=shape[plane] - 1 - best if flipped else best,
        mean=float(values.mean(dtype=np.float64)),
        deviation=float(values.std(dtype=np.float64)),
        touches_border=any(
            size > 1 and (part.start == 0 or part.stop == size) for part, size in zip(region, shape, strict=False)
        ),
        mask=own,
        region=region,
    )


def _three(point: np.ndarray) -> tuple[float, float, float]:
    return float(point[0]), float(point[1]), float(point[2])


def superior_axis(affine: np.ndarray) -> tuple[int, bool]:
    """Which array axis runs closest to superior, and whether it runs downwards."""
    from nibabel.orientations import io_orientation

    orientation = io_orientation(affine)
    axis = int(np.flatnonzero(orientation[:, 0] == 2)[0])
    return axis, bool(orientation[axis, 1] < 0)


def _recist(own: np.ndarray, plane: int, affine: np.ndarray) -> tuple[float, float]:
    """The longest in-plane diameter over all axial slices, and the longest chord perpendicular to it there."""
    axes = [axis for axis in range(3) if axis != plane]
    vectors = affine[:3, axes]  # [3, 2] mm
    best = (0.0, 0.0)
    layers = np.moveaxis(own, plane, 0)
    counts = layers.sum(axis=(1, 2))
    edges = np.linalg.norm(vectors, axis=0)
    for index in np.argsort(-counts, kind="stable"):
        # The edges of its box bound a slice's diameter: most slices of a large organ need no hull.
        spans = [np.flatnonzero(layers[index].any(axis=other)) for other in (1, 0)]
        if (
            counts[index] == 0
            or np.hypot(*((s[-1] - s[0] + 1) * e for s, e in zip(spans, edges, strict=True))) <= best[0]
        ):
            continue
        length, hull, ends = _longest(np.argwhere(layers[index]), vectors)
        if length > best[0]:
            best = (length, _perpendicular_chord(hull, ends))
    return best


def _longest(voxels: np.ndarray, vectors: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Longest diameter: mm, hull points `[N, 3]` mm in patient space, its two ends `[2, 3]`.

    Args:
        voxels: `[N, D]` indices, D = 2 or 3.
        vectors: `[3, D]` mm of one step along each index.
    """
    dimensions = voxels.shape[1]
    half = np.concatenate([np.eye(dimensions), -np.eye(dimensions)]) / 4
    points: np.ndarray = (_shell(voxels)[:, None, :] + half).reshape(-1, dimensions)
    points = np.unique(points, axis=0)
    with suppress(QhullError):  # flat beyond rounding: every point is then kept
        points = points[ConvexHull(points).vertices]  # an affine map keeps hull vertices, so indices will do
    placed = points @ vectors.T
    if len(placed) > 1500:
        placed = _extreme(placed)
    squared = ((placed[:, None] - placed[None]) ** 2).sum(axis=-1)
    first, second = np.unravel_index(int(squared.argmax()), squared.shape)
    return float(np.sqrt(squared[first, second])), placed, placed[[first, second]]


def _shell(voxels: np.ndarray) -> np.ndarray:
    """Only the first and last voxel of each row: the others cannot be hull vertices."""
    order = np.lexsort(voxels.T)
    ordered = voxels[order]
    change = np.any(np.diff(ordered[:, 1:], axis=0) != 0, axis=1)
    return ordered[
        np.unique(np.concatenate([[0], np.flatnonzero(change), np.flatnonzero(change) + 1, [len(ordered) - 1]]))
    ]


def _extreme(points: np.ndarray) -> np.ndarray:
    """Points that are extreme in one of many directions; enough for the diameter of a large smooth shape."""
    angles = np.random.default_rng(0).normal(size=(points.shape[1], 1000))
    heights = points @ (angles / np.linalg.norm(angles, axis=0))
    return points[np.unique(np.concatenate([heights.argmax(axis=0), heights.argmin(axis=0)]))]


def _perpendicular_chord(hull: np.ndarray, ends: np.ndarray) -> float:
    """Longest chord of a planar convex polygon (points in 3-D) perpendicular to the line between `ends`."""
    along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    centred = hull - ends[0]
    across = centred - np.outer(centred @ along, along)
    widest = across[np.linalg.norm(across, axis=1).argmax()]
    width = np.linalg.norm(widest)
    if width == 0:
        return 0.0
    position, height = centred @ along, centred @ (widest / width)
    at = np.unique(position)
    return float((_envelope(position, height, at) + _envelope(position, -height, at)).max())


def _envelope(position: np.ndarray, height: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The upper chain of a convex polygon's vertices, interpolated at `at`."""
    chain: list[tuple[float, float]] = []
    for x, y in sorted(zip(position, height, strict=True)):
        if chain and chain[-1][0] == x:
            chain.pop()  # same place, lower
        while len(chain) > 1 and _turns_up(chain[-2], chain[-1], (x, y)):
            chain.pop()
        chain.append((x, y))
    xs, ys = np.array(chain).T
    return np.interp(at, xs, ys)


def _turns_up(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) >= 0


def midline(mask: np.ndarray, volume: Volume) -> float:
    """RAS+ x (mm) that halves a structure such as both lungs or the body: the middle of its extent."""
    box = bounding_box(mask)
    if box is None:
        raise ValueError("the midline of an empty mask")
    low, high = _extent(mask, box, volume)
    return (low + high) / 2


def _extent(mask: np.ndarray, box: Box, volume: Volume) -> tuple[float, float]:
    """Lowest and highest RAS+ x (mm) of the voxel faces of a mask."""
    own = np.argwhere(mask[box])
    x = own @ volume.affine[0, :3] + volume.affine[0, :3] @ [part.start for part in box] + volume.affine[0, 3]
    half = np.abs(volume.affine[0, :3]).max() / 2
    return float(x.min() - half), float(x.max() + half)


def side(centroid: tuple[float, float, float], middle: float, volume: Volume) -> Code | None:
    """Right or left of the midline; None where the orientation is unknown."""
    if not volume.oriented:
        return None
    return code("right" if centroid[0] > middle else "left")


def surrounding_label(component: Component, mask: np.ndarray, among: Collection[int], reach: int = 2) -> int | None:
    """Which of the labels `among` surrounds a component most (a lesion's lobe), or None where none is near."""
    grown = tuple(
        slice(max(part.start - reach, 0), min(part.stop + reach, size))
        for part, size in zip(component.region, mask.shape, strict=True)
    )
    own = np.zeros([part.stop - part.start for part in grown], dtype=bool)
    own[tuple(slice(p.start - g.start, p.stop - g.start) for p, g in zip(component.region, grown, strict=True))] = (
        component.mask
    )
    ring = ndimage.binary_dilation(own, structure=np.ones((3, 3, 3)), iterations=reach) & ~own
    around = mask[grown][ring]
    counts = {label: int((around == label).sum()) for label in among}
    best = max(counts, key=lambda label: counts[label], default=None)
    return best if best is not None and counts[best] > 0 else None


def distance(component: Component, mask: np.ndarray, landmark: int, volume: Volume) -> float | None:
    """Millimetres from a component to the nearest voxel of a landmark (between centres), 0 where they overlap.

    None where millimetres are unknown or the landmark is not in the mask.
    """
    box = bounding_box(mask == landmark)
    if box is None or not volume.calibrated:
        return None
    start = [part.start for part in component.region]
    own = volume.to_patient(np.argwhere(_surface(component.mask)) + start)
    other = volume.to_patient(np.argwhere(_surface(mask[box] == landmark)) + [part.start for part in box])
    if (mask[component.region][component.mask] == landmark).any():
        return 0.0
    return float(KDTree(other).query(own)[0].min())


def _surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)


@dataclass(frozen=True)
class ThoraxRatio:
    """Cardiothoracic ratio with the two widths (mm, or None where millimetres are unknown)."""

    ratio: float
    heart: float | None
    thorax: float | None


def cardiothoracic_ratio(
    mask: np.ndarray, volume: Volume, heart: Collection[int], thorax: Collection[int]
) -> ThoraxRatio | None:
    """Largest transverse heart width over the largest transverse inner thorax width, as on a frontal radiograph.

    Args:
        mask: `[I, J, K]` label map on the grid of `volume`.
        volume: gives the geometry; its orientation must be known.
        heart: labels of the heart.
        thorax: labels that span the inner thorax from wall to wall (both lungs, the heart).

    Returns:
        None where the orientation is unknown, or the heart or the thorax is empty.
    """
    if not volume.oriented:
        return None
    lookup = np.zeros(int(mask.max()) + 1, dtype=np.uint8)
    for labels, bit in ((heart, 1), (thorax, 2)):
        lookup[[label for label in labels if label < len(lookup)]] |= bit
    bits = lookup[mask]
    heart_box, thorax_box = bounding_box(bits & 1 > 0), bounding_box(bits & 2 > 0)
    if heart_box is None or thorax_box is None:
        return None
    low, high = _extent(bits & 1 > 0, heart_box, volume)
    plane, _ = superior_axis(volume.affine)
    widest = 0.0
    for index in range(thorax_box[plane].start, thorax_box[plane].stop):
        level = list(thorax_box)
        level[plane] = slice(index, index + 1)
        layer = (level[0], level[1], level[2])
        if (bits[layer] & 2).any():
            left, right = _extent(bits & 2 > 0, layer, volume)
            widest = max(widest, right - left)
    if volume.calibrated:
        return ThoraxRatio((high - low) / widest, high - low, widest)
    return ThoraxRatio((high - low) / widest, None, None)


def label_volumes(mask: np.ndarray, volume: Volume, labels: Mapping[int, str]) -> dict[str, float]:
    """Structure name → mL, for every label that is present and whole (not cut by the border)."""
    if not volume.calibrated:
        return {}
    regions = ndimage.find_objects(mask, max_label=max(labels, default=0))
    volumes = {}
    for label, name in labels.items():
        region = regions[label - 1] if 0 < label <= len(regions) else None
        if region is None:
            continue
        cut = any(n > 1 and (part.start == 0 or part.stop == n) for part, n in zip(region, mask.shape, strict=True))
        if not cut:
            volumes[name] = float((mask[region] == label).sum() * volume.voxel_volume / 1000)
    return volumes
