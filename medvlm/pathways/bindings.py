"""Findings → symbols: an expert's output fills a pathway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medvlm.findings.finding import Code, Finding
from medvlm.pathways.spec import Binding, Pathway, Symbol
from medvlm.pathways.units import is_unit, unit_factor


def bind_findings(pathway: Pathway, findings: Sequence[Finding]) -> dict[str, Symbol]:
    """The slots that findings decide; slots without a matching finding are left out (unknown, not absent).

    A finding of presence `uncertain` decides nothing.
    """
    filled: dict[str, Symbol] = {}
    for binding in pathway.bindings:
        symbol = _bind(pathway, binding, findings)
        if symbol is not None:
            filled[binding.slot] = symbol
    return filled


def _bind(pathway: Pathway, binding: Binding, findings: Sequence[Finding]) -> Any:
    variable = pathway.slots[binding.slot].variable
    matching = [finding for finding in findings if _is(finding.concept, binding.concept)]
    present = [finding for finding in matching if finding.presence == "present"]
    if binding.take == "count":
        return float(len(present)) if matching else None
    if binding.take == "presence":
        if present:
            return True
        return False if any(finding.presence == "absent" for finding in matching) else None
    chosen = _pick(binding, present)
    if chosen is None:
        return None
    if binding.take == "probability":
        return None if chosen.probability is None else chosen.probability >= binding.threshold
    if binding.take == "measurement":
        return _measured(binding, chosen, variable.unit, (variable.low, variable.high))
    text = {
        "grade": chosen.grade,
        "laterality": chosen.laterality.meaning if chosen.laterality else None,
        "site": chosen.site.meaning if chosen.site else None,
    }[binding.take]
    if text is None:
        return None
    symbol: Any = binding.map.get(text.lower(), text.lower().replace("-", "_").replace(" ", "_"))
    return symbol if isinstance(symbol, bool) or symbol in variable.symbols else None


def _pick(binding: Binding, findings: Sequence[Finding]) -> Finding | None:
    ordered = list(findings)
    if binding.pick == "largest":
        ordered.sort(key=lambda finding: -_magnitude(finding, binding.measurement or "Long axis"))
    return ordered[binding.nth - 1] if len(ordered) >= binding.nth else None


def _magnitude(finding: Finding, meaning: str) -> float:
    """The measurement to order by, lengths in millimetres; 0 where it is missing."""
    for measurement in finding.measurements:
        if measurement.code.meaning.lower() == meaning.lower():
            return measurement.value * (unit_factor(measurement.unit.lower(), "mm") or 1.0)
    return 0.0


def _measured(binding: Binding, finding: Finding, unit: str, limits: tuple[float, float]) -> float | None:
    for measurement in finding.measurements:
        if measurement.code.meaning.lower() == binding.measurement.lower():
            word = measurement.unit.lower()
            factor = unit_factor(word, unit) if is_unit(word) else 1.0
            if factor is None:
                return None
            return min(max(measurement.value * factor, limits[0]), limits[1])
    return None


def _is(code: Code, concept: str) -> bool:
    return concept.lower() in (code.meaning.lower(), f"{code.scheme}:{code.value}".lower())
