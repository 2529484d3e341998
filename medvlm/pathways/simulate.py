"""Multi-turn conversations from a pathway: for training, with hints and orders that test a model.

Rows have the format of conversation files (`messages`, `images`, `patient`, `split`, `symbols`), so that they train and
score as they are. Every answer is written only if the parser reads its symbol back from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from medvlm.pathways.cases import draw_case
from medvlm.pathways.located import PathwayError, suggestion
from medvlm.pathways.phrasings import Split, answers, claims, questions
from medvlm.pathways.reward import Scorer
from medvlm.pathways.spec import NOT_ASSESSABLE, Slot, Symbol, show_symbol

ORDERS = ("standard", "conclusion_first", "random", "subset")
HINTS = ("none", "right", "misleading", "confirm_right", "confirm_misleading")
Rewrite = Callable[[str, str], list[str]]
_TRIES = 40


@dataclass(frozen=True)
class Exchange:
    """One question with its answer; `before` are texts of the user ahead of the question (hint, revealed value)."""

    slot: str
    symbol: Symbol
    question: str
    answer: str
    before: tuple[str, ...] = ()
    call: str = ""


class Simulator:
    """Writes conversations of one pathway.

    Args:
        scorer: the pathway's scorer (its parser and rules are used).
        rewrite: other wordings of an answer, `(text, slot) -> texts`; each is used only if it reads the same.
        wordings: use only so many wordings of each question (the first) and each answer (the shortest); 0 uses all.
    """

    def __init__(self, scorer: Scorer, rewrite: Rewrite | None = None, wordings: int = 0) -> None:
        self.scorer, self.pathway, self.parser = scorer, scorer.pathway, scorer.parser
        self.rewrite, self.wordings = rewrite, wordings
        self._short: dict[tuple[str, Symbol, str | None], Sequence[str]] = {}

    def conversations(
        self,
        count: int,
        seed: int,
        split: Split = "train",
        order: str = "standard",
        hint: str = "none",
        cases: Sequence[Mapping[str, Symbol]] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """`count` conversation rows; the same arguments give the same rows.

        Args:
            count: how many.
            seed: for cases, orders and wordings.
            split: which phrasings are used.
            order: `standard`, `conclusion_first`, `random`, `subset` or `mixed`.
            hint: `none`, `right`, `misleading`, `confirm_right`, `confirm_misleading` or `mixed`.
            cases: cases to use in turn instead of drawn ones; what a case leaves open is not asked.

        Raises:
            PathwayError: the pathway does not allow the order or hint.
        """
        self._check(order, hint)
        for number in range(count):
            random = Random(f"{self.pathway.id}/{seed}/{number}")
            case = cases[number % len(cases)] if cases else draw_case(self.scorer.checker, random)
            one_order = random.choice(self.pathway.turns.orders) if order == "mixed" else order
            one_hint = random.choice(HINTS) if hint == "mixed" else hint
            exchanges = list(self.exchanges(case, random, split, one_order, one_hint))
            yield self._row(number, seed, split, one_order, one_hint, exchanges)

    def _check(self, order: str, hint: str) -> None:
        if order != "mixed" and order not in self.pathway.turns.orders:
            raise PathwayError(f"{self.pathway.id} has no order '{order}'; {suggestion(order, ('mixed', *ORDERS))}.")
        if hint != "mixed" and hint not in HINTS:
            raise PathwayError(f"there is no hint '{hint}'; {suggestion(hint, ('mixed', *HINTS))}.")

    def asked(self, case: Mapping[str, Symbol], random: Random, order: str) -> list[str]:
        """The slots to ask in one conversation, in order."""
        turns = self.pathway.turns
        names = [name for name in turns.order if name in case]
        if turns.skip_not_assessable:
            names = [
                name for name in names if case[name] != NOT_ASSESSABLE or not self.pathway.slots[name].variable.when
            ]
        if order == "conclusion_first" and turns.conclusion in names:
            names.remove(turns.conclusion)
            names.insert(0, turns.conclusion)
        elif order in ("random", "subset"):
            random.shuffle(names)
        if order == "subset":
            names = names[: random.randint(min(turns.subset_min, len(names)), len(names))]
        return names

    def exchanges(
        self, case: Mapping[str, Symbol], random: Random, split: Split, order: str, hint: str
    ) -> Iterator[Exchange]:
        """Questions and right answers of one case."""
        names = self.asked(case, random, order)
        hinted = self._hinted(case, names, random) if hint != "none" else ""
        told: dict[str, str] = {}
        for name in names:
            slot = self.pathway.slots[name]
            question = random.choice(questions(self.pathway, slot, split)[: self.wordings or None])
            before = [told.pop(name)] if name in told else []
            if name == hinted:
                claimed = case[name] if hint.endswith("right") else self._other(slot, case[name], random)
                claim = self._say(slot, claimed, random, split, None)
                if hint.startswith("confirm"):
                    # The question itself is replaced: the answer confirms or corrects the claim.
                    question = random.choice(claims(self.pathway.turns.confirm_say, split)).format(claim=claim)
                else:
                    before.append(random.choice(claims(self.pathway.turns.hint_say, split)).format(claim=claim))
            call = next((action.call for action in self.pathway.turns.actions if action.before == name), "")
            answer = self._say(slot, case[name], random, split, question)
            yield Exchange(name, case[name], question, answer, tuple(before), call)
            for action in self.pathway.turns.actions:
                if (
                    action.after == name
                    and action.reveals in case
                    and (action.when is None or action.when.evaluate(case) is True)
                ):
                    value = case[action.reveals]
                    target = self.pathway.slots[action.reveals]
                    wording = _revealed(target, value)
                    told[action.reveals] = random.choice(action.say).format(value=wording)

    def _hinted(self, case: Mapping[str, Symbol], names: list[str], random: Random) -> str:
        usable = [name for name in names if case[name] != NOT_ASSESSABLE]
        conclusion = self.pathway.turns.conclusion
        return conclusion if conclusion in usable else random.choice(usable) if usable else ""

    def _other(self, slot: Slot, truth: Symbol, random: Random) -> Symbol:
        """A wrong symbol for a misleading hint."""
        symbols = self.scorer.checker.domains[slot.name].symbols
        return random.choice([item for item in symbols if item not in (truth, NOT_ASSESSABLE)])

    def _say(self, slot: Slot, symbol: Symbol, random: Random, split: Split, question: str | None) -> str:
        """A wording that the parser reads back as the symbol, also after this question."""
        options: Sequence[str] = answers(self.pathway, slot, symbol, split)
        if self.wordings:
            options = self._shortest(options, slot, symbol, question)
        for _ in range(_TRIES):
            text = random.choice(options)
            if self.rewrite is not None:
                text = random.choice([text, *self.rewrite(text, slot.name)])
            reading = self.parser.read(text, slot, question)
            if reading.state == "value" and reading.symbol == symbol:
                return text
        raise PathwayError(
            f"{self.pathway.file}: no wording of '{slot.name}' = {show_symbol(symbol)} is read back; "
            "run 'medvlm pathway lint' on it."
        )

    def _shortest(self, options: Sequence[str], slot: Slot, symbol: Symbol, question: str | None) -> Sequence[str]:
        """The shortest wordings that are read back as the symbol."""
        key = (slot.name, symbol, question)
        if key not in self._short:
            readings = ((text, self.parser.read(text, slot, question)) for text in options)
            found = [text for text, reading in readings if reading.state == "value" and reading.symbol == symbol]
            self._short[key] = sorted(found, key=len)[: self.wordings] or options
        return self._short[key]

    def _row(
        self, number: int, seed: int, split: Split, order: str, hint: str, exchanges: list[Exchange]
    ) -> dict[str, Any]:
        messages: list[dict[str, Any]] = []
        for exchange in exchanges:
            text = " ".join((*exchange.before, exchange.question))
            messages.append(_message("user", text))
            if exchange.call:
                name, _, argument = exchange.call.partition("(")
                messages.append(_message("assistant", f"<{name.upper()}({argument}>"))
                messages.append(_message("expert", f"{name}: {exchange.slot} {show_symbol(exchange.symbol)}"))
            messages.append(_message("assistant", exchange.answer))
        name = f"{self.pathway.id}-{seed}-{number:06d}"
        return {
            "id": name,
            "patient": name,
            "split": "train" if split == "train" else "test",
            "task": self.pathway.id,
            "messages": messages,
            "images": [],
            "findings": [],
            "symbols": {
                "pathway": self.pathway.id,
                "order": order,
                "hint": hint,
                "asked": [exchange.slot for exchange in exchanges],
                "questions": [exchange.question for exchange in exchanges],
                "truth": {exchange.slot: plain_symbol(exchange.symbol) for exchange in exchanges},
            },
        }


def _revealed(slot: Slot, value: Symbol) -> str:
    if slot.variable.type == "number":
        return f"{value:g} {slot.variable.unit}"
    if slot.variable.type != "boolean":
        return show_symbol(value)
    named = slot.variable.by_symbol["true" if value else "false"]
    words = (*named.say, *named.words)
    return words[0] if words else "present" if value else "absent"


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def plain_symbol(symbol: Any) -> Any:
    """A symbol as JSON (sets become sorted lists)."""
    return sorted(symbol) if isinstance(symbol, frozenset) else symbol
