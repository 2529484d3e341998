"""Siemens mosaics: one stored image that is a grid of slices, placed by a private header."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.imaging.dicom_fields import Fields
from medvlm.imaging.dicom_layout import PixelLayout


def is_mosaic(image_type: tuple[str, ...], layout: PixelLayout) -> bool:
    """Whether the header calls the image a mosaic."""
    return "MOSAIC" in image_type and layout.frames == 1 and layout.samples == 1


def mosaic_layout(fields: Fields, layout: PixelLayout) -> tuple[PixelLayout, np.ndarray]:
    """The layout of the slices in a mosaic, and the normal (LPS) along which they follow each other.

    Raises:
        MedVLMError: the private header that says how many slices there are is gone.
    """
    private = _private_header(fields)
    count = int(next(iter(_items(private, "NumberOfImagesInMosaic")), 0))
    normal = _items(private, "SliceNormalVector")
    side = math.ceil(math.sqrt(count)) if count >= 1 else 0
    if not side or layout.rows % side or layout.columns % side or len(normal) != 3:
        raise MedVLMError(
            "a Siemens mosaic without its private header (0029,1010), so its slices have no place; export it again"
        )
    tiled = replace(layout, rows=layout.rows // side, columns=layout.columns // side, tiles=side, frames=count)
    return tiled, np.array(normal)


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
    added_columns, added_rows = layout.columns * (layout.tiles - 1) / 2, layout.rows * (layout.tiles - 1) / 2
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
