"""Reading attributes of a DICOM data set quickly and forgivingly.

pydicom converts an element when it is first touched, at tens of microseconds each; a series of 300 files needs some
10,000 of them. Numbers and code strings are therefore taken from the raw bytes here; free text, which needs the
character set, goes through pydicom.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag

_BINARY = {
    "US": "H",
    "SS": "h",
    "UL": "I",
    "SL": "i",
    "FL": "f",
    "FD": "d",
    "US or SS": "H",
    "US or OW": "H",
    "OW": "H",
}


@cache
def _tag(name: str) -> tuple[BaseTag, str]:
    tag = Tag(name)
    return tag, dictionary_VR(tag)


class Fields:
    """Values of one data set (or of an item of a sequence) by keyword; absent and unreadable values are empty."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __contains__(self, name: str) -> bool:
        return _tag(name)[0] in self.dataset

    def words(self, name: str) -> list[str]:
        """The values of a code string, uid, time or number string, as text."""
        return [text for value in self._values(name) if (text := str(value).strip(" \0"))]

    def word(self, name: str) -> str:
        """The first of them, or nothing."""
        return next(iter(self.words(name)), "")

    def numbers(self, name: str) -> list[float]:
        """All values as finite numbers; empty where one is not."""
        try:
            found = [float(value) for value in self._values(name)]
        except (TypeError, ValueError):
            return []
        return found if all(math.isfinite(value) for value in found) else []

    def number(self, name: str) -> float | None:
        """The first number, or None."""
        return next(iter(self.numbers(name)), None)

    def vector(self, name: str, count: int) -> np.ndarray | None:
        """Exactly `count` numbers, or None."""
        found = self.numbers(name)
        return np.array(found) if len(found) == count else None

    def text(self, name: str) -> str:
        """Free text, decoded with the character set of the data set (uncleaned)."""
        tag = _tag(name)[0]
        if tag not in self.dataset:
            return ""
        try:
            return str(self.dataset[tag].value or "")
        except Exception:  # pydicom converts on access; text it cannot decode is as good as absent
            return ""

    def private(self, tag: tuple[int, int]) -> str:
        """A private element as text (uncleaned); empty where it is absent or of an unknown form."""
        if tag not in self.dataset:
            return ""
        value = self.dataset.get_item(tag).value
        return value.decode("latin-1").strip(" \0") if isinstance(value, bytes) else str(value or "")

    def items(self, name: str) -> list[Fields]:
        """The items of a sequence."""
        tag = _tag(name)[0]
        if tag not in self.dataset:
            return []
        try:
            return [Fields(item) for item in self.dataset[tag].value or ()]
        except Exception:  # a sequence that cannot be parsed is as good as absent
            return []

    def first(self, name: str) -> Fields | None:
        """The first item of a sequence, or None."""
        return next(iter(self.items(name)), None)

    def _values(self, name: str) -> Iterable[Any]:
        tag, vr = _tag(name)
        if tag not in self.dataset:
            return []
        element = self.dataset.get_item(tag)
        value = getattr(element, "value", None)
        if not isinstance(element, RawDataElement) or not isinstance(value, bytes):
            if value is None or value == "":
                return []
            return list(value) if isinstance(value, MultiValue | list | tuple) else [value]
        kind = _BINARY.get(vr)
        if kind is None:
            return value.decode("latin-1").split("\\")
        size = struct.calcsize(kind)
        order = "<" if element.is_little_endian else ">"
        return struct.unpack_from(f"{order}{len(value) // size}{kind}", value)
