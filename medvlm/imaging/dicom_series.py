"""The files of one SeriesInstanceUID → the volumes and images in it, and what is left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.imaging.dicom_header import PROJECTION, Frame, Header
from medvlm.imaging.dicom_pixels import read_voxels
from medvlm.imaging.dicom_stack import LPS_TO_RAS, Stack, build_stack, same_plane, split_stacks
from medvlm.imaging.study import Grid, Series, Skipped, Volume

LETTERS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}


def series_of(uid: str, headers: list[Header], localizers: bool = False) -> tuple[list[Series], list[Skipped]]:
    """All usable volumes and images of one SeriesInstanceUID; localizers only where asked for."""
    skipped: list[Skipped] = []
    named = headers[0].description or headers[0].modality or "series"
    broken = next((header for header in headers if header.problem), None)
    if broken is not None:
        what = broken.path.name if len(headers) == 1 else f"{named}: {len(headers)} files"
        return [], [Skipped(what, broken.problem if len(headers) == 1 else f"{broken.path.name} is {broken.problem}")]
    images: list[Header] = []
    for header in headers:
        if "LOCALIZER" in header.image_type and not localizers:
            skipped.append(Skipped(f"{named}: {header.path.name}", "a localizer"))
        else:
            images.append(header)
    by_file = {header.path: header for header in images}
    placed = [f for h in images for f in h.frames if f.position is not None and f.orientation is not None and f.spacing]
    placed_files = {frame.layout.path for frame in placed}
    stacks: list[Sequence[Frame]] = []
    planes = same_plane(placed)
    largest = max((len(plane) for plane in planes), default=0)
    for plane in planes:
        if len(plane) < 3 <= largest // 2:
            skipped.append(Skipped(f"{named}: {len(plane)} images", "another size or orientation than the series"))
        else:
            kept, copies = _without_copies(plane)
            skipped += copies
            stacks += split_stacks(kept)
    series: list[Series] = []
    for frames in stacks:
        header = by_file[frames[0].layout.path]
        try:
            stack = build_stack(frames)
        except MedVLMError as error:
            skipped.append(Skipped(f"{named}: {len(frames)} slices", str(error).rstrip(".")))
            continue
        series.append(_volume_series(_numbered(uid, len(series)), header, stack))
    for header in images:
        if "LABEL" in header.image_type and header.modality == "SM":
            skipped.append(Skipped(header.path.name, "a photograph of the slide's label, which names the patient"))
        elif header.modality == "SM" and len(header.frames) > 1:
            skipped.append(Skipped(header.path.name, "a tiled level of a whole slide; only the thumbnail is read"))
        elif header.path not in placed_files:
            series.append(_image_series(_numbered(uid, len(series)), header))
    return series, skipped


def _without_copies(frames: list[Frame]) -> tuple[list[Frame], list[Skipped]]:
    """Drop frames whose pixels and place are those of another; where many repeat, they are not copies."""
    seen: dict[tuple[float, ...], Frame] = {}
    kept: list[Frame] = []
    skipped: list[Skipped] = []
    repeated = [
        frame for frame in frames if _place(frame) in seen or seen.setdefault(_place(frame), frame) is not frame
    ]
    if not repeated or len(repeated) > max(1, len(frames) // 4):
        return frames, []
    for frame in frames:
        first = seen[_place(frame)]
        if frame is not first and np.array_equal(read_voxels([first], "", None), read_voxels([frame], "", None)):
            reason = f"the same pixels at the same place as {first.layout.path.name}"
            skipped.append(Skipped(frame.layout.path.name, reason))
        else:
            kept.append(frame)
    return kept, skipped


def _place(frame: Frame) -> tuple[float, ...]:
    return tuple(np.round(frame.position, 2)) if frame.position is not None else ()


def _numbered(uid: str, index: int) -> str:
    return uid if index == 0 else f"{uid}/{index + 1}"


def _volume_series(uid: str, header: Header, stack: Stack) -> Series:
    hounsfield = header.modality == "CT" and header.rescaled
    notes = list(stack.notes)
    if header.modality == "CT" and not hounsfield:
        notes.append("No rescale values: intensities are not Hounsfield units.")

    def load() -> Volume:
        voxels = stack.fill(read_voxels(stack.frames, header.modality, header.padding))
        unit = "HU" if hounsfield else "1"
        return Volume(voxels, stack.affine, unit, stack.calibrated, interpolated=stack.interpolated)

    layout = stack.frames[0].layout
    shape = (layout.columns, layout.rows, stack.slices)
    grid = Grid(shape, stack.affine, stack.calibrated, colour=layout.is_colour)
    return _make_series(uid, header, load, [frame.layout.path for frame in stack.frames], notes, grid)


def _image_series(uid: str, header: Header) -> Series:
    """A projection, photograph or cine: frames along k are views or moments, not slices."""
    frames = header.frames
    notes: list[str] = []
    affine, oriented = _flat_affine(header)
    calibrated = header.calibrated and len(frames) == 1
    if not calibrated:
        detector = header.modality in PROJECTION and frames[0].spacing is not None
        notes.append("Millimetres at the detector, not in the patient." if detector else "No pixel spacing.")
    if not oriented:
        notes.append("Unknown orientation: no side can be stated.")
    if len(frames) > 1:
        notes.append(f"{len(frames)} frames are moments or views, not slices.")

    # MONOCHROME1 shows low values bright: mirrored within what its bits can hold, higher means brighter everywhere.
    inverted = frames[0].layout.photometric == "MONOCHROME1"
    total = sum(frames[0].layout.limits) * frames[0].slope + 2 * frames[0].intercept

    def load() -> Volume:
        voxels = read_voxels(frames, header.modality, header.padding)
        if inverted:
            voxels = (total - voxels.astype(np.float32)).astype(voxels.dtype)
        return Volume(voxels, affine, "1", calibrated, oriented)

    layout = frames[0].layout
    grid = Grid((layout.columns, layout.rows, len(frames)), affine, calibrated, oriented, layout.is_colour)
    series = _make_series(uid, header, load, [header.path], notes, grid)
    return replace(series, windows=tuple(one.mirrored(total) for one in header.windows)) if inverted else series


def _flat_affine(header: Header) -> tuple[np.ndarray, bool]:
    """An affine for an image without a position, from PatientOrientation where it is given."""
    spacing = header.frames[0].spacing or (1.0, 1.0)
    directions = [LETTERS.get(text[:1]) for text in header.patient_orientation[:2]]
    affine = np.eye(4)
    oriented = len(directions) == 2 and None not in directions
    if oriented:
        row, column = (np.array(direction, dtype=float) for direction in directions)
        oriented = abs(row @ column) < 1e-6
    if oriented:
        affine[:3, 0], affine[:3, 1], affine[:3, 2] = row, column, np.cross(row, column)
    affine[:3, 0] *= spacing[1]
    affine[:3, 1] *= spacing[0]
    return LPS_TO_RAS @ affine, bool(oriented)


def _make_series(
    uid: str,
    header: Header,
    load: Callable[[], Volume],
    files: Sequence[Path],
    notes: Sequence[str],
    grid: Grid,
) -> Series:
    layout = header.frames[0].layout
    tags = dict(header.tags)
    tags["size"] = f"{layout.columns} x {layout.rows}" + (" colour" if layout.is_colour else "")
    return Series(
        uid=uid,
        modality=header.modality,
        load=load,
        description=header.description,
        body_part=header.body_part,
        tags=tags,
        files=tuple(dict.fromkeys(files)),
        notes=tuple(notes),
        windows=header.windows,
        grid=grid,
    )
