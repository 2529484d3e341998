"""How far a study is from those an expert learned from: a Mahalanobis distance of a few plain image statistics.

The statistics are those of the working intensities (0..1, as the network sees them) on a coarse grid: how often each
intensity occurs, what the body holds, how bright each part of it is, and how fast the picture changes along each axis.
None depends on the network's weights, so a fit outlives a retraining. Differences below a floor count as none: a
calibration cohort, above all a synthetic one, varies less than the world does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.experts.bundle import DOMAIN, Bundle
from medvlm.experts.input import InputSpec
from medvlm.experts.registry import find_expert
from medvlm.imaging.cohort import Split, read_cohort
from medvlm.imaging.reader import load_study
from medvlm.imaging.study import Volume
from medvlm.storage import write_json

# Voxels of the coarse grid, in millimetres (volumes) or pixels (images).
COARSE_MM, COARSE_PX = 6.0, 64
BINS = 8
BLOCKS_3D, BLOCKS_2D = (4, 4, 3), (4, 4)
# Standard deviations below this are taken for this; the statistics are shares, means and correlations, 0..1.
FLOOR = 0.05
# One in a hundred new studies like the calibration ones lies beyond the conformal limit; those a little further
# off are still read.
COVERAGE, SLACK = 0.99, 2.0
FEWEST = 20


def fit_domain(name: str | Path, root: Path, split: Split = "validation") -> dict[str, Any]:
    """Fit the domain of an expert on studies like those it is for and write it as `domain.json` into its folder.

    Args:
        name: name or path of an expert with a working grid.
        root: cohort; no truth is needed.
        split: which studies; those that the network learned from will do, because no weights take part.

    Returns:
        What was written.

    Raises:
        MedVLMError: fewer than 20 studies.
    """
    from rich.progress import track

    bundle = find_expert(name)
    cohort = read_cohort(root)
    entries = cohort.split(split)
    if len(entries) < FEWEST:
        raise MedVLMError(f"{root}: {len(entries)} studies in the split '{split}', at least {FEWEST} are needed.")
    rows = []
    for entry in track(entries, "fitting the domain", transient=True):
        rows.append(statistics(load_study(cohort.root / entry.study).series[0].volume, bundle.input))
    written = {"cohort": cohort.name, "split": split, "studies": len(rows)} | fit(np.stack(rows))
    write_json(bundle.root / DOMAIN, written)
    return written


def fit(rows: np.ndarray) -> dict[str, Any]:
    """Centre, precision and limit from statistics `[N, P]` of calibration studies.

    The limit is the split-conformal one of distances that are measured leaving each study out, times `SLACK`.
    """
    halves = [rows[0::2], rows[1::2]]
    # Each half is measured by the other, so that no study is near the centre because it helped to place it.
    distances = [
        _distances(halves[1 - side], *_centre_and_precision(halves[side])) for side in (0, 1) if len(halves[side]) > 1
    ]
    ordered = np.sort(np.concatenate(distances))
    rank = min(len(ordered), int(np.ceil(COVERAGE * (len(ordered) + 1))))
    centre, precision = _centre_and_precision(rows)
    return {
        "limit": round(float(ordered[rank - 1]) * SLACK, 4),
        "median": round(float(np.median(ordered)), 4),
        "centre": [round(float(value), 5) for value in centre],
        "precision": [[float(f"{value:.5g}") for value in row] for row in precision],
    }


def distance(domain: Mapping[str, Any], volume: Volume, spec: InputSpec) -> float:
    """Distance of one study from the domain; comparable with `domain["limit"]`."""
    row = statistics(volume, spec)
    return float(_distances(row[None], np.array(domain["centre"]), np.array(domain["precision"]))[0])


def statistics(volume: Volume, spec: InputSpec) -> np.ndarray:
    """`[P]` float64 in 0..1 (correlations in -1..1): the statistics of one volume or image."""
    array = coarse(volume, spec)
    channels = array if spec.dims == 2 else array[None]
    parts = [part for channel in channels for part in _histogram(channel)]
    grey = channels.mean(axis=0)
    parts += _changes(grey)
    if spec.dims == 3:
        body, box = _body(grey)
        inside = grey[body]
        parts += [float(body.mean()), float((inside < 0.25).mean()) if inside.size else 0.0]
        grey = grey[box]
    blocks = BLOCKS_3D if spec.dims == 3 else BLOCKS_2D
    parts += _blocks(grey, blocks)
    mirrored = grey[::-1]
    parts.append(_correlation(grey, mirrored))
    return np.asarray(parts, dtype=np.float64)


def coarse(volume: Volume, spec: InputSpec) -> np.ndarray:
    """Working intensities 0..1 on the coarse grid: `[X, Y, Z]`, or `[C, i, j]` for images."""
    if spec.dims == 2:
        from medvlm.experts.image import image_tensor

        image = image_tensor(volume, spec)
        import torch

        small = torch.nn.functional.interpolate(image[None], (COARSE_PX, COARSE_PX), mode="area")[0]
        return small.numpy()
    canonical = volume.to_canonical()
    steps = tuple(slice(None, None, max(1, round(COARSE_MM / spacing))) for spacing in canonical.spacing)
    values = np.nan_to_num(canonical.array[steps].astype(np.float32), nan=spec.low)
    return np.clip((values - spec.low) / (spec.high - spec.low), 0.0, 1.0)


def _histogram(values: np.ndarray) -> list[float]:
    """Shares of equal bins, then of the two ends, where intensities are clipped."""
    counts, _ = np.histogram(values, bins=BINS, range=(0.0, 1.0))
    ends = [float((values <= 0.001).mean()), float((values >= 0.999).mean())]
    return [*(counts / values.size).tolist(), *ends]


def _changes(values: np.ndarray) -> list[float]:
    """Along each axis: mean absolute step (times four, to be on the scale of the others) and neighbour correlation."""
    parts = []
    for axis in range(values.ndim):
        first = np.take(values, range(values.shape[axis] - 1), axis)
        second = np.take(values, range(1, values.shape[axis]), axis)
        parts += [4.0 * float(np.abs(first - second).mean()) if first.size else 0.0, _correlation(first, second)]
    return parts


def _body(values: np.ndarray) -> tuple[np.ndarray, tuple[slice, ...]]:
    """Everything between the first and last dense voxel along both in-plane axes, and its bounding box."""
    dense = values > 0.4
    inside = np.ones_like(dense)
    for axis in (0, 1):
        inside &= np.maximum.accumulate(dense, axis=axis)
        inside &= np.flip(np.maximum.accumulate(np.flip(dense, axis), axis=axis), axis)
    used = [np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    if not all(len(found) for found in used):
        return inside, tuple(slice(0, size) for size in values.shape)
    return inside, tuple(slice(int(found[0]), int(found[-1]) + 1) for found in used)


def _blocks(values: np.ndarray, counts: Sequence[int]) -> list[float]:
    """Mean of each of `counts` equal blocks; blocks of an axis that is too short share its voxels."""
    edges = [np.linspace(0, size, count + 1) for size, count in zip(values.shape, counts, strict=True)]
    means = []
    for index in np.ndindex(*counts):
        cut = tuple(
            slice(int(edge[place]), max(int(edge[place]) + 1, int(edge[place + 1])))
            for edge, place in zip(edges, index, strict=True)
        )
        means.append(float(values[cut].mean()))
    return means


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if first.size < 2:
        return 0.0
    a, b = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / scale) if scale > 1e-9 else 0.0


def _centre_and_precision(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centre = rows.mean(axis=0)
    covariance = np.cov(rows, rowvar=False) + FLOOR**2 * np.eye(rows.shape[1])
    return centre, np.linalg.inv(covariance)


def _distances(rows: np.ndarray, centre: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Mahalanobis distance per statistic: about 1 for a study like the others."""
    away = rows - centre
    return np.sqrt(np.einsum("np,pq,nq->n", away, precision, away) / rows.shape[1])


def check_domain(bundle: Bundle, volume: Volume) -> str:
    """Why a volume is unlike the studies that the expert is for; empty if it is like them or no domain is fitted."""
    if not bundle.domain or bundle.working is None:
        return ""
    found, limit = distance(bundle.domain, volume, bundle.working), float(bundle.domain["limit"])
    if found <= limit:
        return ""
    return f"it does not look like what {bundle.name} is for (distance {found:.1f}, at most {limit:.1f} is read)"
