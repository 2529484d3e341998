"""What the page's viewer shows: the slices of each series as small pictures, the findings as outlines on them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from medvlm.findings.finding import Finding
from medvlm.imaging.planes import AXES, SIDES, Plane, Slice, as_stored, cut
from medvlm.imaging.study import Series, Study, Volume
from medvlm.imaging.windows import Table, Window, default_window, series_window
from medvlm.reporting.evidence import best_slice, plane_of, window_for
from medvlm.reporting.masks import Mask, segment_map
from medvlm.reporting.report import Report

# The page stays below 15 MB whatever the study: so many slices, all windows together, and so many bytes of pictures
# (a third more as text) and of outlines.
SLICE_EDGE, IMAGE_EDGE = 512, 1280
MOST_SLICES = 320
MOST_FRAMES = 60
PICTURE_BYTES, OUTLINE_BYTES = 9_000_000, 1_500_000
# WebP quality and share of the edge, the first that fits: a noisy CT costs four times what a smooth one does.
RUNGS = ((78, 1.0), (60, 1.0), (40, 1.0), (40, 0.75), (30, 0.5), (20, 0.25))
SAMPLES = 8


@dataclass(frozen=True)
class _Stack:
    """The slices that are shown of a series, in order: canonical ones of a plane, or frames as they are stored."""

    volume: Volume
    plane: Plane | None

    @property
    def count(self) -> int:
        return int(self.volume.array.shape[2 if self.plane is None else AXES[self.plane][0]])

    def slice(self, index: int) -> Slice:
        return as_stored(self.volume, index) if self.plane is None else cut(self.volume, self.plane, index)


def viewer_data(report: Report, study: Study, masks: Sequence[Mask]) -> list[dict[str, Any]]:
    """One entry a series that the report shows, ready for JSON.

    Each has `uid`, `title`, `width`, `height` (voxels of the outlines), `aspect` (width over height in mm), `indices`
    (slice numbers that are shown), `windows` (name → pictures as data URIs), `outlines` (finding → slice → SVG path),
    `best` (finding → slice), `plane` (or None) and `sides` (letters at the edges).
    """
    uids = dict.fromkeys([image.series for image in report.images])
    shown = [series for series in study.series if series.uid in uids]
    return [_series(report, series, masks, len(shown)) for series in shown]


def _series(report: Report, series: Series, masks: Sequence[Mask], sharing: int) -> dict[str, Any]:
    stack = _stack(series.volume)
    here = [f for f in report.findings if any(e.series == series.uid for e in f.evidence) and f.presence != "absent"]
    outlines = _outlines(here, report.findings, series, masks, stack)
    best = {finding.id: _best(finding, series, outlines.get(finding.id, {}), stack) for finding in here}
    windows = _windows(here, series)
    indices = _chosen(stack, {index for index in best.values() if index is not None}, len(windows))
    outlines = _lighter(outlines, best, OUTLINE_BYTES // sharing)
    first = stack.slice(0)
    width_mm, height_mm = first.size_mm
    return {
        "uid": series.uid,
        "title": " ".join(part for part in (series.modality, series.description) if part) or "image",
        "plane": stack.plane if stack.count > 1 else None,
        "sides": SIDES[stack.plane] if stack.plane else None,
        "width": int(first.pixels.shape[1]),
        "height": int(first.pixels.shape[0]),
        "aspect": round(width_mm / height_mm, 4),
        "indices": indices,
        "windows": _pictures(stack, indices, windows, PICTURE_BYTES // sharing),
        "window_of": {finding.id: _window_name(window_for(finding, series)) for finding in here},
        "outlines": {
            name: {str(i): path for i, path in found.items() if i in indices} for name, found in outlines.items()
        },
        "best": best,
    }


def _stack(volume: Volume) -> _Stack:
    """Canonical slices in the plane of the key images where the volume has a place in space, else frames as stored."""
    return _Stack(volume.to_canonical(), plane_of(volume)) if volume.oriented else _Stack(volume, None)


def _windows(here: Sequence[Finding], series: Series) -> dict[str, Window | Table]:
    """The windows worth switching between: of the body part, and of the findings that need another."""
    chosen: dict[str, Window | Table] = {}
    base = series_window(series) if series.volume.unit != "HU" else default_window(series.volume, series.body_part)
    chosen[_window_name(base)] = base
    for finding in here:
        window = window_for(finding, series)
        chosen.setdefault(_window_name(window), window)
    return chosen


def _window_name(window: Window | Table) -> str:
    return str(window.name)


def _chosen(stack: _Stack, needed: set[int], windows: int) -> list[int]:
    most = MOST_SLICES // windows if stack.plane else MOST_FRAMES
    if stack.count <= most:
        return list(range(stack.count))
    even = {round(step) for step in np.linspace(0, stack.count - 1, most - len(needed))}
    return sorted(even | needed)


def _outlines(
    here: Sequence[Finding], findings: Sequence[Finding], series: Series, masks: Sequence[Mask], stack: _Stack
) -> dict[str, dict[int, str]]:
    """Finding → slice → path."""
    from medvlm.reporting.outline import outline_path

    wanted = {finding.id for finding in here}
    found: dict[str, dict[int, str]] = {}
    for mask in masks:
        if mask.series != series.uid:
            continue
        numbered, segments = segment_map(mask, findings)
        placed = Volume(numbered, mask.affine)
        drawn = _Stack(placed.to_canonical() if stack.plane else placed, stack.plane)
        across = tuple(axis for axis in range(3) if axis != (AXES[stack.plane][0] if stack.plane else 2))
        for segment in segments:
            if segment.finding not in wanted:
                continue
            own = drawn.volume.array == segment.number
            for index in np.flatnonzero(own.any(axis=across)).tolist():
                path = outline_path(drawn.slice(index).pixels == segment.number)
                found.setdefault(segment.finding or "", {})[index] = path
    return found


def _best(finding: Finding, series: Series, paths: dict[int, str], stack: _Stack) -> int | None:
    place = next(e for e in finding.evidence if e.series == series.uid)
    index = best_slice(place, series.volume, stack.plane, None) if stack.plane else None
    if index is None and paths:
        index = max(paths, key=lambda number: len(paths[number]))
    return 0 if index is None and stack.count == 1 else index


def _lighter(outlines: dict[str, dict[int, str]], best: dict[str, int | None], most: int) -> dict[str, dict[int, str]]:
    """Outlines of at most so many bytes: the costliest findings (whole organs) keep only that of their best slice."""
    costs = {name: sum(map(len, paths.values())) for name, paths in outlines.items()}
    total = sum(costs.values())
    lighter = dict(outlines)
    for name in sorted(costs, key=lambda name: -costs[name]):
        if total <= most:
            break
        lighter[name] = {index: path for index, path in outlines[name].items() if index == best.get(name)}
        total -= costs[name] - sum(map(len, lighter[name].values()))
    return lighter


def _pictures(
    stack: _Stack, indices: Sequence[int], windows: dict[str, Window | Table], most: int
) -> dict[str, list[str]]:
    """Window → one data URI a slice, as good as so many bytes allow.

    What a quality costs is first measured on a few slices.
    """
    spread = np.linspace(0, len(indices) - 1, min(SAMPLES, len(indices))).round().astype(int)
    samples = [indices[place] for place in spread]
    made: dict[tuple[str, int], bytes] = {}
    for rung in RUNGS:
        made.clear()
        expected = _encode(stack, samples, windows, rung, made) * len(indices) / len(samples)
        if expected <= most and _encode(stack, indices, windows, rung, made) <= most:
            break
    else:
        _encode(stack, indices, windows, RUNGS[-1], made)
    return {name: [_data_uri(made[name, index]) for index in indices] for name in windows}


def _encode(
    stack: _Stack,
    indices: Sequence[int],
    windows: dict[str, Window | Table],
    rung: tuple[int, float],
    made: dict[tuple[str, int], bytes],
) -> int:
    """Add the pictures of these slices that are not made yet; returns the bytes of all of them."""
    for index in indices:
        if any((name, index) not in made for name in windows):
            picture = stack.slice(index)
            for name, window in windows.items():
                made[name, index] = _picture(picture, window, *rung)
    return sum(len(made[name, index]) for name in windows for index in indices)


def _picture(picture: Slice, window: Window | Table, quality: int, scale: float = 1.0) -> bytes:
    """One slice as WebP, no larger than it has to be."""
    values = picture.pixels
    grey = values if values.ndim == 3 and values.dtype == np.uint8 else window.apply(values)
    image = Image.fromarray(np.ascontiguousarray(grey))
    edge = round(scale * (IMAGE_EDGE if max(image.size) > 2 * SLICE_EDGE else SLICE_EDGE))
    if max(image.size) > edge:
        image.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="WEBP", quality=quality, method=2)
    return buffer.getvalue()


def _data_uri(webp: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(webp).decode("ascii")


def finding_colours(findings: Sequence[Finding]) -> dict[str, str]:
    """One colour a finding that is not absent, told apart by eye also without red or green."""
    palette = ("#ff9f1c", "#3bc9ff", "#ff5d8f", "#b892ff", "#9be564", "#ffe066", "#4fd1c5", "#ff7b54")
    shown = [finding.id for finding in findings if finding.presence != "absent"]
    return {name: palette[number % len(palette)] for number, name in enumerate(shown)}
