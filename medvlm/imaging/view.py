"""View: a 2-D RGB picture of a series, with the mapping from its pixels back to the patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from scipy import ndimage

from medvlm.errors import MedVLMError
from medvlm.imaging import draw
from medvlm.imaging.planes import AXES, SIDES, FittedSlice, Panel, Plane, Slice, as_stored, cut, fit, project
from medvlm.imaging.study import Series, Volume
from medvlm.imaging.windows import Table, Window, default_window, series_window
from medvlm.storage import atomic_path

# Where the three axial slices of an overview lie: fractions of the extent of the lungs (or body), from below.
FRACTIONS = (0.72, 0.48, 0.24)
# zlib's level for pictures: a third of the time of the usual 6, a fifth more bytes.
PNG_LEVEL = 2


@dataclass(frozen=True, eq=False)
class View:
    """A picture for the model and the reader.

    Attributes:
        pixels: `[H, W, 3]` uint8.
        series: uid of the series it shows.
        caption: what it shows, one line.
        panels: rectangles with their mapping from pixel to RAS+ mm.
    """

    pixels: np.ndarray
    series: str
    caption: str
    panels: tuple[Panel, ...]

    def to_patient(self, x: float, y: float) -> np.ndarray | None:
        """RAS+ mm of a pixel, or None outside every panel."""
        for panel in self.panels:
            left, top, right, bottom = panel.box
            if left <= x < right and top <= y < bottom:
                return panel.to_patient(x, y)
        return None

    @property
    def image(self) -> Image.Image:
        """The picture as a Pillow image."""
        return Image.fromarray(self.pixels)

    def save(self, path: Path | str) -> None:
        """Write a PNG."""
        with atomic_path(Path(path)) as temporary:
            self.image.save(temporary, format="PNG", compress_level=PNG_LEVEL)


def overview(series: Series, size: int = 224) -> View:
    """The one picture that a model sees of a series by default.

    A CT volume becomes a 2 x 2 montage: a coronal mean projection and three axial slices at fixed heights of the lungs
    (or the body); another volume its middle coronal slice and three axial slices; a single image or a cine its middle
    frame, letterboxed. Proportions are those in millimetres.
    """
    volume = series.volume
    window = series_window(series)
    timed = volume.array.shape[2] > 1 and not volume.calibrated and not volume.oriented
    if timed or 1 in volume.array.shape[:3]:
        picture = _single(volume)
        placed = fit(picture, _grey(picture.pixels, window), (0, 0, size, size))
        view = _compose([placed], size)
        return View(view, series.uid, _caption(series, "image", window), (placed.panel,))
    canonical = volume.to_canonical()
    chest = volume.unit == "HU" and window.name == "lung"
    low, high = _extent(canonical)
    half = size // 2
    cells = [(0, 0, half, half), (half, 0, size, half), (0, half, half, size), (half, half, size, size)]
    slices: list[tuple[str, Slice]] = []
    if volume.unit == "HU":
        slices.append(("coronal mean", project(canonical, "coronal", "mean")))
    else:
        middle_index = canonical.array.shape[1] // 2
        slices.append((f"coronal {middle_index}", cut(canonical, "coronal", middle_index)))
    for fraction in FRACTIONS:
        index = min(int(low + fraction * (high - low) + 0.5), canonical.array.shape[2] - 1)
        slices.append((f"axial {index}", cut(canonical, "axial", index)))
    placed_slices = []
    for (title, picture), cell in zip(slices, cells, strict=True):
        # A projection averages bone, lung and air away: it gets the window of its own values.
        shown = _span_window(picture.pixels) if title == "coronal mean" else window
        placed = fit(picture, _grey(picture.pixels, shown), cell)
        placed_slices.append(FittedSlice(placed.pixels, replace(placed.panel, title=title)))
    what = "coronal mean and 3 axial slices" if volume.unit == "HU" else "coronal slice and 3 axial slices"
    what += " of the lungs" if chest else ""
    panels = tuple(placed.panel for placed in placed_slices)
    return View(_compose(placed_slices, size), series.uid, _caption(series, what, window), panels)


def slice_view(
    volume: Volume,
    plane: Plane = "axial",
    index: int = 0,
    window: Window | Table | None = None,
    mask: np.ndarray | None = None,
    labels: Mapping[int, str] | None = None,
    size: int = 512,
    series: str = "",
    body_part: str = "",
) -> View:
    """One slice with window, overlay, legend, scale bar and side markers.

    The scale bar is drawn only where millimetres are known, the side markers only where the orientation is.

    Args:
        volume: the voxels.
        plane: `axial`, `coronal` or `sagittal`; an image without orientation is shown as stored.
        index: slice along the canonical axis (from inferior, posterior or left).
        window: grey levels; by default those of the body part.
        mask: `[I, J, K]` label map on the volume's own grid.
        labels: label number → name; only these are drawn.
        size: width and height in pixels.
        series: uid noted in the View.
        body_part: chooses the default window.

    Raises:
        MedVLMError: there is no such slice.
    """
    window = window or default_window(volume, body_part)
    if volume.oriented:
        canonical = volume.to_canonical()
        picture = cut(canonical, plane, index)
    else:
        picture = as_stored(volume, index)
    placed = fit(picture, _grey(picture.pixels, window), (0, 0, size, size))
    pixels = _compose([placed], size)
    shown: list[str] = []
    if mask is not None and labels:
        overlay = Volume(mask, volume.affine)
        drawn = cut(overlay.to_canonical(), plane, index) if volume.oriented else as_stored(overlay, index)
        scaled = fit(drawn, drawn.pixels.astype(np.uint8), (0, 0, size, size), nearest=True)
        left, top, right, bottom = scaled.panel.box
        draw.blend_labels(pixels[top:bottom, left:right], scaled.pixels, labels)
        shown = [name for label, name in labels.items() if (scaled.pixels == label).any()]
    image = Image.fromarray(pixels)
    if shown:
        draw.legend(image, shown)
    if volume.calibrated:
        draw.scale_bar(image, float(np.linalg.norm(placed.panel.right)))
    if volume.oriented:
        draw.side_markers(image, *SIDES[plane])
    title = f"{plane} {index}" if volume.oriented else f"image {index}"
    caption = f"{title}, window {window.name}" + (f", {', '.join(shown)}" if shown else "")
    return View(np.asarray(image), series, caption, (replace(placed.panel, title=title),))


def projection_view(
    volume: Volume,
    plane: Plane = "coronal",
    how: Literal["max", "min", "mean"] = "max",
    window: Window | Table | None = None,
    size: int = 512,
    series: str = "",
) -> View:
    """All slices in one picture (`max` is a MIP), with scale bar and side markers where they are known.

    Args:
        volume: grey voxels of known orientation.
        plane: the plane of the picture.
        how: what is taken along each ray.
        window: grey levels; by default from the 5th to the 99th percentile of the projection.
        size: width and height in pixels.
        series: uid noted in the View.

    Raises:
        MedVLMError: a colour image, or an unknown orientation.
    """
    if volume.is_rgb or not volume.oriented:
        raise MedVLMError("a projection needs grey voxels of known orientation.")
    picture = project(volume.to_canonical(), plane, how)
    placed = fit(picture, _grey(picture.pixels, window or _span_window(picture.pixels)), (0, 0, size, size))
    image = Image.fromarray(_compose([placed], size))
    if volume.calibrated:
        draw.scale_bar(image, float(np.linalg.norm(placed.panel.right)))
    draw.side_markers(image, *SIDES[plane])
    title = f"{plane} {how}"
    return View(np.asarray(image), series, f"{title} projection", (replace(placed.panel, title=title),))


def montage(views: Sequence[View], columns: int) -> View:
    """Views of one size side by side, row by row; every panel keeps its way back to the patient.

    Raises:
        MedVLMError: no views, or views of different sizes.
    """
    if not views or len({view.pixels.shape for view in views}) != 1:
        raise MedVLMError("a montage needs views of one size.")
    height, width = views[0].pixels.shape[:2]
    rows = -(-len(views) // columns)
    pixels = np.zeros((rows * height, min(columns, len(views)) * width, 3), dtype=np.uint8)
    panels = []
    for index, view in enumerate(views):
        top, left = index // columns * height, index % columns * width
        pixels[top : top + height, left : left + width] = view.pixels
        for panel in view.panels:
            x0, y0, x1, y1 = panel.box
            panels.append(replace(panel, box=(x0 + left, y0 + top, x1 + left, y1 + top)))
    return View(pixels, views[0].series, "; ".join(view.caption for view in views), tuple(panels))


def _single(volume: Volume) -> Slice:
    """The picture of a volume that is one slice thick, or the middle frame of a cine."""
    if volume.oriented:
        canonical = volume.to_canonical()
        thin = int(np.argmin(canonical.array.shape[:3]))
        plane = next(name for name, axes in AXES.items() if axes[0] == thin)
        return cut(canonical, plane, 0)
    return as_stored(volume, volume.array.shape[2] // 2)


def _grey(values: np.ndarray, window: Window | Table) -> np.ndarray:
    """Values → uint8; colour stays as it is (16-bit colour does not occur)."""
    return values if values.ndim == 3 and values.dtype == np.uint8 else window.apply(values)


def _span_window(projection: np.ndarray) -> Window:
    low, high = np.percentile(projection, [5, 99])
    return Window("projection", float(low + high) / 2, max(float(high - low), 1.0))


def _compose(slices: list[FittedSlice], size: int) -> np.ndarray:
    """`[size, size, 3]` black canvas with the slices in their boxes."""
    canvas = np.zeros((size, size, 3), dtype=np.uint8)
    for placed in slices:
        left, top, right, bottom = placed.panel.box
        pixels = placed.pixels if placed.pixels.ndim == 3 else placed.pixels[..., None]
        canvas[top:bottom, left:right] = pixels
    return canvas


def _extent(canonical: Volume) -> tuple[float, float]:
    """First and last axial slice of the lungs, else of the body, else of the volume; on a coarse grid."""
    shape = canonical.array.shape[:3]
    steps = [max(1, size // 48) for size in shape]
    coarse = canonical.array[:: steps[0], :: steps[1], :: steps[2]]
    if canonical.unit == "HU":
        numbered, _ = ndimage.label(coarse < -400)
        edges = np.concatenate([numbered[[0, -1]].ravel(), numbered[:, [0, -1]].ravel()])
        inside = (numbered > 0) & ~np.isin(numbered, np.unique(edges))
        share = inside.mean(axis=(0, 1))
        if share.max() > 0.03:  # lungs, not a few bubbles of gas
            used = np.flatnonzero(share > 0.15 * share.max())
            return float(used[0] * steps[2]), float(min(used[-1] * steps[2], shape[2] - 1))
        body = coarse > -300
    else:
        body = coarse > np.float32(0.1) * np.float32(np.percentile(coarse, 99))
    used = np.flatnonzero(body.mean(axis=(0, 1)) > 0.02)
    if used.size == 0:
        return 0.0, float(shape[2] - 1)
    return float(used[0] * steps[2]), float(min(used[-1] * steps[2], shape[2] - 1))


def _caption(series: Series, what: str, window: Window | Table) -> str:
    shown = " ".join(word for word in (series.modality, series.body_part) if word)
    return f"{shown or 'image'}: {what}, window {window.name}"
