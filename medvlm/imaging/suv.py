"""PET: from activity to the standardized uptake value by body weight (SUVbw), or a reason why not.

SUVbw = activity concentration [Bq/mL] x body weight [g] / injected activity, decayed to the time that the images were
corrected to [Bq]. Where that time lies follows the pseudocode of the QIBA FDG-PET/CT profile: the series time, unless
it was set after the acquisition (a processed series), in which case it is the earliest acquisition.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from medvlm.errors import MedVLMError
from medvlm.imaging.dicom_fields import Fields
from medvlm.imaging.dicom_header import quiet_pydicom
from medvlm.imaging.study import Series, Volume

SUV_UNIT = "g/mL{SUVbw}"
# Philips: factor from stored counts to SUVbw, and from counts to Bq/mL.
_PHILIPS_SUV, _PHILIPS_ACTIVITY = (0x7053, 0x1000), (0x7053, 0x1009)
LONGEST_UPTAKE = timedelta(hours=24)
_TAGS: list[Any] = [
    "Modality",
    "Units",
    "SUVType",
    "DecayCorrection",
    "CorrectedImage",
    "PatientWeight",
    "SeriesDate",
    "SeriesTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "RadiopharmaceuticalInformationSequence",
    _PHILIPS_SUV,
    _PHILIPS_ACTIVITY,
]


def suv_volume(series: Series) -> Volume:
    """The volume of a PET series in SUVbw.

    Raises:
        MedVLMError: the factor cannot be known from the headers (says what is missing or does not fit).
    """
    factor = suv_factor(series.files)
    volume = series.volume
    return replace(volume, array=volume.array.astype(np.float32) * np.float32(factor), unit=SUV_UNIT)


def suv_factor(files: Iterable[Path]) -> float:
    """SUVbw of one unit of the rescaled pixel values of a PET series.

    Args:
        files: all files of the series.

    Raises:
        MedVLMError: as `suv_volume`.
    """
    headers = [_header(path) for path in files]
    if not headers or any(header.word("Modality") != "PT" for header in headers):
        raise MedVLMError("no SUV: this is not a PET series.")
    first = headers[0]
    if len({header.word("Units") for header in headers}) > 1:
        raise MedVLMError("no SUV: the slices have different Units.")
    units = first.word("Units")
    if units == "GML":
        kind = first.word("SUVType") or "BW"
        if kind != "BW":
            raise MedVLMError(f"no SUV by body weight: the values are already SUV of the type {kind}.")
        return 1.0
    if units == "CNTS":
        known = {_float(header.private(_PHILIPS_SUV)) for header in headers}
        if len(known) == 1 and (factor := known.pop()) > 0:
            return factor
        activity = {_float(header.private(_PHILIPS_ACTIVITY)) for header in headers}
        if len(activity) != 1 or (factor := activity.pop()) <= 0:
            raise MedVLMError("no SUV: the values are counts, and the factor (7053,1000) or (7053,1009) is missing.")
        return factor * _per_becquerel(headers)
    if units != "BQML":
        raise MedVLMError(f"no SUV: values in {units or 'unknown units'} cannot be converted (BQML, CNTS or GML can).")
    return _per_becquerel(headers)


def _per_becquerel(headers: list[Fields]) -> float:
    first = headers[0]
    missing = {"ATTN", "DECY"} - set(first.words("CorrectedImage"))
    if missing:
        raise MedVLMError(f"no SUV: the images are not corrected for {' and '.join(sorted(missing))}.")
    weight = first.number("PatientWeight")
    if not weight or not 0.2 <= weight <= 500:
        raise MedVLMError("no SUV: PatientWeight is missing or impossible.")
    drug = first.first("RadiopharmaceuticalInformationSequence")
    dose = drug.number("RadionuclideTotalDose") if drug else None
    half_life = drug.number("RadionuclideHalfLife") if drug else None
    if drug is None or not dose or not half_life or half_life <= 0:
        raise MedVLMError("no SUV: the injected dose or the half-life is missing.")
    if not 1e5 <= dose <= 1e11:
        raise MedVLMError(f"no SUV: an injected dose of {dose:g} Bq is impossible; it may be in another unit.")
    correction = first.word("DecayCorrection")
    if correction == "ADMIN":
        return weight * 1000 / dose
    if correction != "START":
        raise MedVLMError(f"no SUV: DecayCorrection is '{correction}', so the time of the values is unknown.")
    uptake = _uptake(headers, drug)
    return float(weight * 1000 / (dose * 2.0 ** (-uptake.total_seconds() / half_life)))


def _uptake(headers: list[Fields], drug: Fields) -> timedelta:
    """From the injection to the time that the images were decay-corrected to."""
    first = headers[0]
    acquired = [_moment(header.word("AcquisitionDate"), header.word("AcquisitionTime")) for header in headers]
    known = [moment for moment in acquired if moment is not None]
    series = _moment(first.word("SeriesDate"), first.word("SeriesTime"))
    if not known and series is None:
        raise MedVLMError("no SUV: neither the series nor the acquisition has a date and time.")
    reference = min(known) if known and (series is None or series > min(known)) else series
    assert reference is not None
    whole = drug.word("RadiopharmaceuticalStartDateTime")
    injected = _moment(whole[:8], whole[8:]) if whole else None
    if injected is None:
        injected = _moment(f"{reference:%Y%m%d}", drug.word("RadiopharmaceuticalStartTime"))
        if injected is not None and injected > reference:  # the evening before
            injected -= timedelta(days=1)
    if injected is None:
        raise MedVLMError("no SUV: the time of the injection is missing.")
    uptake = reference - injected
    if not timedelta(0) <= uptake <= LONGEST_UPTAKE:
        raise MedVLMError(f"no SUV: the injection lies {uptake.total_seconds() / 3600:.1f} h before the images.")
    return uptake


def _header(path: Path) -> Fields:
    try:
        with quiet_pydicom():
            return Fields(pydicom.dcmread(path, force=True, specific_tags=_TAGS))
    except Exception as error:  # a broken file can fail anywhere inside the parser
        raise MedVLMError(f"{path}: a broken DICOM header ({type(error).__name__}).") from None


def _moment(date: str, time: str) -> datetime | None:
    """A DICOM date and time (HHMMSS, fraction and offset cut off); None where one of them is not there."""
    try:
        return datetime.strptime(date[:8] + time[:6].ljust(6, "0"), "%Y%m%d%H%M%S") if time else None
    except ValueError:
        return None


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
