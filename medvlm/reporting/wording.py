"""How people write what reports say: abbreviations and units in one form, numbers, words that assert nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

# Abbreviations stand in capitals: `LUL` is a lobe, `lul` is nothing.
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
    (re.compile(r"\b(?:part solid|part(?:ial)?ly solid|sub-?solid|semi-?solid)\b", re.I), "part-solid"),
    (re.compile(r"\bnon-?solid\b", re.I), "ground-glass"),
    # The hyphen of "14-mm" and "right-sided" only joins.
    (re.compile(r"(?<=\d)-(?=(?:mm|cm|ml|cc)\b)", re.I), " "),
    (re.compile(r"\b(left|right)-(?=\w)", re.I), r"\1 "),
    (re.compile(r"\bmillimet(?:er|re)s?\b", re.I), "mm"),
    (re.compile(r"\bcentimet(?:er|re)s?\b", re.I), "cm"),
    (re.compile(r"\bmillilit(?:er|re)s?\b", re.I), "mL"),
    (re.compile(r"\blit(?:er|re)s?\b", re.I), "L"),
    (re.compile(r"(?<=\d)\s*per ?cent\b", re.I), " %"),
    (re.compile(r"\b(?:at )?(?:the )?upper limits? of normal\b", re.I), "normal"),
)
NUMBER = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s*(mm|cm|ml|cc|cm3|cm³|l|hu|%)?(?![\w]|\.\d)", re.I)
# unit as written → (unit in a Measurement, factor)
_UNITS = {
    "mm": ("mm", 1.0),
    "cm": ("mm", 10.0),
    "ml": ("mL", 1.0),
    "cc": ("mL", 1.0),
    "cm3": ("mL", 1.0),
    "cm³": ("mL", 1.0),
    "l": ("mL", 1000.0),
    "hu": ("[hnsf'U]", 1.0),
    "%": ("%", 1.0),
    "": ("1", 1.0),
}
# Words that assert nothing by themselves. Any other word must come from the Findings: "spiculated" does not pass.
NEUTRAL = frozenset(resources.files("medvlm.reporting").joinpath("neutral_words.txt").read_text("utf-8").split())
# Words that assert nothing where the whole thing is denied: "no suspicious nodule".
NEUTRAL_IF_DENIED = frozenset(
    ["suspicious", "indeterminate", "focal", "discrete", "worrisome", "sizeable", "sizable", "definite"]
)
NEGATION = re.compile(
    r"\b(?:no|not|none|neither|nor|without|absent|absence|normal|negative|unremarkable|free of|devoid of|lacks?"
    r"|clear|dry)\b",
    re.I,
)
HEDGE = re.compile(
    r"\b(possibl[ey]|probabl[ey]|likely|suspect(?:ed)?|suspicious|questionabl[ey]|question(?:ed)?|equivocal|may|might|could|"
    r"cannot be excluded|perhaps|uncertain|doubtful|indeterminate)\b",
    re.I,
)


@dataclass(frozen=True)
class Quantity:
    """A number with its unit.

    Attributes:
        written: as it stands in the text.
        span: where.
        value: in the unit of a Measurement.
        near: half a unit of the last digit that is written.
        unit: UCUM; `"1"` where none is written.
    """

    written: str
    span: tuple[int, int]
    value: float
    near: float
    unit: str

    def agrees(self, value: float, unit: str) -> bool:
        """A measured value is this number, at the precision it is written with; a ratio may be written in per cent."""
        if unit == "1" and self.unit == "%":
            return abs(100.0 * value - self.value) <= self.near
        return unit == self.unit and abs(value - self.value) <= self.near


def normal_form(text: str) -> str:
    """`RUL, 14-mm subsolid nodule` → `right upper lobe, 14 mm part-solid nodule`."""
    for pattern, form in _FORMS:
        text = pattern.sub(form, text)
    return text


def quantities(text: str) -> Iterator[Quantity]:
    """Every number of a text."""
    for match in NUMBER.finditer(text):
        unit, factor = _UNITS[(match[2] or "").lower()]
        near = _slack(match[1], unit if factor == 1.0 else "") * factor + 1e-6
        yield Quantity(match[0].strip(), match.span(1), float(match[1]) * factor, near, unit)


def _slack(written: str, unit: str) -> float:
    """Half a unit of the last digit written; volumes of ten and more are given in tens (`390 mL`)."""
    decimals = len(written.partition(".")[2])
    return 5.0 if unit == "mL" and not decimals and written.endswith("0") else 0.5 * 10.0**-decimals
