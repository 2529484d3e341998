"""What an answer says about each value: asserted, denied, doubted or only mentioned.

One pass from left to right over tokens. Cues open a scope that ends at the end of the sentence, at a turn (`but`), or
where a comma or `and` starts a statement of its own; a cue without a mention ahead looks back at the mentions of its
clause. No regular expression with a variable length is involved, so hostile text costs linear time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from medvlm.pathways.cues import PREDICATE
from medvlm.pathways.lexicon import Trie, bare_answers, cue_trie, longest
from medvlm.pathways.tokens import Tokens

Stance = Literal["asserted", "denied", "doubted", "aside", "not_assessable"]
_LIST_WORDS = frozenset(("or", "nor", "and", "/"))
_PRONOUNS = frozenset(
    "there it i the this that we these those a in on here he she you what which all thats its with".split()
)
_MARKS = frozenset(",()[];:") | _LIST_WORDS | PREDICATE
# A mention kind is `value`, `word`, `number`, or weak: `generic` (present, seen).
MENTION_KINDS = ("value", "word", "number")
NumberReader = Callable[[Tokens, int], "tuple[Any, int] | None"]


@dataclass(slots=True)
class Mention:
    """One mention of a symbol (or of the concept, or of something unnamed) with the stance taken to it."""

    kind: str
    symbol: Any
    stance: Stance
    start: int
    end: int
    member: str | None = None
    concept_near: bool = False


@dataclass(slots=True)
class Reading1:
    """Everything one scan of an answer found."""

    mentions: list[Mention]
    bare: list[tuple[bool, int, int]]
    self_asked: set[Any] = field(default_factory=set)
    doubt: tuple[int, int] | None = None
    not_assessable: tuple[int, int] | None = None


@dataclass(slots=True)
class _Event:
    kind: str
    symbol: Any
    start: int
    end: int


def scan(
    tokens: Tokens, trie: Trie, number: NumberReader | None, own: str | None, as_statement: bool, exclusive: bool = False
) -> Reading1:
    """Find and judge all mentions.

    Args:
        tokens: the text.
        trie: phrases of the variable.
        number: reads a quantity at a token, for number variables.
        own: the entity member that is asked about.
        as_statement: read a question as the statement it proposes (questions and opinions count).
        exclusive: the values exclude each other, so that `no A, B` denies A only.
    """
    words = tokens.words
    found = Reading1([], [])
    start = 0
    size = len(words)
    for position in range(size + 1):
        if position < size and words[position] not in ".?!\n":
            continue
        if position > start:
            question = position < size and words[position] == "?"
            _sentence(tokens, start, position, trie, number, own, as_statement, exclusive, question, found)
        start = position + 1
    return found


def _sentence(
    tokens: Tokens,
    start: int,
    end: int,
    trie: Trie,
    number: NumberReader | None,
    own: str | None,
    as_statement: bool,
    exclusive: bool,
    question: bool,
    found: Reading1,
) -> None:
    if not question or not as_statement:
        start = _bare(tokens, start, end, trie, found)
    events = _events(tokens, start, end, trie, number)
    judge = _Judge(tokens, events, own, as_statement, exclusive, found)
    judge.run()
    if question and not as_statement:
        # A question inside an answer asserts nothing (`AML?` is a doubtful mention), but a following no answers it.
        found.self_asked |= {mention.symbol for mention in judge.mentions if mention.kind != "generic"}
        if end - start > 3:
            return
        for mention in judge.mentions:
            mention.stance = "doubted"
    found.mentions += judge.mentions


def _bare(tokens: Tokens, start: int, end: int, trie: Trie, found: Reading1) -> int:
    """A yes or no that opens the sentence; returns where the rest starts."""
    words = tokens.words
    hit = longest(bare_answers(), words, start, end)
    if hit is None:
        return start
    own = longest(trie, words, start, end)
    if own is not None and own[1] >= hit[1]:
        return start
    (kind, _), after = hit
    following = words[after] if after < end else ""
    closed = not following or following in ",;:-)"
    if not closed and not (words[start] in ("yes", "no") and after == start + 1 and following in _PRONOUNS):
        return start
    if words[start] == "no" and following in ("other", "a") and not closed:
        return start
    found.bare.append((kind == "yes", tokens.starts[start], tokens.ends[after - 1]))
    return after + 1 if closed and following else after


def _events(tokens: Tokens, start: int, end: int, trie: Trie, number: NumberReader | None) -> list[_Event]:
    words = tokens.words
    cue = cue_trie()
    events: list[_Event] = []
    at = start
    while at < end:
        word = words[at]
        if word not in trie and word not in cue and word not in _MARKS and number is None:
            at += 1
            continue
        own = longest(trie, words, at, end) if word in trie else None
        other = longest(cue, words, at, end) if word in cue else None
        if other is not None and own is None and other[1] > at + 1:
            # A phrase of the variable that begins inside the cue and goes beyond it cuts the cue short:
            # `no new vessels` holds `no`, not `no new`.
            for inner in range(at + 1, other[1]):
                phrase = longest(trie, words, inner, end) if words[inner] in trie else None
                if phrase is not None and phrase[1] > other[1]:
                    other = longest(cue, words, at, inner)
                    break
        if number is not None and own is None:
            quantity = number(tokens, at)
            if quantity is not None and (other is None or quantity[1] >= other[1]):
                events.append(_Event("number", quantity[0], at, quantity[1]))
                at = quantity[1]
                continue
        if own is not None and (other is None or own[1] >= other[1]):
            after = _scale(words, own[1], end)
            events.append(_Event(own[0][0], own[0][1], at, after))
            at = after
        elif other is not None:
            # `between 4 and 6` is a range, not a doubt.
            if number is None or word != "between" or number(tokens, other[1]) is None:
                events.append(_Event(other[0][0], None, at, other[1]))
            at = other[1]
        else:
            if word in ";:":
                events.append(_Event("turn", None, at, at + 1))
            elif word in ",()[]" or word in _LIST_WORDS:
                events.append(_Event(word, None, at, at + 1))
            elif word in PREDICATE:
                events.append(_Event("predicate", None, at, at + 1))
            at += 1
    return events


def _scale(words: list[str], at: int, end: int) -> int:
    """Skip the scale of a score: `4/5`, `4 out of 5`."""
    if not words[at - 1].isdigit():
        return at
    step = at + 2 if words[at : at + 2] == ["out", "of"] else at + 1 if words[at : at + 1] in (["/"], ["of"]) else at
    return step + 1 if at < step < end and words[step].isdigit() else at


class _Judge:
    """The state of one sentence: open scopes and the mentions a backward cue may reach."""

    def __init__(
        self,
        tokens: Tokens,
        events: list[_Event],
        own: str | None,
        as_statement: bool,
        exclusive: bool,
        found: Reading1,
    ) -> None:
        self.tokens, self.events, self.as_statement, self.found = tokens, events, as_statement, found
        self.exclusive = exclusive
        self.mentions: list[Mention] = []
        self.pending: list[Mention] = []
        self.member = own
        self.member_named = False
        self.negated = self.doubted = self.aside = False
        self.negation_is_list = False
        self.predicate_since_mention = False
        self.concept = False
        self.condition = False

    def run(self) -> None:
        for index, event in enumerate(self.events):
            handler = getattr(self, f"_on_{event.kind}", None)
            if handler is not None:
                handler(index, event)
            elif event.kind in MENTION_KINDS or event.kind == "generic":
                self._mention(event)
            elif event.kind in ",()[]":
                self._comma(index, event)
            elif event.kind in _LIST_WORDS:
                self._list_word(index, event)
        for mention in self.mentions:
            mention.concept_near = self.concept

    def _mention(self, event: _Event) -> None:
        stance: Stance = "asserted"
        if self.aside:
            stance = "aside"
        elif self.doubted:
            stance = "doubted"
        elif self.negated:
            stance = "denied"
        starts, ends = self.tokens.starts, self.tokens.ends
        mention = Mention(
            event.kind, event.symbol, stance, starts[event.start], ends[event.end - 1], self.member
        )
        self.mentions.append(mention)
        self.pending.append(mention)
        self.predicate_since_mention = False

    def _clear(self) -> None:
        self.negated = self.doubted = self.aside = False
        self.negation_is_list = False
        self.pending = []
        self.predicate_since_mention = False

    def _on_turn(self, index: int, event: _Event) -> None:
        word = self.tokens.words[event.start]
        # `AML: no` looks back over the colon; every other turn starts afresh.
        if word == ":" and not self.aside:
            self.negated = self.doubted = False
            return
        if word in ("so", "now", "only", "since", "rather") and not (self.negated or self.doubted or self.aside):
            return
        self._clear()

    def _comma(self, index: int, event: _Event) -> None:
        if event.kind in ")]":
            return
        self.member_named = False
        words = self.tokens.words
        if self.aside:
            if event.end < len(words) and words[event.end] in ("which", "who", "where", "whose"):
                return
            self.aside = False
            self.doubted = self.negated = False
            return
        own_statement = self._own_statement(event.end)
        if self.negated and (not self.negation_is_list or own_statement):
            self.negated = False
        if self.doubted and own_statement:
            self.doubted = False
        if self.predicate_since_mention or (own_statement and not self._listed(event.end)):
            self.pending = []

    def _listed(self, at: int) -> bool:
        """Whether the words after a comma end a list that has its verb behind it (`A, B and C are absent`)."""
        words = self.tokens.words
        while at < len(words) and words[at] not in ",.;?!\n" and words[at] not in PREDICATE:
            if words[at] in ("and", "or"):
                return True
            at += 1
        return False

    def _own_statement(self, at: int) -> bool:
        """Whether the words from `at` to the next comma say something by themselves."""
        words = self.tokens.words
        if at < len(words) and words[at] in _LIST_WORDS:
            at += 1
            return at < len(words) and words[at] in _PRONOUNS
        while at < len(words) and words[at] not in ",.;?!\n":
            if words[at] in PREDICATE or words[at] == "no" or words[at] == "without":
                return True
            if words[at] in ("or", "nor"):
                return False
            at += 1
        return self.exclusive

    def _list_word(self, index: int, event: _Event) -> None:
        words = self.tokens.words
        if event.kind == "or" and not self.negated and event.end < len(words) and words[event.end][0].isdigit():
            # `category 3 or 4`: the second is no phrase of its own, but the first is no longer asserted.
            self._back("doubted")
            self.doubted = True
        if event.kind in ("or", "nor", "/"):
            return
        following = words[event.end] if event.end < len(words) else ""
        if following == "or":
            return
        self.member_named = False
        if following in PREDICATE and following not in _PRONOUNS:
            # `A has shrunk and is not seen`: a new verb of the same subject.
            self.negated = self.doubted = False
            return
        if following in _PRONOUNS or (self.negated and not self.negation_is_list):
            self._clear()
        elif self.aside and self._own_statement(event.end):
            self._clear()

    def _on_predicate(self, index: int, event: _Event) -> None:
        self.predicate_since_mention = True

    def _on_concept(self, index: int, event: _Event) -> None:
        self.concept = True
        if self.negated:
            self._generic("denied", event)

    def _generic(self, stance: Stance, event: _Event) -> None:
        starts, ends = self.tokens.starts, self.tokens.ends
        self.mentions.append(Mention("generic", None, stance, starts[event.start], ends[event.end - 1], self.member))

    def _on_member(self, index: int, event: _Event) -> None:
        # "fluid in the right eye" names the member after its mention, "the right eye shows fluid" before it.
        if self.pending and not self.member_named:
            for mention in self.pending:
                mention.member = event.symbol
            self._clear()
        elif event.symbol != self.member:
            self._clear()
        self.member = event.symbol
        self.member_named = True

    def _mention_ahead(self, index: int, over_and: bool) -> bool:
        """Whether a mention follows before the segment ends."""
        for event in self.events[index + 1 :]:
            if event.kind in MENTION_KINDS:
                return True
            if event.kind in ("turn", ",", "aside", "member") or (event.kind == "and" and not over_and):
                return False
        return False

    def _on_negation(self, index: int, event: _Event) -> None:
        words = self.tokens.words
        before = words[event.start - 1] if event.start else ""
        if self.pending and before in (":", "-", "=") and not self._mention_ahead(index, False):
            self._back("denied")
            return
        if self.negated and not self.negation_is_list and words[event.start] != "no":
            # `not without`: two negations leave the matter open.
            self.negated, self.doubted = False, True
        elif not self.doubted:
            self.negated = True
        self.negation_is_list = words[event.start] not in ("never", "against", "far", "anything")

    def _on_not(self, index: int, event: _Event) -> None:
        if self._mention_ahead(index, over_and=not self.pending):
            self.negated = not self.negated if self.negated and not self.negation_is_list else True
            self.negation_is_list = False
        elif self.pending:
            self._back("denied")
            self.negated = False
        else:
            # Nothing named yet: "not seen", "it is not visible".
            self.negated = True
            self.negation_is_list = False

    def _on_back_negation(self, index: int, event: _Event) -> None:
        if self.pending:
            if self.negated and not self.negation_is_list:
                return
            self._back("denied")
        elif self._mention_ahead(index, over_and=False):
            self.negated = True
            self.negation_is_list = False
        else:
            self._generic("aside" if self.aside else "doubted" if self.doubted else "denied", event)

    def _on_doubt(self, index: int, event: _Event) -> None:
        if self.found.doubt is None and not self.aside:
            self.found.doubt = (self.tokens.starts[event.start], self.tokens.ends[event.end - 1])
        if self.pending and not self._mention_ahead(index, over_and=False):
            self._back("doubted")
        else:
            self.doubted = True
            self.negated = False

    def _on_back_doubt(self, index: int, event: _Event) -> None:
        if self.found.doubt is None and not self.aside:
            self.found.doubt = (self.tokens.starts[event.start], self.tokens.ends[event.end - 1])
        if self.pending:
            self._back("doubted")
        else:
            self.doubted = True

    def _on_not_assessable(self, index: int, event: _Event) -> None:
        if self.found.not_assessable is None and not self.aside:
            self.found.not_assessable = (self.tokens.starts[event.start], self.tokens.ends[event.end - 1])
        self._back("not_assessable")
        for later in self.events[index + 1 :]:
            if later.kind in ("turn", ",", "and"):
                break
            if later.kind in MENTION_KINDS:
                later.kind = "concept"

    def _on_aside(self, index: int, event: _Event) -> None:
        if not self.as_statement:
            self.aside = True
            self.negated = self.doubted = False

    def _on_condition(self, index: int, event: _Event) -> None:
        self.condition = True
        self._on_aside(index, event)

    def _on_would(self, index: int, event: _Event) -> None:
        if self.condition:
            self._on_aside(index, event)

    def _on_back_aside(self, index: int, event: _Event) -> None:
        if self.pending and not self._mention_ahead(index, over_and=False):
            self._back("aside")
        else:
            self._on_aside(index, event)

    def _on_either(self, index: int, event: _Event) -> None:
        if self._mention_ahead(index, over_and=False):
            self._back("doubted")
            self.doubted = True

    def _back(self, stance: Stance) -> None:
        for mention in self.pending:
            if mention.stance in ("asserted", "denied") and not (self.as_statement and stance == "aside"):
                mention.stance = stance
        self.pending = []
