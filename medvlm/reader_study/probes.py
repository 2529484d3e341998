"""Planted errors: reports with one known mistake, to see whether readers would notice.

The types follow the taxonomies of ReXVal and ReXErr: side, negation, severity, size, made-up finding, omission,
comparison and contradiction. An error that a text has no place for falls back to a made-up finding.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.reader_study.normalise import Paragraph

_SIDES = {"right": "left", "left": "right", "upper": "lower", "lower": "upper"}
_DEGREES = {"mild": "severe", "small": "large", "minimal": "massive", "large": "small", "severe": "mild"}
_MADE_UP = (
    "There is a 9 mm solid nodule in the lingula.",
    "There is a small pneumothorax on the left.",
    "The liver shows a 3 cm hypodense lesion.",
    "There is a fracture of the right seventh rib.",
)
_COMPARED = (
    "Compared with the previous examination this has clearly increased.",
    "The changes are unchanged since the previous examination.",
)
PROBE_TYPES = (
    "laterality",
    "negation",
    "severity",
    "measurement",
    "fabrication",
    "omission",
    "comparison",
    "contradiction",
)


def plant_error(
    report: tuple[Paragraph, ...], kind: str, rng: np.random.Generator
) -> tuple[tuple[Paragraph, ...], str, str]:
    """A report with one error.

    Returns:
        The report, the type that was planted (`fabrication` where the wanted one does not fit) and the sentence that
        carries it (for an omission the sentence that was taken out).

    Raises:
        MedVLMError: no such type.
    """
    if kind not in PROBE_TYPES:
        raise MedVLMError(f"probe_types: '{kind}' is none of {', '.join(PROBE_TYPES)}.")
    places = [(p, s) for p, part in enumerate(report) for s in range(len(part.sentences))]
    for index in rng.permutation(len(places)):
        part, sentence = places[index]
        text = report[part].sentences[sentence]
        if kind == "omission" and len(places) > 1:
            return _with(report, part, sentence, ()), kind, text
        if kind == "comparison":
            extra = _COMPARED[int(rng.integers(len(_COMPARED)))]
            return _with(report, part, sentence, (text, extra)), kind, extra
        if kind == "contradiction":
            denied = negated(text)
            if denied != text:
                return _with(report, part, sentence, (text, denied)), kind, denied
        changed = _changed(text, kind)
        if changed != text:
            return _with(report, part, sentence, (changed,)), kind, changed
    extra = _MADE_UP[int(rng.integers(len(_MADE_UP)))]
    if not report:
        return (Paragraph("", (extra,)),), "fabrication", extra
    part = next((index for index, item in enumerate(report) if item.heading == "FINDINGS"), 0)
    last = len(report[part].sentences) - 1
    return _with(report, part, last, (report[part].sentences[last], extra)), "fabrication", extra


def _with(report: tuple[Paragraph, ...], part: int, sentence: int, new: tuple[str, ...]) -> tuple[Paragraph, ...]:
    sentences = report[part].sentences
    changed = (*sentences[:sentence], *new, *sentences[sentence + 1 :])
    parts = list(report)
    parts[part] = replace(parts[part], sentences=changed)
    return tuple(item for item in parts if item.sentences)


def _changed(text: str, kind: str) -> str:
    if kind == "laterality":
        return _swap_first(text, _SIDES)
    if kind == "severity":
        return _swap_first(text, _DEGREES)
    if kind == "negation":
        return negated(text)
    if kind == "measurement":
        return re.sub(r"(\d+(?:\.\d+)?)(\s*(?:mm|cm|mL|ml))", lambda m: f"{float(m[1]) * 3:g}{m[2]}", text, count=1)
    return text


def _swap_first(text: str, pairs: dict[str, str]) -> str:
    """The first word of `pairs` replaced by its opposite, the case of its first letter kept."""

    def swap(match: re.Match[str]) -> str:
        word = pairs[match[0].lower()]
        return word.capitalize() if match[0][0].isupper() else word

    return re.sub(rf"\b({'|'.join(pairs)})\b", swap, text, count=1, flags=re.I)


def negated(text: str) -> str:
    """The opposite statement, for sentences with a plain `no`, `not`, `without`, `there is` or `is`."""
    rules = (
        (r"^No\b\s+(\w)", lambda m: m[1].upper()),
        (r"\bThere is no\b", lambda m: "There is"),
        (r"\b(is|are) not\b", lambda m: m[1]),
        (r"\bwithout\b", lambda m: "with"),
        (r"\bThere (is|are) (?:an? )?", lambda m: f"There {m[1]} no "),
        (r"\b(is|are) (?=(?:enlarged|present|visible|seen|normal)\b)", lambda m: f"{m[1]} not "),
    )
    for pattern, change in rules:
        new = re.sub(pattern, change, text, count=1)
        if new != text:
            return new
    return text
