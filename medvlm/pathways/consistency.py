"""Whether answers can all be true at once, and if not, which of them clash and by which rules.

All asserted symbols are checked together by constraint satisfaction; slots that were not asked are free. The result
does not depend on the order of the answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

from medvlm.pathways.domains import Domain, build_domains
from medvlm.pathways.quantities import Interval
from medvlm.pathways.relations import Relation, build_relations
from medvlm.pathways.spec import Pathway, Symbol, show_symbol

State = list[int]


@dataclass(frozen=True)
class Conflict:
    """A smallest set of answers that cannot all be true.

    Attributes:
        slots: the answers to blame; leaving out any one makes the others possible.
        rules: ids of rules and tables that they violate together.
        texts: what these rules say.
    """

    slots: tuple[str, ...]
    rules: tuple[str, ...]
    texts: tuple[str, ...]


class Checker:
    """The rules of one pathway, ready to check answers."""

    def __init__(self, pathway: Pathway) -> None:
        self.pathway = pathway
        self.domains: dict[str, Domain] = build_domains(pathway)
        self.names = tuple(pathway.slots)
        self.index = {name: number for number, name in enumerate(self.names)}
        self._known: dict[tuple[tuple[int, int], ...], tuple[Conflict, ...]] = {}

    @cached_property
    def relations(self) -> list[Relation]:
        """All rules and tables; the first use builds them."""
        return build_relations(self.pathway, self.domains)

    @cached_property
    def _touching(self) -> list[list[int]]:
        touching: list[list[int]] = [[] for _ in self.names]
        for number, relation in enumerate(self.relations):
            for slot in relation.slots:
                touching[slot].append(number)
        return touching

    @cached_property
    def _free(self) -> State:
        """Every slot allowed everything, filtered once by every relation."""
        state = [(1 << len(self.domains[name].symbols)) - 1 for name in self.names]
        self.propagate(state, range(len(self.relations)))
        return state

    def allowed(self, slot: str, symbol: Any) -> int:
        """The symbols (as bits) that an answer leaves to a slot; 0 if it is outside the domain."""
        domain = self.domains[slot]
        if isinstance(symbol, Interval):
            return sum(1 << domain.symbols.index(item) for item in domain.between(symbol.low, symbol.high))
        token = domain.token(symbol)
        return 0 if token is None else 1 << domain.symbols.index(token)

    def conflicts(self, answers: Mapping[str, Any]) -> tuple[Conflict, ...]:
        """Disjoint smallest conflicting sets of answers; empty if all can be true together.

        Args:
            answers: slot → symbol (or `Interval`); slots left out are free.
        """
        masks = tuple((self.index[slot], self.allowed(slot, symbol)) for slot, symbol in answers.items())
        masks = tuple(sorted(masks))
        known = self._known.get(masks)
        if known is None:
            known = tuple(self._conflicts(dict(masks)))
            if len(self._known) >= 50_000:
                self._known.clear()
            self._known[masks] = known
        return known

    def _conflicts(self, masks: dict[int, int]) -> Iterator[Conflict]:
        impossible = [slot for slot, mask in masks.items() if not mask]
        for slot in impossible:
            del masks[slot]
            name = self.names[slot]
            yield Conflict((name,), ("domain",), (f"{name} cannot have this value",))
        while not self.possible(masks):
            core = dict(masks)
            for slot in masks:
                rest = {key: mask for key, mask in core.items() if key != slot}
                if not self.possible(rest):
                    core = rest
            rules = self._rules_of(core)
            yield Conflict(
                tuple(self.names[slot] for slot in core),
                tuple(rule.id for rule in rules),
                tuple(rule.text for rule in rules),
            )
            if not core:
                return
            masks = {slot: mask for slot, mask in masks.items() if slot not in core}

    def explain(self, conflict: Conflict, answers: Mapping[str, Any]) -> str:
        """A conflict as a sentence: what the other answers leave for the last one (a table's target, if any)."""
        decided = [slot for slot in conflict.slots if slot in conflict.rules]
        target = decided[-1] if decided else conflict.slots[-1]
        masks = {self.index[slot]: self.allowed(slot, answers[slot]) for slot in conflict.slots if slot != target}
        place = self.index[target]
        left = [
            show_symbol(symbol)
            for number, symbol in enumerate(self.domains[target].symbols)
            if self.possible({**masks, place: 1 << number})
        ]
        given = " and ".join(f"{slot} = {show_symbol(answers[slot])}" for slot in conflict.slots if slot != target)
        said = f"{target} cannot be {show_symbol(answers[target])}"
        rules = "; ".join(text for text in conflict.texts if not text.startswith("table "))
        only = f", only {' or '.join(left)}" if left and len(left) <= 4 else ""
        return f"{f'with {given}, ' if given else ''}{said}{only}{f' ({rules})' if rules else ''}"

    def _rules_of(self, core: Mapping[int, int]) -> list[Relation]:
        """A smallest set of relations that makes the answers of `core` impossible."""
        keep = list(range(len(self.relations)))
        for number in range(len(self.relations)):
            rest = [other for other in keep if other != number]
            if not self.possible(core, rest):
                keep = rest
        return [self.relations[number] for number in keep]

    def possible(self, masks: Mapping[int, int], only: Sequence[int] | None = None) -> bool:
        """Whether some full assignment agrees with the answers (restricted to the relations `only`, if given)."""
        if only is None:
            state = list(self._free)
            start: Iterable[int] = {number for slot in masks for number in self._touching[slot]}
        else:
            state = [(1 << len(self.domains[name].symbols)) - 1 for name in self.names]
            start = only
        for slot, mask in masks.items():
            state[slot] &= mask
            if not state[slot]:
                return False
        allowed = None if only is None else frozenset(only)
        return self.propagate(state, start, allowed) and self._search(state, allowed)

    def propagate(self, state: State, start: Iterable[int], only: frozenset[int] | None = None) -> bool:
        """Filter `state` in place until nothing changes; False if a slot has no symbol left."""
        queue = list(start)
        waiting = set(queue)
        touching = self._touching
        while queue:
            number = queue.pop()
            waiting.discard(number)
            relation = self.relations[number]
            slots = relation.slots
            before = tuple([state[slot] for slot in slots])
            after = relation.filter(before)
            if after is None:
                return False
            if after == before:
                continue
            for slot, old, new in zip(slots, before, after):
                if new != old:
                    state[slot] = new
                    for other in touching[slot]:
                        if other != number and other not in waiting and (only is None or other in only):
                            waiting.add(other)
                            queue.append(other)
        return True

    def _open_slot(self, state: State, only: frozenset[int] | None) -> int | None:
        """The slot with the fewest symbols left that still interacts with another, or None."""
        best, fewest = None, 1 << 30
        for number, relation in enumerate(self.relations):
            if only is not None and number not in only:
                continue
            undecided = [slot for slot in relation.slots if state[slot] & (state[slot] - 1)]
            if len(undecided) < 2:
                continue
            for slot in undecided:
                size = state[slot].bit_count()
                if size < fewest:
                    best, fewest = slot, size
        return best

    def _search(self, state: State, only: frozenset[int] | None) -> bool:
        slot = self._open_slot(state, only)
        if slot is None:
            return True
        remaining = state[slot]
        while remaining:
            bit = remaining & -remaining
            remaining ^= bit
            trial = list(state)
            trial[slot] = bit
            if self.propagate(trial, self._touching[slot], only) and self._search(trial, only):
                return True
        return False

    def count(self, limit: int = 200_000) -> int | None:
        """The number of full assignments that satisfy everything; None after `limit` steps."""
        self._steps = 0
        try:
            return self._count(list(self._free), tuple(range(len(self.names))), {}, limit)
        except OverflowError:
            return None

    def _count(self, state: State, slots: tuple[int, ...], known: dict[Any, int], limit: int) -> int:
        key = (slots, tuple(state[slot] for slot in slots))
        if key in known:
            return known[key]
        self._steps += 1
        if self._steps > limit:
            raise OverflowError
        total = 1
        for part in self._components(state, slots):
            if len(part) == 1:
                total *= state[part[0]].bit_count()
                continue
            slot = min(part, key=lambda item: -len(self._touching[item]))
            subtotal, remaining = 0, state[slot]
            while remaining:
                bit = remaining & -remaining
                remaining ^= bit
                trial = list(state)
                trial[slot] = bit
                if self.propagate(trial, self._touching[slot]):
                    subtotal += self._count(trial, part, known, limit)
            total *= subtotal
        known[key] = total
        return total

    def _components(self, state: State, slots: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Groups of undecided slots that still interact; decided slots are left out."""
        group = {slot: slot for slot in slots if state[slot] & (state[slot] - 1)}

        def root(slot: int) -> int:
            while group[slot] != slot:
                slot = group[slot]
            return slot

        for relation in self.relations:
            undecided = [slot for slot in relation.slots if slot in group]
            for other in undecided[1:]:
                group[root(other)] = root(undecided[0])
        parts: dict[int, list[int]] = {}
        for slot in group:
            parts.setdefault(root(slot), []).append(slot)
        return [tuple(part) for part in parts.values()]

    def draw(self, random: Random, fixed: Mapping[str, int]) -> dict[str, Symbol] | None:
        """A random full assignment (representative symbols) with some slots' symbols fixed (as bits), or None."""
        state = list(self._free)
        for slot, mask in fixed.items():
            state[self.index[slot]] &= mask
        if not all(state) or not self.propagate(state, range(len(self.relations))):
            return None
        return self._draw(random, state)

    def _draw(self, random: Random, state: State) -> dict[str, Symbol] | None:
        slot = next((number for number, mask in enumerate(state) if mask & (mask - 1)), None)
        if slot is None:
            return {name: self.domains[name].symbols[mask.bit_length() - 1] for name, mask in zip(self.names, state)}
        bits = [1 << place for place in range(state[slot].bit_length()) if state[slot] >> place & 1]
        random.shuffle(bits)
        for bit in bits:
            trial = list(state)
            trial[slot] = bit
            if self.propagate(trial, self._touching[slot]):
                found = self._draw(random, trial)
                if found is not None:
                    return found
        return None

    def solutions(self, limit: int) -> Iterator[dict[str, Symbol]]:
        """Full assignments in a fixed order, at most `limit`."""
        count = 0
        stack = [list(self._free)] if all(self._free) else []
        while stack and count < limit:
            state = stack.pop()
            slot = next((number for number, mask in enumerate(state) if mask & (mask - 1)), None)
            if slot is None:
                count += 1
                yield {name: self.domains[name].symbols[mask.bit_length() - 1] for name, mask in zip(self.names, state)}
                continue
            for place in reversed(range(state[slot].bit_length())):
                if state[slot] >> place & 1:
                    trial = list(state)
                    trial[slot] = 1 << place
                    if self.propagate(trial, self._touching[slot]):
                        stack.append(trial)
