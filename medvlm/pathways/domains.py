"""Finite domains: every slot takes one of finitely many symbols.

A real number is split only where a rule compares it, so its domain is a short list of representative values: two
numbers of one cell can never be told apart by any rule.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from medvlm.pathways.spec import NOT_ASSESSABLE, Pathway, Slot, Symbol

MAX_ENUMERATED = 40
MAX_SET = 6


@dataclass(frozen=True)
class Domain:
    """The symbols a slot can take.

    Attributes:
        symbols: representative symbols; for split numbers one number a cell.
        bounds: for split numbers, the sorted boundaries `(cut, side)`.
        edges: for split numbers, `(low, high)` of every cell as numbers that may be drawn.
    """

    symbols: tuple[Symbol, ...]
    bounds: tuple[tuple[float, int], ...] | None = None
    edges: tuple[tuple[float, float], ...] = ()

    def token(self, symbol: Any) -> Any:
        """The representative of `symbol`, or None if it lies outside the domain."""
        if self.bounds is None or not isinstance(symbol, int | float) or isinstance(symbol, bool):
            if isinstance(symbol, int) and not isinstance(symbol, bool):
                symbol = float(symbol)
            return symbol if symbol in self.symbols else None
        # Side 0 boundaries sit just below the cut, side 1 just above: (c, 0) < (c, 0.5) < (c, 1).
        return self.symbols[bisect_right(self.bounds, (float(symbol), 0.5))]

    def between(self, low: float, high: float) -> tuple[Symbol, ...]:
        """The symbols that a number known only as `low..high` may have (`not_assessable` is not one)."""
        if self.bounds is None:
            return tuple(item for item in self.symbols if isinstance(item, float) and low <= item <= high)
        first = bisect_right(self.bounds, (low, 0.5))
        last = bisect_right(self.bounds, (high, 0.5))
        return self.symbols[first : last + 1]


def build_domains(pathway: Pathway) -> dict[str, Domain]:
    """The domain of every slot."""
    cuts: dict[str, set[tuple[float, int]]] = {}
    expressions = [rule.expression for rule in pathway.rules]
    for decision in pathway.decisions:
        expressions += [row.condition for row in decision.rows]
    for expression in expressions:
        for slot, cut, side in expression.cuts:
            cuts.setdefault(slot, set()).add((cut, side))
    return {name: _domain(slot, cuts.get(name, set())) for name, slot in pathway.slots.items()}


def _domain(slot: Slot, cuts: set[tuple[float, int]]) -> Domain:
    variable = slot.variable
    extra: tuple[Symbol, ...] = (NOT_ASSESSABLE,) if variable.when or variable.may_fail else ()
    if variable.type == "boolean":
        return Domain((True, False, *extra))
    if variable.type == "set":
        names = variable.symbols
        subsets = [frozenset(group) for size in range(len(names) + 1) for group in combinations(names, size)]
        return Domain((*subsets, *extra))
    if variable.type != "number":
        return Domain((*variable.symbols, *extra))
    count = round((variable.high - variable.low) / variable.step) + 1
    if count <= MAX_ENUMERATED and variable.step == int(variable.step):
        return Domain((*(variable.low + variable.step * index for index in range(count)), *extra))
    return _cells(variable.low, variable.high, variable.step, cuts, extra)


def _cells(low: float, high: float, step: float, cuts: set[tuple[float, int]], extra: tuple[Symbol, ...]) -> Domain:
    bounds = tuple(sorted(cut for cut in cuts if low < cut[0] or cut == (low, 1)))
    bounds = tuple(cut for cut in bounds if cut[0] < high or cut == (high, 0))
    starts = [low, *(cut if side == 0 else cut + step for cut, side in bounds)]
    ends = [*(cut - step if side == 0 else cut for cut, side in bounds), high]
    edges = tuple((start, max(start, end)) for start, end in zip(starts, ends))
    symbols: list[Symbol] = [round((start + end) / 2, 6) for start, end in edges]
    # not_assessable comes last: `token` of a number never reaches it, since there is one cell more than bounds.
    return Domain((*symbols, *extra), bounds, edges)
