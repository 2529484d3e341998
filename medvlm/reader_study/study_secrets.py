"""What must not be in a packet: identifiers of persons and cases, and whatever would name a source."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from medvlm.reader_study.spec import StudySpec

# Words of every report and form: a source or case that is called so cannot be searched for (the codes hide it).
COMMON = {
    "human", "model", "report", "reader", "readers", "case", "expert", "left", "right", "ai", "a", "b", "c", "study",
    "image", "normal", "chest", "original", "final", "draft", "text", "source", "machine", "person", "unsure",
}  # fmt: skip


@dataclass(frozen=True)
class StudySecrets:
    """Needles of the leak scan, in small letters.

    Attributes:
        identifiers: of patients, cases, readers and files.
        sources: ids and labels of sources, model names.
        truth_of: code → (case, source), to find orders that tell.
    """

    identifiers: frozenset[str]
    sources: frozenset[str]
    truth_of: dict[str, tuple[str, str]] = field(default_factory=dict)


def study_secrets(
    spec: StudySpec, headers: Iterable[str] = (), truth_of: dict[str, tuple[str, str]] | None = None
) -> StudySecrets:
    """Everything that the spec, the table of cases and the headers of the images say about persons and sources."""
    identifiers: set[str] = set()
    for case in spec.cases:
        identifiers |= {case.id, case.patient, *case.secrets, Path(case.image).name if case.image else ""}
    identifiers |= {reader.name for reader in spec.readers} | set(spec.sensitive) | set(headers)
    sources = {name for source in spec.sources for name in (source.id, *source.labels)}
    sources |= {Path(source.reports).name for source in spec.sources if source.reports}
    codes = {reader.id.casefold() for reader in spec.readers}
    return StudySecrets(frozenset(_needles(identifiers) - codes), frozenset(_needles(sources)), dict(truth_of or {}))


def _needles(words: Iterable[str]) -> set[str]:
    """Words that can be searched for: three characters or more, no common word, no plain small number."""
    found: set[str] = set()
    for word in words:
        text = " ".join(re.findall(r"[^\W_]+", word.casefold()))
        if len(text) >= 3 and text not in COMMON and not (text.isdigit() and len(text) < 5):
            found.add(text)
    return found


def header_secrets(folder_or_file: Path) -> set[str]:
    """Names, numbers, dates and uids in the DICOM header of a case (the first file of a folder stands for it)."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    path = folder_or_file
    if path.is_dir():
        path = next((file for file in sorted(path.rglob("*")) if file.is_file()), path)
    if not path.is_file() or path.suffix.lower() in (".png", ".jpg", ".jpeg", ".gz", ".nii", ".zip"):
        return set()
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
    except (InvalidDicomError, OSError):
        return set()
    found: set[str] = set()
    for element in header:
        if element.VR == "PN" or element.keyword in _NUMBERS:
            text = str(element.value)
            found |= {text, *(part for part in re.split(r"[\^=\\ ]+", text) if len(part) >= 4)}
        elif element.VR == "UI" and element.keyword.endswith("InstanceUID"):
            found.add(str(element.value))
    return {word for word in found if word}


_NUMBERS = {"PatientID", "AccessionNumber", "StudyID", "OtherPatientIDs", "StudyDate", "PatientBirthDate"}
