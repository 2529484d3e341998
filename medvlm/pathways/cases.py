"""Reference cases: full assignments that satisfy a pathway, balanced over the values of its conclusion.

They are the prior of the reward (what can be earned without looking) and the patients of the simulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from medvlm.pathways.consistency import Checker
from medvlm.pathways.located import PathwayError
from medvlm.pathways.spec import Symbol

Case = Mapping[str, Symbol]
MAX_LISTED = 400
PER_VALUE = 40


def reference_cases(checker: Checker, seed: int = 0) -> list[tuple[Case, float]]:
    """Cases with weights that sum to 1; every value of the balanced slot has the same weight.

    All satisfying assignments if there are at most `MAX_LISTED`, otherwise a seeded draw for every value.
    """
    balance = checker.pathway.balance
    listed = list(checker.solutions(MAX_LISTED + 1))
    random = Random(seed)
    if len(listed) > MAX_LISTED:
        listed = []
        for place in range(len(checker.domains[balance].symbols)):
            for _ in range(PER_VALUE):
                case = checker.draw(random, {balance: 1 << place})
                if case is None:
                    break
                listed.append(case)
    cases = [spread(checker, case, random) for case in listed]
    groups: dict[Any, int] = {}
    for case in listed:
        groups[case[balance]] = groups.get(case[balance], 0) + 1
    return [(case, 1 / (len(groups) * groups[origin[balance]])) for case, origin in zip(cases, listed)]


def spread(checker: Checker, case: Case, random: Random) -> dict[str, Symbol]:
    """The same case with numbers drawn within their cells instead of the representative ones."""
    drawn = dict(case)
    for name, symbol in case.items():
        domain = checker.domains[name]
        if domain.bounds is None or not isinstance(symbol, float):
            continue
        low, high = domain.edges[domain.symbols.index(symbol)]
        step = checker.pathway.slots[name].variable.step
        drawn[name] = round(low + step * random.randint(0, max(0, int((high - low) / step + 1e-9))), 6)
    return drawn


def draw_case(checker: Checker, random: Random) -> dict[str, Symbol]:
    """One random case; the value of the balanced slot is drawn first, so that all are equally frequent."""
    balance = checker.pathway.balance
    places = list(range(len(checker.domains[balance].symbols)))
    while places:
        place = places.pop(random.randrange(len(places)))
        case = checker.draw(random, {balance: 1 << place})
        if case is not None:
            return spread(checker, case, random)
    raise ValueError(f"{checker.pathway.id}: no case satisfies all rules")


def complete(checker: Checker, known: Mapping[str, Symbol]) -> dict[str, Symbol]:
    """What is known of a case and all that follows from it by the rules; slots that stay open are left out.

    Args:
        checker: of the pathway.
        known: slot → symbol, such as a label that a data set publishes.

    Raises:
        PathwayError: a slot or symbol is unknown, or the rules forbid what is known.
    """
    masks = {}
    for name, symbol in known.items():
        checker.pathway.slot(name)
        mask = checker.allowed(name, symbol)
        if not mask:
            raise PathwayError(f"{checker.pathway.file}: '{name}' cannot be {symbol!r}.")
        masks[checker.index[name]] = mask
    if not checker.possible(masks):
        raise PathwayError(f"{checker.pathway.file}: no case agrees with {dict(known)}.")
    case = dict(known)
    for name in checker.names:
        symbols = checker.domains[name].symbols
        if name in case or checker.domains[name].bounds is not None:
            continue
        place = checker.index[name]
        left = [symbol for number, symbol in enumerate(symbols) if checker.possible({**masks, place: 1 << number})]
        if len(left) == 1:
            case[name] = left[0]
    return case
