"""Rules and decision tables as explicit relations: which combinations of symbols are allowed.

A relation keeps, for every slot and symbol, the set of its allowed rows as the bits of one integer. Filtering the
symbols of a slot is then a few integer operations, and the result for a state of its slots is remembered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

from medvlm.pathways.domains import Domain
from medvlm.pathways.expressions import Expression
from medvlm.pathways.located import PathwayError
from medvlm.pathways.spec import Decision, Pathway, Row

MAX_ROWS = 2_000_000
PRUNED_FROM = 20_000
_MEMORY = 20_000


class Relation:
    """One rule or decision table over the symbol numbers of its slots.

    Attributes:
        id: name of the rule or table.
        text: what it says.
        slots: slot numbers.
    """

    def __init__(self, name: str, text: str, slots: Sequence[int], rows: Iterator[Sequence[int]], sizes: Sequence[int]):
        self.id, self.text, self.slots = name, text, tuple(slots)
        buckets: list[list[list[int]]] = [[[] for _ in range(size)] for size in sizes]
        count = 0
        for count, row in enumerate(rows, start=1):
            for position, symbol in enumerate(row):
                buckets[position][symbol].append(count - 1)
        self.count = count
        self.support = [[_bits(rows_of, count) for rows_of in column] for column in buckets]
        self._known: dict[tuple[int, ...], tuple[int, ...] | None] = {}

    def filter(self, state: tuple[int, ...]) -> tuple[int, ...] | None:
        """Symbols that some allowed row supports, given the allowed symbols of each slot; None if there is no row.

        Args:
            state: for each slot, its allowed symbols as bits.
        """
        if state in self._known:
            return self._known[state]
        rows = (1 << self.count) - 1
        for column, allowed in zip(self.support, state):
            supported = 0
            for symbol, mask in enumerate(column):
                if allowed >> symbol & 1:
                    supported |= mask
            rows &= supported
        result: tuple[int, ...] | None = None
        if rows:
            result = tuple(
                sum(1 << symbol for symbol, mask in enumerate(column) if allowed >> symbol & 1 and mask & rows)
                for column, allowed in zip(self.support, state)
            )
        if len(self._known) >= _MEMORY:
            self._known.clear()
        self._known[state] = result
        return result


def _bits(rows: list[int], count: int) -> int:
    """An integer with the bits `rows` set, in linear time."""
    octets = bytearray(count // 8 + 1)
    for row in rows:
        octets[row >> 3] |= 1 << (row & 7)
    return int.from_bytes(octets, "little")


def decide(decision: Decision, env: Mapping[str, Any]) -> tuple[Any, list[Row]]:
    """The outcome of a decision table for a full assignment of its inputs, and the rows that hit.

    The outcome is None where no row hits.
    """
    hits = [row for row in decision.rows if row.condition.evaluate(env) is True]
    if not hits:
        return None, []
    outcomes = [_outcome(row, env) for row in hits]
    if decision.hit != "max":
        return outcomes[0], hits
    return outcomes[0] if len(outcomes) == 1 else ..., hits


def _outcome(row: Row, env: Mapping[str, Any]) -> Any:
    if not isinstance(row.outcome, Expression):
        return row.outcome
    value = row.outcome.evaluate(env)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def decide_in(pathway: Pathway, decision: Decision, env: Mapping[str, Any]) -> tuple[Any, list[Row]]:
    """`decide`, with `hit: max` resolved by the order of the target."""
    outcome, hits = decide(decision, env)
    if outcome is ...:
        variable = pathway.slots[decision.target].variable
        outcomes = [_outcome(row, env) for row in hits]
        outcome = max(outcomes) if variable.type == "number" else max(outcomes, key=lambda item: variable.rank[item])
    return outcome, hits


def inputs_of(decision: Decision) -> tuple[str, ...]:
    """The slots that a decision table reads."""
    names: dict[str, None] = {}
    for row in decision.rows:
        names.update(dict.fromkeys(row.condition.slots))
        if isinstance(row.outcome, Expression):
            names.update(dict.fromkeys(row.outcome.slots))
    return tuple(names)


def build_relations(pathway: Pathway, domains: Mapping[str, Domain]) -> list[Relation]:
    """All rules and decision tables of a pathway as relations.

    Raises:
        PathwayError: one reads so many variables that its table would be too large.
    """
    index = {name: number for number, name in enumerate(pathway.slots)}
    relations = []
    for rule in pathway.rules:
        names = rule.expression.slots
        _check_size(pathway, rule.id, rule.line, [len(domains[name].symbols) for name in names])
        sizes = [len(domains[name].symbols) for name in names]
        relations.append(
            Relation(rule.id, rule.text, [index[name] for name in names], _rule_rows(rule.expression, domains), sizes)
        )
    for decision in pathway.decisions:
        names = (*inputs_of(decision), decision.target)
        sizes = [len(domains[name].symbols) for name in names]
        _check_size(pathway, decision.id, decision.line, sizes[:-1])
        rows = _decision_rows(pathway, decision, names, domains)
        relations.append(Relation(decision.id, f"table {decision.id}", [index[name] for name in names], rows, sizes))
    return relations


def _check_size(pathway: Pathway, name: str, line: int, sizes: list[int]) -> None:
    if prod(sizes) > MAX_ROWS:
        raise PathwayError(
            f"{pathway.file}, line {line}: '{name}' combines {prod(sizes):,} cases of its variables, "
            f"more than {MAX_ROWS:,}; decide an intermediate variable in a table of its own first."
        )


def _rule_rows(expression: Expression, domains: Mapping[str, Domain]) -> Iterator[Sequence[int]]:
    names = expression.slots
    columns = [domains[name].symbols for name in names]
    for row in product(*(range(len(column)) for column in columns)):
        env = {name: column[symbol] for name, column, symbol in zip(names, columns, row)}
        if expression.evaluate(env) is True:
            yield row


def combinations(
    pathway: Pathway, domains: Mapping[str, Domain], names: Sequence[str], prune: bool
) -> Iterator[dict[str, Any]]:
    """All combinations of symbols of some slots; with `prune`, only those that the rules among them allow."""
    rules: list[list[Expression]] = [[] for _ in names]
    place = {name: number for number, name in enumerate(names)}
    for rule in pathway.rules if prune else ():
        if all(name in place for name in rule.expression.slots):
            rules[max(place[name] for name in rule.expression.slots)].append(rule.expression)
    env: dict[str, Any] = {}

    def extend(number: int) -> Iterator[dict[str, Any]]:
        if number == len(names):
            yield env
            return
        for symbol in domains[names[number]].symbols:
            env[names[number]] = symbol
            if all(rule.evaluate(env) is True for rule in rules[number]):
                yield from extend(number + 1)

    return extend(0)


def _decision_rows(
    pathway: Pathway, decision: Decision, names: tuple[str, ...], domains: Mapping[str, Domain]
) -> Iterator[Sequence[int]]:
    target = domains[decision.target]
    places = {name: {symbol: place for place, symbol in enumerate(domains[name].symbols)} for name in names}
    # A wide table leaves out what other rules forbid anyway.
    prune = prod(len(domains[name].symbols) for name in names[:-1]) > PRUNED_FROM
    for env in combinations(pathway, domains, names[:-1], prune):
        outcome, _ = decide_in(pathway, decision, env)
        row = [places[name][env[name]] for name in names[:-1]]
        if outcome is None:
            # A hole of the table (lint names it) leaves the target free.
            for place in range(len(target.symbols)):
                yield (*row, place)
        elif target.token(outcome) in places[decision.target]:
            yield (*row, places[decision.target][target.token(outcome)])
