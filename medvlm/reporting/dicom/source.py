"""The headers of the images that a report was made from, mended as far as new objects need them.

A new object repeats the patient and study of its source. What the source says wrongly (an invalid date, text in an
undeclared character set, an attribute that must be there and is not) must not make the new object invalid, so it is
blanked or completed here, in the copy; what it says rightly is kept as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import UID

from medvlm.errors import MedVLMError
from medvlm.findings.finding import Evidence
from medvlm.findings.measure import superior_axis
from medvlm.imaging.dicom_header import quiet_pydicom
from medvlm.imaging.dicom_stack import LPS_TO_RAS
from medvlm.imaging.study import Series

UNICODE = "ISO_IR 192"
# Attributes that must be present though they may be empty (PS3.3 C.7.1.1, C.7.2.1).
TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
# A retired or missing storage class → the one that took its place; highdicom knows only current ones.
CURRENT_CLASS = {
    "1.2.840.10008.5.1.4.1.1.3": "1.2.840.10008.5.1.4.1.1.3.1",
    "1.2.840.10008.5.1.4.1.1.5": "1.2.840.10008.5.1.4.1.1.20",
    "1.2.840.10008.5.1.4.1.1.6": "1.2.840.10008.5.1.4.1.1.6.1",
}
CLASS_OF_MODALITY = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "NM": "1.2.840.10008.5.1.4.1.1.20",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# Longest values (PS3.5 6.2).
_LONGEST = {"SH": 16, "CS": 16, "LO": 64, "PN": 324, "AS": 4, "UI": 64}


@dataclass(frozen=True, eq=False)
class Source:
    """One series of the study as new objects refer to it.

    Attributes:
        uid: uid of the series in the report.
        images: one header a file, without pixels, in the order of the slices.
        slices: for each slice k of the volume, the header it comes from and its frame number (from 1), or None in a
            file of one frame.
        affine: `[4, 4]` voxel → RAS+ mm of the volume.
        stated: instance UID → the storage class in the file, where the header says another one by now (`mend`).
    """

    uid: str
    images: tuple[Dataset, ...]
    slices: tuple[tuple[Dataset, int | None], ...]
    affine: np.ndarray
    stated: Mapping[str, UID]

    @property
    def first(self) -> Dataset:
        return self.images[0]

    def best(self, place: Evidence | None) -> tuple[Dataset, int | None]:
        """The image (and frame) that shows a Finding best: that of its slice or centre, else the middle one."""
        count = len(self.slices)
        index = count // 2
        if place is not None and place.slice is not None and superior_axis(self.affine)[0] == 2:
            # `Evidence.slice` counts upwards from the feet; these slices run along their own normal.
            index = count - 1 - place.slice if superior_axis(self.affine)[1] else place.slice
        elif place is not None and place.centroid is not None:
            index = round(float((np.linalg.inv(self.affine) @ np.array([*place.centroid, 1.0]))[2]))
        return self.slices[min(max(index, 0), count - 1)]


def read_source(series: Series) -> Source | None:
    """The headers of a series; None where it does not come from DICOM files.

    Raises:
        MedVLMError: a file is gone or has changed since it was read.
    """
    images: list[Dataset] = []
    stated: dict[str, UID] = {}
    with quiet_pydicom():
        for path in series.files:
            header = _read(path)
            if header is None:
                return None
            before = str(header.get("SOPClassUID") or "")
            images.append(mend(header))
            if before and before != header.SOPClassUID:
                stated[str(header.SOPInstanceUID)] = UID(before)
    if not images:
        return None
    count = series.grid.shape[2] if series.grid is not None else series.volume.array.shape[2]
    affine = series.grid.affine if series.grid is not None else series.volume.affine
    return Source(series.uid, tuple(images), _order(images, affine, count), affine, stated)


def _read(path: Path) -> Dataset | None:
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        header.remove_private_tags()
    except Exception as error:  # a broken file can fail anywhere inside the parser
        raise MedVLMError(f"{path}: cannot be read again ({type(error).__name__}).") from None
    return header if "Rows" in header or "SOPClassUID" in header else None


def mend(header: Dataset) -> Dataset:
    """The header in UTF-8, with every attribute that new objects repeat valid or empty."""
    try:
        header.decode()
    except Exception:  # text that cannot be decoded is removed below, element by element
        _drop_undecodable(header)
    header.SpecificCharacterSet = UNICODE
    for name in TYPE_2:
        setattr(header, name, _valid(header, name))
    for name in ("PatientAge", "StudyDescription", "PatientSize", "PatientWeight", "IssuerOfPatientID"):
        if name in header:
            value = _valid(header, name)
            if value in ("", None):
                delattr(header, name)
            else:
                setattr(header, name, value)
    header.SOPClassUID = current_class(header)
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        if not UID(str(header.get(name) or "")).is_valid:
            raise MedVLMError(f"the images have no valid {name}, so nothing can refer to them.")
    _drop_bad_sequences(header)
    return header


def current_class(header: Dataset) -> UID:
    """The storage class, as a class that is not retired and is known."""
    stated = str(header.get("SOPClassUID") or "")
    modality = str(header.get("Modality") or "")
    chosen = UID(CURRENT_CLASS.get(stated, stated) or CLASS_OF_MODALITY.get(modality, SECONDARY_CAPTURE))
    return chosen if chosen.type == "SOP Class" and chosen.info != "Retired" else UID(SECONDARY_CAPTURE)


def _drop_undecodable(header: Dataset) -> None:
    for tag in list(header.keys()):
        try:
            _ = header[tag].value
        except Exception:  # the reason differs from parser to parser; the element is worth nothing either way
            del header[tag]


def _valid(header: Dataset, name: str) -> Any:
    """The value where it is valid for its representation, else empty."""
    try:
        value = header.get(name)
    except Exception:  # pydicom converts on access
        return ""
    if value is None or isinstance(value, pydicom.multival.MultiValue):
        value = "" if not value else value[0]
    kind = dictionary_VR(name)
    text = "".join(c for c in str(value) if c.isprintable() and c != "\\").strip()
    if kind == "DA":
        return text if _is_date(text) else ""
    if kind == "TM":
        return text if text.replace(".", "", 1).isdigit() and len(text) >= 2 else ""
    if kind == "DS":
        return value if _is_number(text) else ""
    if name == "PatientSex":
        return text if text in ("M", "F", "O") else ""
    if kind == "AS":
        return text if len(text) == 4 and text[:3].isdigit() and text[3] in "DWMY" else ""
    if kind == "PN":
        return _person_name(text)
    return text[: _LONGEST.get(kind, 1024)]


def _person_name(text: str) -> str:
    """At most three groups of at most 64 characters and five components (PS3.5 6.2.1)."""
    groups = ["^".join(group.split("^")[:5])[:64] for group in text.split("=")[:3]]
    return "=".join(groups)


def _is_date(text: str) -> bool:
    try:
        datetime.strptime(text, "%Y%m%d")
    except ValueError:
        return False
    return len(text) == 8


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _drop_bad_sequences(header: Dataset) -> None:
    """Patient and study modules hold code sequences that a careless source leaves without a code."""
    for element in list(header):
        if element.VR == "SQ" and element.tag.group in (0x0008, 0x0010, 0x0032, 0x0040):
            items = element.value or []
            if any("CodingSchemeDesignator" not in item for item in items if "CodeValue" in item or not len(item)):
                del header[element.tag]


def _order(images: Sequence[Dataset], affine: np.ndarray, count: int) -> tuple[tuple[Dataset, int | None], ...]:
    """Which file and frame each slice of the volume comes from."""
    if len(images) == count and all(int(image.get("NumberOfFrames") or 1) == 1 for image in images):
        return tuple((image, None) for image in images)
    frames = list(_frames(images))
    places = [position for _, _, position in frames]
    if any(position is None for position in places):
        return tuple((image, number) for image, number, _ in frames[:count])
    lps = LPS_TO_RAS @ affine
    stored = np.array(places, dtype=float)
    ordered = []
    for k in range(count):
        nearest = int(np.abs(stored - (lps[:3, 3] + k * lps[:3, 2])).sum(axis=1).argmin())
        ordered.append(frames[nearest][:2])
    return tuple(ordered)


def _frames(images: Sequence[Dataset]) -> Iterator[tuple[Dataset, int | None, Any]]:
    for image in images:
        count = int(image.get("NumberOfFrames") or 1)
        if "PerFrameFunctionalGroupsSequence" not in image:
            for number in range(1, count + 1):
                yield image, number if count > 1 else None, image.get("ImagePositionPatient") if count == 1 else None
            continue
        shared = image.get("SharedFunctionalGroupsSequence") or [Dataset()]
        for number, groups in enumerate(image.PerFrameFunctionalGroupsSequence, start=1):
            place = groups.get("PlanePositionSequence") or shared[0].get("PlanePositionSequence")
            yield image, number, place[0].get("ImagePositionPatient") if place else None
