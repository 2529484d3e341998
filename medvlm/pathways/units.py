"""Units a measurement may be spoken in, and how they convert."""

from __future__ import annotations

# Normalised unit word → (dimension, factor to the base unit of that dimension).
_UNITS: dict[str, tuple[str, float]] = {}


def _add(dimension: str, factor: float, *words: str) -> None:
    for word in words:
        _UNITS[word] = (dimension, factor)


_add("length", 1.0, "mm", "millimeter", "millimetre")
_add("length", 10.0, "cm", "centimeter", "centimetre")
_add("length", 0.001, "um", "µm", "μm", "micron", "micrometer", "micrometre")
_add("length", 1000.0, "m", "meter", "metre")
_add("volume", 1.0, "ml", "milliliter", "millilitre", "cc", "cm3", "cm³", "ccm")
_add("volume", 1000.0, "l", "liter", "litre")
_add("volume", 0.001, "mm3", "mm³", "ul", "µl", "μl")
_add("percent", 1.0, "%", "percent", "pct")
_add("density", 1.0, "hu", "hounsfield")
_add("time", 1.0, "ms", "msec", "millisecond")
_add("time", 1000.0, "s", "sec", "second")
_add("age", 1.0, "year", "yr", "y", "yo")
_add("age", 1 / 12, "month", "mo")
_add("age", 1 / 365.25, "day", "d")
_add("age", 7 / 365.25, "week", "wk")
_add("concentration", 1.0, "ng/l", "pg/ml")
_add("concentration", 1000.0, "ng/ml", "ug/l", "µg/l", "μg/l")
_add("psa", 1.0, "ng/ml/cc")
_add("count", 1.0, "count", "point", "pt", "quadrant", "nodule", "lesion", "cell", "score")

_LABELS = {"years": "year", "months": "month", "days": "day", "points": "point", "mL": "ml", "HU": "hu", "ng/L": "ng/l"}


def known_unit(unit: str) -> bool:
    """Whether a variable may have this unit."""
    return normal_unit(unit) in _UNITS


def normal_unit(unit: str) -> str:
    """The table's word for a unit as written in a pathway file."""
    return _LABELS.get(unit, unit.lower())


def unit_factor(word: str, unit: str) -> float | None:
    """The factor from `word` (a unit met in text, lower case singular) to `unit`, or None if they do not convert."""
    found, wanted = _UNITS.get(word), _UNITS[normal_unit(unit)]
    if found is None or found[0] != wanted[0]:
        return None
    return found[1] / wanted[1]


def is_unit(word: str) -> bool:
    """Whether a word of the text is a unit."""
    return word in _UNITS


def spoken_units(unit: str) -> tuple[tuple[str, float, int], ...]:
    """How a value in `unit` may be written: `(unit as written, factor, decimals)`, the unit itself first."""
    if unit == "mm":
        return (("mm", 1.0, 1), ("millimetres", 1.0, 1), ("cm", 0.1, 2))
    if unit == "mL":
        return (("mL", 1.0, 1), ("cc", 1.0, 1), ("ml", 1.0, 1))
    if normal_unit(unit) == "count":
        return (("", 1.0, 0),)
    return ((unit, 1.0, 1),)
