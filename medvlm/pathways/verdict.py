"""What a guideline says about a case of which only part is known (findings of experts, a report)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medvlm.pathways.consistency import Checker, Conflict
from medvlm.pathways.spec import Symbol


@dataclass(frozen=True)
class Verdict:
    """The outcome of every decision table for what is known.

    Attributes:
        decided: table target → its only possible symbol.
        open: table target → the symbols that are still possible.
        asked: slots that are not known and would narrow an open outcome.
        conflicts: known values that cannot all be true; then nothing is decided.
    """

    decided: Mapping[str, Symbol]
    open: Mapping[str, tuple[Symbol, ...]]
    asked: tuple[str, ...]
    conflicts: tuple[Conflict, ...]


def verdict(checker: Checker, known: Mapping[str, Any]) -> Verdict:
    """Decide what follows from `known` (slot → symbol) whatever the unknown slots are."""
    conflicts = checker.conflicts(known)
    if conflicts:
        return Verdict({}, {}, (), conflicts)
    masks = {checker.index[name]: checker.allowed(name, symbol) for name, symbol in known.items()}
    decided: dict[str, Symbol] = {}
    undecided: dict[str, tuple[Symbol, ...]] = {}
    targets = [decision.target for decision in checker.pathway.decisions]
    for target in targets:
        left = _left(checker, masks, target)
        if len(left) == 1:
            decided[target] = left[0]
        else:
            undecided[target] = left
    asked = [name for name in checker.names if undecided and name not in known and name not in targets]
    return Verdict(decided, undecided, tuple(name for name in asked if len(_left(checker, masks, name)) > 1), ())


def _left(checker: Checker, masks: Mapping[int, int], name: str) -> tuple[Symbol, ...]:
    place = checker.index[name]
    allowed = masks.get(place, -1)
    return tuple(
        symbol
        for number, symbol in enumerate(checker.domains[name].symbols)
        if allowed >> number & 1 and checker.possible({**masks, place: 1 << number})
    )
