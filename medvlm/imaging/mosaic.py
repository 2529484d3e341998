"""Mosaics: one stored image that is a grid of slices, placed by a private header (Siemens, United Imaging)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.imaging.dicom_fields import Fields
from medvlm.imaging.dicom_layout import PixelLayout

# United Imaging: how many slices the grid holds, and a sequence with the place of each.
_GRID_COUNT, _GRID_SLICES = (0x0065, 0x1050), (0x0065, 0x1051)


def is_mosaic(image_type: tuple[str, ...], layout: PixelLayout) -> bool:
    """Whether the header calls the image a mosaic."""
    named = "MOSAIC" in image_type or "VFRAME" in image_type
    return named and layout.frames == 1 and layout.samples == 1


def read_mosaic(
    fields: Fields, image_type: tuple[str, ...], layout: PixelLayout
) -> tuple[PixelLayout, list[np.ndarray]]:
    """The layout of the slices in a mosaic, and ImagePositionPatient (LPS mm) of each.

    Raises:
        MedVLMError: the private header that places the slices is gone.
    """
    if "VFRAME" in image_type:
        places = _grid_places(fields)
        columns = math.ceil(math.sqrt(len(places)))
        return _tiled(layout, len(places), columns, math.ceil(len(places) / max(1, columns))), places
    tiled, normal = mosaic_layout(fields, layout)
    return tiled, mosaic_positions(fields, tiled, normal)


def _grid_places(fields: Fields) -> list[np.ndarray]:
    """Where United Imaging's private sequence puts the slices; nothing where it is gone or in an unknown form."""
    if _GRID_COUNT not in fields.dataset or _GRID_SLICES not in fields.dataset:
        return []
    try:
        count = int(float(fields.dataset[_GRID_COUNT].value))
        items = [Fields(item) for item in fields.dataset[_GRID_SLICES].value]
    except (TypeError, ValueError):
        return []
    found = [place for item in items if (place := item.vector("ImagePositionPatient", 3)) is not None]
    return found if len(found) == count else []


def _tiled(layout: PixelLayout, count: int, columns: int, rows: int) -> PixelLayout:
    if not count or layout.rows % rows or layout.columns % columns:
        raise MedVLMError("a mosaic without its private header, so its slices have no place; export it again")
    height, width = layout.rows // rows, layout.columns // columns
    return replace(layout, rows=height, columns=width, tiles=columns, tile_rows=rows, frames=count)


def mosaic_layout(fields: Fields, layout: PixelLayout) -> tuple[PixelLayout, np.ndarray]:
    """The layout of the slices in a mosaic, and the normal (LPS) along which they follow each other.

    Raises:
        MedVLMError: the private header that says how many slices there are is gone.
    """
    private = _private_header(fields)
    count = int(next(iter(_items(private, "NumberOfImagesInMosaic")), 0))
    normal = _items(private, "SliceNormalVector")
    if count < 1 or len(normal) != 3:
        raise MedVLMError(
            "a Siemens mosaic without its private header (0029,1010), so its slices have no place; export it again"
        )
    side = math.ceil(math.sqrt(count))
    return _tiled(layout, count, side, side), np.array(normal)


def mosaic_positions(fields: Fields, layout: PixelLayout, normal: np.ndarray) -> list[np.ndarray]:
    """ImagePositionPatient of each slice: that of the mosaic is the corner of the grid, not of a slice.

    Raises:
        MedVLMError: a value that places the slices is missing.
    """
    corner, direction = fields.vector("ImagePositionPatient", 3), fields.vector("ImageOrientationPatient", 6)
    spacing = fields.vector("PixelSpacing", 2)
    step = fields.number("SpacingBetweenSlices") or fields.number("SliceThickness")
    if corner is None or direction is None or spacing is None or not step:
        raise MedVLMError("a Siemens mosaic without position, orientation or spacing")
    # The grid grew around the centre of the slice, so half of what was added lies on each side.
    added_columns, added_rows = layout.columns * (layout.tiles - 1) / 2, layout.rows * (layout.tile_rows - 1) / 2
    first = corner + added_columns * spacing[1] * direction[:3] + added_rows * spacing[0] * direction[3:]
    return [first + index * step * normal for index in range(layout.frames)]


def _private_header(fields: Fields) -> dict[str, Any]:
    from nibabel.nicom.csareader import get_csa_header

    try:
        header = get_csa_header(fields.dataset, "image")
    except Exception:  # a private header in an unknown form is as good as none
        return {}
    return header["tags"] if header else {}


def _items(private: dict[str, Any], name: str) -> list[float]:
    return [float(item) for item in private.get(name, {}).get("items", [])]
