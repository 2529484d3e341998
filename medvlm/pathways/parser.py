"""Free text → symbols with the evidence for them.

`AnswerParser.read(text, slot, question)` reads the answer to one question. The result has one of four states: `value`;
`unknown` (the answer doubts or declines); `ambiguous` (it contradicts itself or leaves several values); `no_match`
(it does not answer). Only two `value` readings can ever be equal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from medvlm.pathways.cues import word_set
from medvlm.pathways.lexicon import Trie, variable_trie
from medvlm.pathways.mentions import UNNAMED, Found, IfDenied, Mention
from medvlm.pathways.quantities import Interval, Quantity, QuantityReader
from medvlm.pathways.scan import scan
from medvlm.pathways.spec import NOT_ASSESSABLE, Pathway, Slot, Variable, show_symbol
from medvlm.pathways.tokens import MAX_CHARACTERS, phrase_tokens, tokenise

State = Literal["value", "unknown", "ambiguous", "no_match"]
_MEMORY = 20_000
_FILLER = word_set("fillers") | frozenset("-():,;.!=")


@dataclass(frozen=True, eq=False, slots=True)
class Reading:
    """What an answer says.

    Attributes:
        state: `value`, `unknown`, `ambiguous` or `no_match`.
        symbol: the symbol, for `value`; a number may be an `Interval`.
        spans: `[start, end)` characters of the evidence.
        reason: why, in a few words.
    """

    state: State
    symbol: Any = None
    spans: tuple[tuple[int, int], ...] = ()
    reason: str = ""

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Reading)
            and self.state == other.state == "value"
            and type(self.symbol) is type(other.symbol)
            and self.symbol == other.symbol
        )

    def __hash__(self) -> int:
        return hash((self.state, str(self.symbol)))

    def __str__(self) -> str:
        return show_symbol(self.symbol) if self.state == "value" else self.state


class AnswerParser:
    """Reads answers to the questions of one pathway; readings of repeated answers are remembered."""

    def __init__(self, pathway: Pathway) -> None:
        self.pathway = pathway
        self._readers: dict[str, VariableReader] = {}
        self._memory: dict[tuple[str, str, str | None], Reading] = {}

    def reader(self, slot: Slot) -> VariableReader:
        """The reader of a slot's variable."""
        reader = self._readers.get(slot.variable.id)
        if reader is None:
            reader = self._readers[slot.variable.id] = VariableReader(slot.variable, self.pathway)
        return reader

    def read(self, text: str, slot: str | Slot, question: str | None = None) -> Reading:
        """Read the answer to the question of a slot.

        Args:
            text: the answer.
            slot: the slot or its name.
            question: the question as it was asked; it tells what a bare yes or no means (`Do you agree?`).
        """
        name = slot if isinstance(slot, str) else slot.name
        key = (name, text, question)
        known = self._memory.get(key)
        if known is None:
            found = self.pathway.slot(name)
            known = self.reader(found).read(text, found.member, question)
            if len(self._memory) >= _MEMORY:
                self._memory.clear()
            self._memory[key] = known
        return known


class VariableReader:
    """Reads texts about one variable."""

    def __init__(self, variable: Variable, pathway: Pathway) -> None:
        self.variable = variable
        entity = pathway.entities[variable.scope] if variable.scope else None
        self.trie: Trie = variable_trie(variable, entity)
        self.number = QuantityReader(variable) if variable.type == "number" else None
        self.exclusive = variable.type in ("categorical", "ordinal", "number")
        self.can_fail = bool(variable.when or variable.may_fail)
        self._questions: dict[str, Any] = {}

    @cached_property
    def _short(self) -> dict[tuple[str, ...], Any]:
        return {phrase_tokens(text): value.symbol for value in self.variable.values for text in value.short}

    @cached_property
    def _concept_words(self) -> frozenset[str]:
        return frozenset(word for phrase in self.variable.concept for word in phrase_tokens(phrase))

    def read(self, text: str, member: str | None = None, question: str | None = None) -> Reading:
        """Read an answer; only its first `MAX_CHARACTERS` characters count."""
        text = _final_answer(text[:MAX_CHARACTERS])
        tokens = tokenise(text)
        found = scan(tokens, self.trie, self.number, member, False, self.exclusive)
        mentions = [mention for mention in found.mentions if mention.member == member]
        proposed = self._proposed(question, member) if question and found.bare else None
        if found.self_asked and found.bare:
            proposed = next(iter(found.self_asked)) if len(found.self_asked) == 1 else ...
        if self.number is not None:
            reading = self._read_number(mentions, found)
        elif self.variable.type == "set":
            reading = self._read_set(mentions, found)
        else:
            reading = self._read_symbol(mentions, found, proposed)
        if reading.state == "no_match" and self._short:
            rest = tuple(word for word in tokens.words if word not in _FILLER and word not in self._concept_words)
            if rest in self._short:
                spans = ((tokens.starts[0], tokens.ends[-1]),)
                return Reading("value", self._short[rest], spans, "short answer")
        return reading

    def statement(self, text: str, member: str | None, context: bool) -> Reading:
        """Read one sentence of a report: contextual words count only beside the concept (or with `context`)."""
        found = scan(tokenise(text), self.trie, self.number, member, False, self.exclusive)
        found.bare = []
        mentions = [
            mention
            for mention in found.mentions
            if mention.kind != "generic" and (mention.kind in ("value", "concept") or mention.concept_near or context)
        ]
        if self.number is not None:
            countable = self.number.countable
            mentions = [m for m in mentions if countable or (m.kind == "number" and m.symbol.has_unit)]
        found.doubt = found.doubt if any(m.stance == "doubted" for m in mentions) else None
        found.not_assessable = None if not any(m.stance == "not_assessable" for m in mentions) else found.not_assessable
        if self.number is not None:
            return self._read_number(mentions, found)
        if self.variable.type == "set":
            return self._read_set(mentions, found) if mentions else Reading("no_match", reason="not mentioned")
        return self._read_symbol(mentions, found, None)

    def _proposed(self, question: str, member: str | None) -> Any:
        """The one symbol that a question proposes, None if it proposes none, `...` if it leaves a choice."""
        if question not in self._questions:
            tokens = tokenise(question)
            words = tokens.words
            found = scan(tokens, self.trie, None, member, as_statement=True)
            symbols = set()
            choice = "or" in words
            for mention in found.mentions:
                if mention.kind in UNNAMED or mention.member != member:
                    continue
                # `present or absent?` offers both; the concept is what a yes affirms.
                if mention.stance == "denied" and isinstance(mention.symbol, bool) and not choice:
                    symbols.add(not mention.symbol)
                elif not isinstance(mention.symbol, IfDenied):
                    symbols.add(mention.symbol)
            if len(self._questions) > 1000:
                self._questions.clear()
            self._questions[question] = symbols.pop() if len(symbols) == 1 else (... if symbols else None)
        return self._questions[question]

    def _read_symbol(self, mentions: list[Mention], found: Found, proposed: Any) -> Reading:
        boolean = self.variable.type == "boolean"
        asserted: dict[Any, Mention] = {}
        denied: dict[Any, Mention] = {}
        doubted: list[Mention] = []
        for mention in mentions:
            if mention.kind in UNNAMED:
                continue
            symbol, stance = mention.symbol, mention.stance
            if isinstance(symbol, IfDenied):
                if stance == "asserted":
                    continue
                symbol, stance = symbol.symbol, "asserted" if stance == "denied" else stance
            if stance == "denied" and boolean:
                symbol, stance = not symbol, "asserted"
            if stance == "asserted":
                asserted.setdefault(symbol, mention)
            elif stance == "denied":
                denied.setdefault(symbol, mention)
            elif stance == "doubted":
                doubted.append(mention)
        self._bare(found, boolean, proposed, asserted, denied)
        if not asserted and boolean and not (doubted or found.doubt or found.not_assessable):
            self._generic(mentions, asserted)
        self._drop_parents(asserted)
        if len(asserted) > 1:
            return Reading("ambiguous", None, _spans(asserted.values()), "several values are stated")
        if asserted:
            symbol, mention = next(iter(asserted.items()))
            if symbol in denied:
                return Reading("ambiguous", None, _spans([mention, denied[symbol]]), "stated and denied")
            if found.not_assessable and self.can_fail and mention.kind != "bare":
                return Reading("ambiguous", None, (found.not_assessable,), "stated and called not assessable")
            return Reading("value", symbol, _spans([mention]), "stated")
        if found.not_assessable and self.can_fail:
            return Reading("value", NOT_ASSESSABLE, (found.not_assessable,), "called not assessable")
        if doubted or found.doubt or found.not_assessable:
            spans = _spans(doubted) or ((found.doubt or found.not_assessable),)
            return Reading("unknown", None, spans, "doubted")  # type: ignore[arg-type]
        if denied:
            parents = {symbol: self.variable.by_symbol[symbol].parent for symbol in self.variable.symbols}
            left = [symbol for symbol, parent in parents.items() if symbol not in denied and parent not in denied]
            if len(left) == 1:
                return Reading("value", left[0], _spans(denied.values()), "all others are denied")
            return Reading("no_match", None, _spans(denied.values()), "only denials")
        return Reading("no_match", None, (), "no value is named")

    def _bare(
        self, found: Found, boolean: bool, proposed: Any, asserted: dict[Any, Mention], denied: dict[Any, Mention]
    ) -> None:
        """What yes or no mean, given what the question proposed."""
        for yes, start, end in found.bare:
            mention = Mention("bare", None, "asserted", start, end)
            if proposed is ...:
                continue
            if proposed is None:
                if boolean:
                    asserted.setdefault(yes, mention)
            elif yes:
                asserted.setdefault(proposed, mention)
            elif boolean:
                asserted.setdefault(not proposed, mention)
            elif proposed not in asserted:
                denied.setdefault(proposed, mention)

    def _generic(self, mentions: Iterable[Mention], asserted: dict[Any, Mention]) -> None:
        """`It is not visible`: statements about what was asked without naming it."""
        if self.variable.frame != "presence":
            return
        for mention in mentions:
            if mention.kind == "generic" and mention.stance in ("asserted", "denied"):
                symbol = mention.stance == "asserted"
                asserted.setdefault(symbol, mention)

    def _drop_parents(self, asserted: dict[Any, Mention]) -> None:
        """A named class beside its member (`a leukaemia, namely AML`) adds nothing."""
        if len(asserted) < 2 or self.variable.type == "boolean":
            return
        for symbol in list(asserted):
            parent = self.variable.by_symbol[symbol].parent
            if parent in asserted and parent is not None and self.variable.by_symbol[parent].abstract:
                del asserted[parent]

    def _read_set(self, mentions: list[Mention], found: Found) -> Reading:
        named = [mention for mention in mentions if mention.kind not in UNNAMED]
        asserted = {mention.symbol: mention for mention in named if mention.stance == "asserted"}
        denied = {mention.symbol: mention for mention in named if mention.stance == "denied"}
        both = asserted.keys() & denied.keys()
        if both:
            return Reading("ambiguous", None, _spans(asserted[symbol] for symbol in both), "stated and denied")
        none = [mention for symbol, mention in asserted.items() if symbol == "none"]
        if none and len(asserted) > 1:
            return Reading("ambiguous", None, _spans(asserted.values()), "none and some are stated")
        if any(mention.stance == "doubted" for mention in named) or (found.doubt and not asserted):
            return Reading("unknown", None, (), "doubted")
        if none:
            return Reading("value", frozenset(), _spans(none), "none is stated")
        if asserted:
            return Reading("value", frozenset(asserted), _spans(asserted.values()), "stated")
        if found.not_assessable:
            state: State = "value" if self.can_fail else "unknown"
            symbol = NOT_ASSESSABLE if self.can_fail else None
            return Reading(state, symbol, (found.not_assessable,), "called not assessable")
        generic = [mention for mention in mentions if mention.kind in UNNAMED and mention.stance == "denied"]
        if any(not yes for yes, _, _ in found.bare) or generic or len(denied) == len(self.variable.symbols):
            spans = tuple((start, end) for _, start, end in found.bare) or _spans(generic)
            return Reading("value", frozenset(), spans, "all are denied")
        return Reading("no_match", None, _spans(denied.values()), "no value is named")

    def _read_number(self, mentions: list[Mention], found: Found) -> Reading:
        numbers = [mention for mention in mentions if isinstance(mention.symbol, Quantity)]
        measured = [mention for mention in numbers if mention.symbol.has_unit]
        if not measured:
            measured = [mention for mention in numbers if not mention.symbol.label]
        stated = [mention for mention in measured if mention.stance == "asserted"]
        values = {mention.symbol.value: mention for mention in stated}
        exact = [value for value in values if isinstance(value, float)]
        if len(values) > 1 and exact and None not in values and all(_within(value, exact[0]) for value in values):
            # `12 mm (1.2 cm)`, `12 mm, that is more than 8 mm`: one number and ranges that hold it.
            values = {exact[0]: values[exact[0]]}
        if len(values) > 1 or None in values:
            return Reading("ambiguous", None, _spans(values.values()), "several numbers are stated")
        if values:
            value, mention = next(iter(values.items()))
            if found.not_assessable and self.can_fail:
                return Reading("ambiguous", None, (found.not_assessable,), "stated and called not assessable")
            if isinstance(value, float) and not self.variable.low <= value <= self.variable.high:
                return Reading("no_match", None, _spans([mention]), "outside the range of the variable")
            return Reading("value", value, _spans([mention]), "measured")
        if found.not_assessable:
            if self.can_fail:
                return Reading("value", NOT_ASSESSABLE, (found.not_assessable,), "called not assessable")
            return Reading("unknown", None, (found.not_assessable,), "called not assessable")
        if found.doubt or any(mention.stance == "doubted" for mention in measured):
            return Reading("unknown", None, (found.doubt,) if found.doubt else (), "doubted")
        denied = [mention for mention in mentions if mention.kind in UNNAMED and mention.stance == "denied"]
        none = denied or any(not yes for yes, _, _ in found.bare)
        if none and not numbers and self.number is not None and self.number.countable and self.variable.low <= 0:
            return Reading("value", 0.0, _spans(denied), "none is stated")
        return Reading("no_match", None, (), "no number is named")


def _within(value: float | Interval, exact: float) -> bool:
    if isinstance(value, Interval):
        return value.low <= exact <= value.high
    return abs(value - exact) <= 1e-6 * max(1.0, abs(exact))


def _spans(mentions: Iterable[Mention]) -> tuple[tuple[int, int], ...]:
    return tuple((mention.start, mention.end) for mention in mentions)


def _final_answer(text: str) -> str:
    """Blank out everything but the answer of `<think>...</think>` and `<answer>...</answer>`; positions stay."""
    if "<" not in text:
        return text
    start = max(0, text.rfind("</think>") + len("</think>")) if "</think>" in text else 0
    opened = text.find("<answer>", start)
    if opened >= 0:
        start = opened + len("<answer>")
    closed = text.find("</answer>", start)
    end = closed if closed >= 0 else len(text)
    return " " * start + text[start:end] + " " * (len(text) - end)
