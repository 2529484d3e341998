"""How people write what reports say: abbreviations, hyphens and units brought into one form before anything is read."""

from __future__ import annotations

import re

# Written as they stand between word boundaries, any case; lobes and lungs only in capitals (`LUL`, not `lul`).
_CAPITALS = {
    "RUL": "right upper lobe",
    "RML": "right middle lobe",
    "RLL": "right lower lobe",
    "LUL": "left upper lobe",
    "LLL": "left lower lobe",
    "CTR": "cardiothoracic ratio",
    "GGN": "ground-glass nodule",
    "GGO": "ground-glass opacity",
}
_FORMS = (
    *((re.compile(rf"\b{short}s?\b"), long) for short, long in _CAPITALS.items()),
    (re.compile(r"\b(?:ground glass|groundglass)\b", re.I), "ground-glass"),
    (re.compile(r"\b(?:part solid|partly solid|partially solid|sub-?solid|semi-?solid)\b", re.I), "part-solid"),
    (re.compile(r"\bnon-?solid\b", re.I), "ground-glass"),
    # "14-mm", "right-sided", "left-hand": the hyphen only joins.
    (re.compile(r"(?<=\d)-(?=(?:mm|cm|ml|cc)\b)", re.I), " "),
    (re.compile(r"\b(left|right)-(?=\w)", re.I), r"\1 "),
    (re.compile(r"\b(millimet(?:er|re)s?)\b", re.I), "mm"),
    (re.compile(r"\b(centimet(?:er|re)s?)\b", re.I), "cm"),
    (re.compile(r"\b(millilit(?:er|re)s?)\b", re.I), "mL"),
    (re.compile(r"\b(lit(?:er|re)s?)\b", re.I), "L"),
)


def normal_form(text: str) -> str:
    """`RUL, 14-mm subsolid nodule` → `right upper lobe, 14 mm part-solid nodule`."""
    for pattern, form in _FORMS:
        text = pattern.sub(form, text)
    return text
