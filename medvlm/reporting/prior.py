"""What is known of an earlier study: from a report of ours, a DICOM SR, or the text of anybody's report.

A text is read for what it says of nodules, effusions and the heart, and for nothing else: it is no part of any prompt,
and what it asks for is not done.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from medvlm.errors import MedVLMError
from medvlm.findings.codes import code
from medvlm.findings.finding import Code, Finding, Measurement, Presence, Provenance, read_findings
from medvlm.pathways.loader import load_pathway
from medvlm.pathways.reports import ReportReader, sentences
from medvlm.reporting.report import read_report
from medvlm.reporting.support import GRADES
from medvlm.reporting.wording import normal_form, quantities

TEXTS = (".txt", ".md")
LONGEST_TEXT = 100_000
READ_AS_TEXT = Provenance("earlier report, as text", "1", "")
# The pathway that knows how people say it, and its variables → concepts.
READER = "chest_xray"
SPOKEN = {"lung_lesion": "lung_nodule", "pleural_effusion": "pleural_effusion", "cardiomegaly": "cardiomegaly"}
# Concept → what is compared of it, and its unit.
MEASURED = {
    "lung_nodule": ("long_axis", "mm"),
    "pleural_effusion": ("volume", "mL"),
    "cardiomegaly": ("cardiothoracic_ratio", "1"),
}
LOBES = {"upper": "upper_lobe", "lingula": "upper_lobe", "middle": "middle_lobe", "lower": "lower_lobe"}
# What follows speaks of a still earlier study.
_JOINT = re.compile(r"\s*;\s*|,?\s+and\s+", re.I)
EARLIER = re.compile(r"\b(?:previous|prior|earlier|former|compar|unchanged from|was)\w*\b", re.I)


def read_prior(path: Path) -> tuple[Finding, ...]:
    """The findings of an earlier report: its folder, `report.json`, a findings file, its SR object, or a text.

    Their ids get the prefix `prior-`.

    Raises:
        MedVLMError: the path holds none of these.
    """
    path = Path(path)
    if not path.exists():
        raise MedVLMError(f"--prior {path}: no such file or folder.")
    if path.is_dir() or path.suffix == ".json":
        findings: Sequence[Finding] = read_report(path).findings
    elif path.suffix == ".jsonl":
        findings = read_findings(path)
    elif path.suffix.lower() in TEXTS:
        findings = findings_in_text(path.read_text("utf-8", errors="replace")[:LONGEST_TEXT])
        if not findings:
            raise MedVLMError(f"--prior {path}: the text says nothing of nodules, effusions or the size of the heart.")
    else:
        findings = _from_sr(path)
    return tuple(dataclasses.replace(f, id=f"prior-{f.id.removeprefix('prior-')}", evidence=()) for f in findings)


def _from_sr(path: Path) -> tuple[Finding, ...]:
    import pydicom

    from medvlm.reporting.dicom.measurements import read_measurements

    try:
        return read_measurements(pydicom.dcmread(path))
    except (pydicom.errors.InvalidDicomError, ValueError, AttributeError, KeyError) as error:
        reason = f"{type(error).__name__}"
        raise MedVLMError(f"--prior {path}: no report, no text and no DICOM SR by TID 1500 ({reason}).") from None


def findings_in_text(text: str) -> tuple[Finding, ...]:
    """What a report in words says of nodules, effusions and the heart.

    A nodule or an effusion without a place cannot be compared and is left out. What two sections say alike is one.
    """
    kept: dict[tuple[Code, Code | None, Code | None, float | None], Finding] = {}
    absent: dict[Code, Finding] = {}
    for key, presence, part in _statements(text):
        concept = code(key)
        if presence == "absent":
            absent.setdefault(concept, _finding(f"{key}-0", key, "absent", None, None, part))
            continue
        for side in _sides(part) or (None,):
            site = _site(part) if key == "lung_nodule" else None
            finding = _finding(f"{key}-{len(kept) + 1}", key, presence, side, site, part)
            if key == "cardiomegaly" or side is not None:
                size = finding.measurements[0].value if finding.measurements else None
                kept.setdefault((concept, side, site, size), finding)
    # The same place with a size and without one: the second says nothing more.
    sized = {(c, side, site) for c, side, site, size in kept if size is not None}
    found = [f for (c, side, site, size), f in kept.items() if size is not None or (c, side, site) not in sized]
    present = {finding.concept for finding in found}
    return (*found, *(finding for concept, finding in absent.items() if concept not in present))


@cache
def _reader() -> ReportReader:
    return ReportReader(load_pathway(READER))


def _statements(text: str) -> Iterator[tuple[str, Presence, str]]:
    """`(concept key, presence, words)` of each statement about something that can be compared."""
    for _, sentence in sentences(text):
        now = normal_form(EARLIER.split(sentence)[0])
        for part in _parts(now):
            for slot, reading in _reader().read(part).readings.items():
                if slot not in SPOKEN:
                    continue
                if reading.state == "value":
                    yield SPOKEN[slot], "present" if reading.symbol is True else "absent", part
                elif reading.state == "unknown":
                    yield SPOKEN[slot], "uncertain", part


def _parts(sentence: str) -> list[str]:
    """A sentence, or the parts of one that gives several sizes."""
    lengths = [number for number in quantities(sentence) if number.unit == "mm"]
    return [part for part in _JOINT.split(sentence) if part.strip()] if len(lengths) > 1 else [sentence]


def _sides(part: str) -> tuple[Code, ...]:
    words = set(re.findall(r"[a-z]+", part.lower()))
    both = words & {"bilateral", "bilaterally", "both"}
    return tuple(code(side) for side in ("left", "right") if both or side in words)


def _site(part: str) -> Code | None:
    word = re.search(rf"\b({'|'.join(LOBES)})\b", part, re.I)
    return code(LOBES[word[1].lower()]) if word else None


def _finding(identifier: str, key: str, presence: Presence, side: Code | None, site: Code | None, part: str) -> Finding:
    grade = next((grade for grade in GRADES if re.search(rf"(?<![\w-]){grade}\b", part, re.I)), None)
    return Finding(
        id=identifier,
        study="",
        concept=code(key),
        presence=presence,
        provenance=READ_AS_TEXT,
        laterality=side,
        site=site,
        grade=grade if key == "lung_nodule" else None,
        measurements=_measured(key, part) if presence != "absent" or key == "cardiomegaly" else (),
    )


def _measured(key: str, part: str) -> tuple[Measurement, ...]:
    """The first number in the unit that is compared; a ratio lies between 0.2 and 1."""
    name, unit = MEASURED[key]
    for number in quantities(part):
        if number.unit == unit and (unit != "1" or 0.2 < number.value < 1.0):
            return (Measurement(code(name), number.value, unit),)
    return ()
