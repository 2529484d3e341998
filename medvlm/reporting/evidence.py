"""Key images: an overview of each series that was read; for each finding its best slice without and with overlay."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from medvlm.experts.card import ExpertResult
from medvlm.findings.codes import concept_of
from medvlm.findings.finding import Evidence, Finding
from medvlm.imaging.planes import AXES, Plane, slice_at
from medvlm.imaging.study import Series, Volume
from medvlm.imaging.view import PNG_LEVEL, View, overview, slice_view
from medvlm.imaging.windows import Window, default_window, named_window
from medvlm.reporting.report import KeyImage

# So many findings get a picture of their own; a reader does not look at more.
MOST_PICTURES = 12
OVERVIEW_SIZE = 512
SLICE_SIZE = 640
BRACKET = (255, 214, 10)
_SOFT = {"pleural_effusion", "cardiomegaly", "pericardial_effusion", "lymphadenopathy"}


def draw_images(
    series: Sequence[Series], results: Sequence[ExpertResult], findings: Sequence[Finding], folder: Path
) -> tuple[KeyImage, ...]:
    """Write the pictures into `folder/key` and return what they show, overviews first.

    Args:
        series: the series that were read (or, where no expert applies, the one to show).
        results: what the experts returned; their masks are the overlays.
        findings: the findings of the report; those that are not absent get a picture where a slice is known.
        folder: the report's folder.
    """
    (folder / "key").mkdir(parents=True, exist_ok=True)
    images = []
    for number, item in enumerate(series, start=1):
        view = overview(item, OVERVIEW_SIZE)
        file = "key/overview.png" if len(series) == 1 else f"key/overview-{number}.png"
        view.save(folder / file)
        window = default_window(item.volume, item.body_part)
        images.append(KeyImage(file, view.caption, item.uid, window=(window.centre, window.width)))
    by_series = {item.uid: item for item in series}
    shown = 0
    for finding in findings:
        place = next((e for e in finding.evidence if e.series in by_series), None)
        if finding.presence == "absent" or place is None or shown == MOST_PICTURES:
            continue
        result = next((r for r in results if r.expert == finding.provenance.expert and r.series == place.series), None)
        image = _draw_finding(finding, place, by_series[place.series], result, folder)
        if image is not None:
            images.append(image)
            shown += 1
    return tuple(images)


def _draw_finding(
    finding: Finding, place: Evidence, series: Series, result: ExpertResult | None, folder: Path
) -> KeyImage | None:
    volume = series.volume
    plane = plane_of(volume)
    index = best_slice(place, volume, plane, result.mask if result is not None else None)
    if index is None:
        return None
    window = window_for(finding, series)

    def draw(mask: np.ndarray | None, labels: dict[int, str]) -> View:
        return slice_view(volume, plane, index, window, mask, labels, SLICE_SIZE, series.uid, series.body_part)

    stem = f"key/{re.sub(r'[^a-z0-9-]+', '-', finding.id.lower())}"
    plain = draw(None, {})
    plain.save(folder / f"{stem}.png")
    labels = {} if result is None or place.label is None else {place.label: concept_of(finding.concept).text}
    mask = result.mask if result is not None else None
    overlay = None
    if mask is not None and labels:
        overlay = f"{stem}-overlay.png"
        view = draw(mask, labels)
        picture = view.image
        if place.box is not None:
            draw_brackets(picture, view, place.box)
        picture.save(folder / overlay, format="PNG", compress_level=PNG_LEVEL)
    many = volume.array.shape[2] > 1
    return KeyImage(
        file=f"{stem}.png",
        caption=_caption(finding, index, plane, many),
        series=series.uid,
        overlay=overlay,
        findings=(finding.id,),
        slice=index if many else None,
        window=(window.centre, window.width),
        plane=plane,
        box=_box_in_picture(plain, place) if volume.oriented else None,
    )


def plane_of(volume: Volume) -> Plane:
    """The plane in which a volume is looked at: as it was acquired where its slices are thick, else axial."""
    if not volume.oriented:
        return "axial"
    stored = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    spacing = volume.spacing
    if volume.array.shape[2] > 1 and spacing[2] < 1.5 * max(spacing[0], spacing[1]):
        return "axial"
    axis = int(np.abs(stored[:, 2]).argmax())
    return next(name for name, axes in AXES.items() if axes[0] == axis)


def best_slice(place: Evidence, volume: Volume, plane: Plane, mask: np.ndarray | None) -> int | None:
    """The canonical slice that shows a Finding best: the one it names, that of its centre, or with most of it."""
    if volume.array.shape[2] == 1:
        return 0
    if plane == "axial" and place.slice is not None:
        return place.slice
    if not volume.oriented:
        return None
    if place.centroid is not None:
        return slice_at(volume, plane, place.centroid)
    if mask is None or place.label is None:
        return None
    own = Volume(mask, volume.affine).to_canonical().array == place.label
    area = own.sum(axis=tuple(axis for axis in range(3) if axis != AXES[plane][0]))
    return int(area.argmax()) if area.any() else None


def _box_in_picture(view: View, place: Evidence) -> tuple[float, float, float, float] | None:
    """`(x min, y min, x max, y max)` of a Finding's box, as fractions of the slice without its margins."""
    if place.box is None:
        return None
    left, top, right, bottom = view.panels[0].box
    corners = np.array([view.panels[0].to_pixel(np.array(point)) for point in (place.box[:3], place.box[3:])]) + 0.5
    scaled = (corners - (left, top)) / (right - left, bottom - top)
    low, high = np.clip(np.sort(scaled, axis=0), 0.0, 1.0).round(5).tolist()
    return low[0], low[1], high[0], high[1]


def window_for(finding: Finding, series: Series) -> Window:
    """Fluid and heart are seen in the mediastinal window; everything else in that of the body part."""
    if series.volume.unit == "HU" and concept_of(finding.concept).key in _SOFT:
        return named_window("mediastinum")
    return default_window(series.volume, series.body_part)


def draw_brackets(picture: Image.Image, view: View, box: Sequence[float]) -> None:
    """Draw the four corners of a finding's box, so that a small one is found at once.

    Args:
        picture: the view's picture, drawn on in place.
        view: maps millimetres to pixels.
        box: RAS+ mm `(min x, min y, min z, max x, max y, max z)`.
    """
    low, high = np.array(box[:3]), np.array(box[3:])
    corners = np.array([view.panels[0].to_pixel(point) for point in (low, high)])
    (left, top), (right, bottom) = corners.min(axis=0) - 10, corners.max(axis=0) + 10
    arm = max(8.0, 0.22 * min(right - left, bottom - top))
    pen = ImageDraw.Draw(picture)
    for x, along in ((left, arm), (right, -arm)):
        for y, down in ((top, arm), (bottom, -arm)):
            pen.line([(x + along, y), (x, y), (x, y + down)], fill=BRACKET, width=3)


def _caption(finding: Finding, index: int, plane: Plane, many: bool) -> str:
    name = concept_of(finding.concept).text
    return f"{name[:1].upper()}{name[1:]}" + (f", {plane} slice {index}" if many else "")
