"""Findings → what the guideline pathways say: category, follow-up, what is missing, what does not go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from medvlm.findings.finding import Finding
from medvlm.pathways.bindings import bind_findings
from medvlm.pathways.consistency import Checker
from medvlm.pathways.loader import load_pathway
from medvlm.pathways.reports import ReportReader
from medvlm.pathways.spec import Pathway, Slot, show_symbol
from medvlm.pathways.verdict import verdict
from medvlm.reporting.exam import Exam
from medvlm.reporting.report import Change, Guideline

# Status against the earlier study → symbol of a pathway's variable `comparison`.
COMPARISON = {"new": "new", "larger": "growing", "smaller": "stable", "stable": "stable", "unchanged": "stable"}


@cache
def _checker(name: str) -> Checker:
    return Checker(load_pathway(name))


def judge(
    findings: Sequence[Finding], exam: Exam, names: Sequence[str] | None = None, changes: Sequence[Change] = ()
) -> tuple[Guideline, ...]:
    """What each pathway decides from the findings that are present.

    Args:
        findings: of this study.
        exam: names the pathways of this kind of study and what is assumed in them.
        names: pathways to use; None: the first of the exam type that has something to decide from.
        changes: against the earlier study.

    Raises:
        MedVLMError: an unknown pathway.
    """
    told = []
    for name in exam.pathways if names is None else names:
        guideline = _judge(_checker(name), findings, exam.pathways.get(name, {}), changes)
        if guideline is not None:
            told.append(guideline)
            if names is None:
                break
    return tuple(told)


def _judge(
    checker: Checker, findings: Sequence[Finding], assumed: Mapping[str, Any], changes: Sequence[Change]
) -> Guideline | None:
    pathway = checker.pathway
    bound = bind_findings(pathway, findings)
    concepts = {binding.concept for binding in pathway.bindings}
    about = [f for f in findings if f.presence == "present" and f.concept.meaning in concepts]
    if not bound or not about:
        return None
    measured = {name: _on_grid(pathway, name, symbol, about) for name, symbol in bound.items()}
    measured |= _compared(pathway, about, changes) | _counted(pathway, about)
    known = {**{name: value for name, value in assumed.items() if name in pathway.slots}, **measured}
    result = verdict(checker, known)
    shown = [(_name(pathway.slots[name]), _say(pathway.slots[name], symbol)) for name, symbol in measured.items()]
    shown += [
        (_name(pathway.slots[name]), f"{_say(pathway.slots[name], value)} (assumed)")
        for name, value in known.items()
        if name not in measured
    ]
    return Guideline(
        pathway=pathway.id,
        title=pathway.title,
        known=tuple(shown),
        decided=tuple(
            (_name(pathway.slots[n]), _say(pathway.slots[n], symbol)) for n, symbol in result.decided.items()
        ),
        open=tuple(
            (_name(pathway.slots[n]), tuple(_say(pathway.slots[n], symbol) for symbol in left))
            for n, left in result.open.items()
        ),
        missing=tuple(_name(pathway.slots[name]) for name in result.asked),
        conflicts=tuple(checker.explain(conflict, known) for conflict in result.conflicts),
        findings=tuple(finding.id for finding in about),
    )


def _on_grid(pathway: Pathway, name: str, symbol: Any, about: Sequence[Finding]) -> Any:
    """A measured number in the steps of the guideline (whole millimetres), a mean diameter where it asks for one."""
    variable = pathway.slots[name].variable
    if variable.type != "number" or isinstance(symbol, bool):
        return symbol
    largest = max(about, key=lambda finding: finding.measure("Long axis") or 0.0)
    axes = [largest.measure("Long axis"), largest.measure("Short axis")]
    value = float(symbol)
    if variable.dimension == "mean" and variable.unit == "mm" and all(axis is not None for axis in axes):
        value = sum(axis for axis in axes if axis is not None) / 2
    stepped = round(value / variable.step) * variable.step
    return min(max(stepped, variable.low), variable.high)


def _compared(pathway: Pathway, about: Sequence[Finding], changes: Sequence[Change]) -> dict[str, Any]:
    if "comparison" not in pathway.slots:
        return {}
    symbols = pathway.slots["comparison"].variable.symbols
    largest = max(about, key=lambda finding: finding.measure("Long axis") or 0.0)
    change = next((one for one in changes if one.finding == largest.id), None)
    symbol = "baseline" if change is None else COMPARISON[change.status]
    return {"comparison": symbol} if symbol in symbols else {}


def _counted(pathway: Pathway, about: Sequence[Finding]) -> dict[str, Any]:
    """Single or multiple, where the guideline asks for that: the expert looked at the whole scan."""
    if "number" not in pathway.slots or "number" in {binding.slot for binding in pathway.bindings}:
        return {}
    symbol = "single" if len(about) == 1 else "multiple"
    return {"number": symbol} if symbol in pathway.slots["number"].variable.symbols else {}


def _name(slot: Slot) -> str:
    return slot.variable.concept[0] if slot.variable.concept else slot.name


def _say(slot: Slot, symbol: Any) -> str:
    value = slot.variable.by_symbol.get(symbol) if isinstance(symbol, str) else None
    said = value.say[0] if value is not None and value.say else show_symbol(symbol)
    return f"{said} {slot.variable.unit}".strip() if slot.variable.type == "number" else said


def violated(text: str, guidelines: Sequence[Guideline]) -> tuple[str, ...]:
    """Where a written text contradicts a guideline in itself, one sentence each."""
    told = []
    for guideline in guidelines:
        checker = _checker(guideline.pathway)
        reading = ReportReader(checker.pathway, checker=checker).read(text)
        stated = {name: one.symbol for name, one in reading.readings.items()}
        told += [checker.explain(conflict, stated) for conflict in reading.conflicts]
    return tuple(told)
