"""Write a Report as grounded phrases: each sentence with the boxes that show it, as RadFact scorers read them.

Boxes are `x_min, y_min, x_max, y_max` as fractions of the slice that the key image shows (radiological: the patient's
right is left); a volume adds plane and slice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medvlm.reporting.report import Report, Sentence
from medvlm.storage import write_json


def grounded(report: Report) -> dict[str, Any]:
    """`{"study_id", "findings": [{"phrase", "boxes", ...}], "impression": [...]}`."""
    sections = {
        key: [_phrase(report, sentence) for sentence in (section.sentences if section else ()) if sentence.findings]
        for key, section in ((key, report.section(key)) for key in ("findings", "impression"))
    }
    return {"study_id": report.study, "disclaimer": report.disclaimer} | sections


def _phrase(report: Report, sentence: Sentence) -> dict[str, Any]:
    boxes = [
        dict(zip(("x_min", "y_min", "x_max", "y_max"), image.box))
        | {"image": image.file, "plane": image.plane, "slice": image.slice}
        for image in report.images
        if image.box is not None and set(image.findings) & set(sentence.findings)
    ]
    return {"phrase": sentence.text, "boxes": boxes, "findings": list(sentence.findings), "source": sentence.source}


def write_grounded(report: Report, path: Path) -> None:
    """Write `grounded.json`."""
    write_json(path, grounded(report))
