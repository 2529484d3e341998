"""Answers are read as a physician would read them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlm.pathways import parse_pathway, show_symbol
from medvlm.pathways.parser import AnswerParser, Reading
from medvlm.pathways.quantities import Interval
from tests.pathways.library import scorer
from tests.pathways.small import SMALL


def cases(name: str) -> list[tuple[str, str, str, Any, str | None]]:
    """(pathway, variable, answer, expected, question) of a file."""
    groups = yaml.safe_load((Path(__file__).parent / name).read_text(encoding="utf-8"))
    return [
        (group["pathway"], group["variable"], case[0], case[1], case[2] if len(case) > 2 else None)
        for group in groups
        for case in group["cases"]
    ]


def matches(reading: Reading, expected: Any) -> bool:
    """Whether a reading is what the adversarial file expects (`-`: no symbol, `|`: either)."""
    if reading.state != "value":
        return "-" in str(expected).split("|")
    symbol = reading.symbol
    if isinstance(expected, list):
        return bool(symbol == frozenset(expected))
    if isinstance(symbol, Interval):
        low, _, high = str(expected).partition("..")
        if high:
            return (symbol.low, symbol.high) == (float(low), float(high))
        bound = symbol.high if low.startswith("<") else symbol.low
        return abs(bound - float(low.lstrip("<>="))) < 1e-3
    if isinstance(expected, int | float):
        return bool(symbol == expected)
    return show_symbol(symbol) in expected.split("|")


@pytest.mark.parametrize(
    ("name", "at_least", "may_miss"), [("adversarial.yaml", 400, 0.01), ("free_wordings.yaml", 200, 0.03)]
)
def test_no_answer_is_read_as_a_wrong_symbol(name: str, at_least: int, may_miss: float) -> None:
    wrong, missed = [], []
    found = cases(name)
    for pathway, variable, text, expected, question in found:
        reading = scorer(pathway).parser.read(text, variable, question)
        if not matches(reading, expected):
            (wrong if reading.state == "value" else missed).append(f"{pathway} {variable} '{text}' -> {reading}")
    assert len(found) >= at_least
    assert wrong == []
    assert len(missed) <= may_miss * len(found), missed


@pytest.fixture(scope="module")
def parser() -> AnswerParser:
    return AnswerParser(parse_pathway(SMALL))


def test_two_failures_are_never_equal(parser: AnswerParser) -> None:
    first, second = parser.read("", "grade"), parser.read("kidney", "grade")
    assert first.state == second.state == "no_match"
    assert first != second
    assert first != first
    assert parser.read("low grade", "grade") == parser.read("It is low grade.", "grade")


def test_yes_means_what_the_question_proposes(parser: AnswerParser) -> None:
    question = "The clinician believes: high grade. Do you agree?"
    assert parser.read("Yes, I agree.", "grade", question).symbol == "high"
    assert parser.read("No.", "grade", question).state == "no_match"
    assert parser.read("No, low grade.", "grade", question).symbol == "low"
    assert parser.read("Yes.", "lesion").symbol is True


def test_evidence_spans_point_into_the_original_text(parser: AnswerParser) -> None:
    text = "Überblick – the “finding”: HIGH\u00a0grade, surely."
    reading = parser.read(text, "grade")
    (start, end) = reading.spans[0]
    assert text[start:end] == "HIGH\u00a0grade"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12 mm", 12.0),
        ("1.2 cm", 12.0),
        ("1,2 cm", 12.0),
        ("12000 µm", 12.0),
        ("0.9 x 1.2 cm", 12.0),
        ("6-8 mm", Interval(6.0, 8.0)),
        ("12 HU", None),
        ("12 mL", None),
        ("between 6 and 8 mm", Interval(6.0, 8.0)),
    ],
)
def test_numbers_come_with_units_and_conversions(parser: AnswerParser, text: str, expected: Any) -> None:
    assert parser.read(text, "size").symbol == expected


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_read_without_an_exception(text: str) -> None:
    readers = AnswerParser(parse_pathway(SMALL)) if not hasattr(matches, "parser") else matches.parser
    matches.parser = readers  # type: ignore[attr-defined]
    for slot in ("lesion", "size", "grade"):
        reading = readers.read(text, slot)
        assert reading.state in ("value", "unknown", "ambiguous", "no_match")
        assert all(0 <= start < end <= len(text) for start, end in reading.spans)


@pytest.mark.parametrize("piece", ["no ", "not ", "1", "1 x ", "((", "a, ", "no high grade, ", "-", "<think>", "if "])
def test_hostile_repetition_costs_linear_time(parser: AnswerParser, piece: str) -> None:
    text = piece * (20_000 // len(piece))
    started = time.process_time()
    for slot in ("lesion", "size", "grade"):
        parser.read(text, slot)
    # 60,000 characters; 3 s would be 50 us a character, a quadratic parser needs minutes.
    assert time.process_time() - started < 3
