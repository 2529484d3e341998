"""De-identification of DICOM images after the basic profile of PS3.15 Annex E.

What may stay is decided by what an element is, not by a list of what to remove: numbers, code strings and registered
uids stay; uids are replaced, dates shifted, and every name, identifier and free text goes, in sequences too, except a
short list of technical words. Private elements, overlays, curves and icons go whole. The same key gives the same
pseudonyms, so that studies of one patient stay together.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items
from pydicom.tag import BaseTag
from pydicom.uid import UID, UID_dictionary

import medvlm
from medvlm.errors import MedVLMError

Dates = Literal["shift", "remove"]

# Words about the machine and the code of a concept, not about a person.
KEPT_TEXT = {
    "SpecificCharacterSet",
    "Manufacturer",
    "ManufacturerModelName",
    "ConvolutionKernel",
    "FilterType",
    "SequenceName",
    "RescaleType",
    "ModalityLUTType",
    "CodeValue",
    "CodingSchemeDesignator",
    "CodingSchemeVersion",
    "CodeMeaning",
}
# Sequences about requests, people, places and related objects; what is in them is never needed to read an image.
REMOVED = {
    "IconImageSequence",
    "RequestAttributesSequence",
    "ReferencedPatientSequence",
    "OtherPatientIDsSequence",
    "PatientInsurancePlanCodeSequence",
    "PersonIdentificationCodeSequence",
    "InstitutionCodeSequence",
    "OriginalAttributesSequence",
    "ReferencedRequestSequence",
    "PatientsPrimaryLanguageCodeSequence",
    "DigitalSignaturesSequence",
    "MACParametersSequence",
    "EncryptedAttributesSequence",
    "ContributingEquipmentSequence",
}
IDENTIFIERS = {
    "PatientID",
    "OtherPatientIDs",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "AccessionNumber",
    "MedicalRecordLocator",
    "StudyID",
    "DeviceSerialNumber",
}
CHARACTERISTICS = {"PatientSex", "PatientAge", "PatientSize", "PatientWeight", "EthnicGroup", "SmokingStatus"}
PIXELS = {"PixelData", "FloatPixelData", "DoubleFloatPixelData"}
_TEXT = {"LO", "SH", "ST", "LT", "UT", "UC", "UR", "AE", "PN"}
_BINARY = {"OB", "OW", "OF", "OD", "OL", "OV", "UN"}
_TABLES = re.compile(r"(LUTData|LookupTableData)$")
_FACES = {"HEAD", "BRAIN", "SKULL", "FACE"}
# Modalities whose pixels usually carry text, whatever BurnedInAnnotation says.
_WRITTEN_ON = {"US", "SC", "XA", "RF", "OT", "ES", "XC", "GM", "SM", "IVUS"}


@dataclass
class Deidentifier:
    """Removes who from what.

    Attributes:
        key: secret from which pseudonyms are made; keep it to add to the data later, throw it away to cut the link.
        dates: `shift` by a constant for each patient (intervals stay), or `remove`.
        keep_characteristics: keep sex, age (at most 90), size and weight.
    """

    key: bytes
    dates: Dates = "shift"
    keep_characteristics: bool = False

    def pseudonym(self, patient: str) -> str:
        """A stable name for a patient, from which the identifier cannot be computed without the key."""
        return "P" + self._digest("patient", patient)[:12].upper()

    def uid(self, original: str) -> str:
        """A stable replacement for a uid (PS3.5 B.2); registered ones stay."""
        if not original or original in UID_dictionary:
            return original
        return f"2.25.{int(self._digest('uid', original)[:30], 16)}"

    def apply(self, dataset: Dataset) -> list[str]:
        """De-identify one image in place.

        Returns:
            Warnings, one sentence each: what a person still has to look at.

        Raises:
            MedVLMError: it is not an image, or something identifying would be left.
        """
        if not any(name in dataset for name in PIXELS):
            raise MedVLMError("not an image: reports and documents are not de-identified; leave them out.")
        patient = str(dataset.get("PatientID") or dataset.get("PatientName") or dataset.get("StudyInstanceUID") or "")
        warnings = list(_warnings(dataset))
        names = self._names(dataset)
        dataset.remove_private_tags()
        self._clean(dataset, names, self._shift(patient))
        alias = self.pseudonym(patient)
        dataset.PatientID, dataset.PatientName = alias, alias
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = f"medvlm {medvlm.__version__}: PS3.15 basic profile"
        dataset.DeidentificationMethodCodeSequence = Items(list(self._method_codes()))
        dataset.LongitudinalTemporalInformationModified = "MODIFIED" if self.dates == "shift" else "REMOVED"
        dataset.preamble = b"\0" * 128
        meta = dataset.file_meta
        for name in [element.keyword for element in meta if element.keyword not in _KEPT_META]:
            delattr(meta, name)
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        self._check(dataset, names)
        return warnings

    def _digest(self, kind: str, text: str) -> str:
        return hmac.new(self.key, f"{kind}:{text}".encode(), hashlib.sha256).hexdigest()

    def _shift(self, patient: str) -> datetime.timedelta:
        number = int(self._digest("date", patient)[:12], 16)
        return datetime.timedelta(days=-(365 + number % 3650), seconds=-(number // 3650 % 86400))

    @staticmethod
    def _names(dataset: Dataset) -> set[str]:
        """Words of this file that name or number somebody: no kept text may contain one."""
        found: set[str] = set()
        for element in _elements(dataset):
            if element.VR == "PN" or element.keyword in IDENTIFIERS:
                values = element.value if isinstance(element.value, MultiValue) else [element.value]
                text = " ".join(map(str, values)).lower()
                found |= {word for word in re.split(r"[\s^=,;\\/]+", text) if len(word) >= 4}
        return found

    def _clean(self, dataset: Dataset, names: set[str], shift: datetime.timedelta) -> None:
        for tag in list(dataset.keys()):
            if tag.group in range(0x5000, 0x5100) or tag.group in range(0x6000, 0x6100):
                del dataset[tag]  # curves and overlays may be drawings of text
                continue
            element = dataset[tag]
            if element.keyword in REMOVED or element.keyword == "":
                del dataset[tag]
            elif element.VR == "SQ":
                for item in element.value or ():
                    self._clean(item, names, shift)
            elif not self._stays(element, names):
                self._replace(dataset, tag, element, shift)

    def _stays(self, element: DataElement, names: set[str]) -> bool:
        if element.keyword in PIXELS:
            return True
        if element.keyword in CHARACTERISTICS:
            return self.keep_characteristics and not (element.VR == "AS" and str(element.value) > "090Y")
        if element.VR in _BINARY or "or OW" in element.VR:
            return bool(_TABLES.search(element.keyword)) or not isinstance(element.value, bytes)
        if element.VR in ("UI", "DA", "DT", "TM", "AS"):
            return False
        if element.VR in _TEXT and element.keyword not in KEPT_TEXT:
            return False
        words = str(element.value).lower()
        return not (element.VR in {*_TEXT, "CS"} and any(name in words for name in names))

    def _replace(self, dataset: Dataset, tag: BaseTag, element: DataElement, shift: datetime.timedelta) -> None:
        values = list(element.value) if isinstance(element.value, MultiValue) else [element.value]
        if element.VR == "UI":
            element.value = [UID(self.uid(str(value))) for value in values if value]
        elif element.VR in ("DA", "DT", "TM") and self.dates == "shift" and "Birth" not in element.keyword:
            element.value = [_shifted(str(value), element.VR, shift) for value in values if value]
        elif element.VR == "AS" and self.keep_characteristics:
            element.value = "090Y"
        elif element.VR in _BINARY or "or OW" in element.VR:
            del dataset[tag]
        else:
            element.value = ""

    def _method_codes(self) -> Iterator[Dataset]:
        codes = [("113100", "Basic Application Confidentiality Profile")]
        if self.dates == "shift":
            codes.append(("113107", "Retain Longitudinal Temporal Information Modified Dates Option"))
        if self.keep_characteristics:
            codes.append(("113108", "Retain Patient Characteristics Option"))
        for value, meaning in codes:
            item = Dataset()
            item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
            yield item

    @staticmethod
    def _check(dataset: Dataset, names: set[str]) -> None:
        """No kept text may contain a word that was taken out elsewhere."""
        ours = {"PatientID", "PatientName", "DeidentificationMethod", "CodeMeaning"}
        for element in _elements(dataset):
            if element.VR in {*_TEXT, "CS"} and element.keyword not in ours:
                left = [name for name in names if name in str(element.value).lower()]
                if left:
                    raise MedVLMError(f"{element.keyword} would still hold an identifier; the file was not written.")


_KEPT_META = {
    "FileMetaInformationGroupLength",
    "FileMetaInformationVersion",
    "MediaStorageSOPClassUID",
    "MediaStorageSOPInstanceUID",
    "TransferSyntaxUID",
    "ImplementationClassUID",
}


def _elements(dataset: Dataset) -> Iterator[DataElement]:
    """All elements but pixels, in sequences too."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value or ():
                yield from _elements(item)
        elif element.keyword not in PIXELS:
            yield element


def _shifted(text: str, vr: str, shift: datetime.timedelta) -> str:
    """A DICOM date, time or date-time moved by a constant; what cannot be read is removed."""
    digits = text.strip()
    zone = re.search(r"[+-]\d{4}$", digits)
    digits = digits[: zone.start()] if zone else digits
    main, _, fraction = digits.partition(".")
    pattern = {"DA": "%Y%m%d", "TM": "%H%M%S"}.get(vr, "%Y%m%d%H%M%S")
    pattern = "".join(re.findall(r"%.", pattern)[: _parts(main, vr)])
    try:
        moment = datetime.datetime.strptime(main, pattern)
        if vr == "TM":  # the time of day alone wraps around
            moment += datetime.timedelta(days=40_000)
        moved = moment + (datetime.timedelta(days=shift.days) if vr == "DA" else shift)
    except (ValueError, OverflowError):
        return ""
    return moved.strftime(pattern).zfill(len(main)) + (f".{fraction}" if fraction else "")


def _parts(main: str, vr: str) -> int:
    """How many of year, month, day, hour, minute and second are given."""
    return (len(main) + 1) // 2 if vr == "TM" else 1 + max(0, len(main) - 4) // 2


def _warnings(dataset: Dataset) -> Iterator[str]:
    modality = str(dataset.get("Modality", ""))
    burned = str(dataset.get("BurnedInAnnotation", ""))
    if burned == "YES":
        yield "The pixels carry burned-in text (BurnedInAnnotation is YES)."
    elif burned != "NO" and modality in _WRITTEN_ON:
        yield f"{modality} images often carry burned-in text, and the file does not deny it; look at the pixels."
    if str(dataset.get("RecognizableVisualFeatures", "")) == "YES":
        yield "The face can be recognised (RecognizableVisualFeatures is YES)."
    elif str(dataset.get("BodyPartExamined", "")).upper() in ("HEAD", "BRAIN", "SKULL", "FACE") and modality in (
        "CT",
        "MR",
    ):
        yield "A face can be rendered from a head CT or MR; remove it if the data leave the house."
