"""Free-text reports → symbols with the places they come from, and what in a report contradicts the guideline."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from medvlm.pathways.consistency import Checker, Conflict
from medvlm.pathways.cues import word_set
from medvlm.pathways.parser import AnswerParser, Reading
from medvlm.pathways.spec import NOT_ASSESSABLE, Pathway, Slot

SENTENCES_KEPT = 8192
_HEADING = re.compile(r"^[ \t]*([A-Za-z][A-Za-z /&-]{2,40}?)[ \t]*:", re.MULTILINE)
_SKIPPED = word_set("skipped_sections")
_SECTIONS = _SKIPPED | word_set("sections")
# A line that goes on in small letters is a wrapped one.
_SENTENCE = re.compile(r"(?:[^.;?!\n]|\.(?=\S)|\n(?=[a-z(]))+[.;?!\n]*")


@dataclass(frozen=True)
class ReportReading:
    """What a report says about a pathway.

    Attributes:
        readings: slot → reading; `spans` are character positions in the report. Slots that are not mentioned are left
            out.
        conflicts: statements that cannot all be true under the guideline.
    """

    readings: Mapping[str, Reading]
    conflicts: tuple[Conflict, ...]


class ReportReader:
    """Reads whole reports with the phrases of a pathway."""

    def __init__(self, pathway: Pathway, parser: AnswerParser | None = None, checker: Checker | None = None) -> None:
        self.pathway = pathway
        self.parser = parser or AnswerParser(pathway)
        self.checker = checker or Checker(pathway)
        # Reports repeat their sentences; what one says does not depend on where it stands.
        self._statements = lru_cache(maxsize=SENTENCES_KEPT)(self._read_sentence)

    def read(self, text: str) -> ReportReading:
        """Read a report. History, indication and technique say nothing about the images and are skipped."""
        found: dict[str, list[Reading]] = {}
        for start, sentence in sentences(text):
            for name, reading in self._statements(sentence):
                spans = tuple((start + begin, start + end) for begin, end in reading.spans)
                found.setdefault(name, []).append(Reading(reading.state, reading.symbol, spans, reading.reason))
        readings = {name: _join(items) for name, items in found.items()}
        stated = {
            name: reading.symbol
            for name, reading in readings.items()
            if reading.state == "value" and reading.symbol != NOT_ASSESSABLE
        }
        return ReportReading(readings, self.checker.conflicts(stated))

    def _read_sentence(self, sentence: str) -> tuple[tuple[str, Reading], ...]:
        """What one sentence says of the slots it speaks of; spans from its beginning."""
        read = (
            (slot, self.parser.reader(slot).statement(sentence, slot.member, False))
            for slot in self._addressed(sentence)
        )
        return tuple((slot.name, reading) for slot, reading in read if reading.state != "no_match")

    def _addressed(self, sentence: str) -> Iterator[Slot]:
        """Slots a sentence may speak of: scoped ones only where their member is named."""
        lowered = sentence.lower()
        for slot in self.pathway.slots.values():
            scope = slot.variable.scope
            if (
                scope is None
                or slot.member is None
                or any(name.lower() in lowered for name in self.pathway.entities[scope].members[slot.member])
            ):
                yield slot


def _join(readings: list[Reading]) -> Reading:
    """Several sentences about one slot: agreeing values count once, different ones are ambiguous."""
    values: dict[str, Reading] = {}
    for reading in readings:
        if reading.state == "value":
            values.setdefault(str(reading), reading)
    spans = tuple(span for reading in readings for span in reading.spans)
    if any(reading.state == "ambiguous" for reading in readings) or len(values) > 1:
        return Reading("ambiguous", None, spans, "the report states several values")
    if values:
        return Reading("value", next(iter(values.values())).symbol, spans, "stated")
    return Reading("unknown", None, spans, "doubted")


def sentences(text: str) -> Iterator[tuple[int, str]]:
    """Sentences of the sections that describe the images, with their positions."""
    for start, end in _bodies(text):
        for match in _SENTENCE.finditer(text, start, end):
            if match.group().strip():
                yield match.start(), match.group()


def _bodies(text: str) -> Iterable[tuple[int, int]]:
    """`[start, end)` of the sections to read; text without headings is one section."""
    marks = []
    for match in _HEADING.finditer(text):
        words = match.group(1).lower().split()
        if words and (words[0] in _SECTIONS or words[-1] in _SECTIONS):
            skipped = words[0] in _SKIPPED or words[-1] in _SKIPPED
            # `Lungs:` is a heading and the subject of its sentence: it stays in.
            keep_heading = words[-1] not in _SKIPPED and words[-1] in (
                "lungs",
                "heart",
                "pleura",
                "bones",
                "mediastinum",
            )
            marks.append((match.start(), match.start() if keep_heading else match.end(), skipped))
    bodies = []
    if not marks or marks[0][0] > 0:
        bodies.append((0, marks[0][0] if marks else len(text)))
    for number, (_, body, skipped) in enumerate(marks):
        end = marks[number + 1][0] if number + 1 < len(marks) else len(text)
        if not skipped and end > body:
            bodies.append((body, end))
    return bodies
