"""The stance an answer takes to each mention: asserted, denied, doubted or only named.

One pass from left to right. A cue opens a scope that ends with the sentence, at a turn (`but`), or where a comma or
`and` starts a statement of its own; a cue without a mention ahead looks back at the mentions of its clause.
"""

from __future__ import annotations

from medvlm.pathways.cues import word_set
from medvlm.pathways.mentions import MENTION_KINDS, Event, Found, Mention, Stance
from medvlm.pathways.tokens import Tokens

LIST_WORDS = frozenset(("or", "nor", "and", "/"))
PREDICATES = word_set("predicates")
PRONOUNS = word_set("pronouns")
# A statement does not reach further than this; it also keeps hostile text linear.
_REACH = 60


class Judge:
    """The state of one sentence: open scopes and the mentions a backward cue may reach."""

    def __init__(
        self,
        tokens: Tokens,
        events: list[Event],
        own: str | None,
        as_statement: bool,
        exclusive: bool,
        found: Found,
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
        self.before_turn: list[Mention] = []

    def run(self) -> None:
        for index, event in enumerate(self.events):
            handler = getattr(self, f"_on_{event.kind}", None)
            if handler is not None:
                handler(index, event)
            elif event.kind in MENTION_KINDS or event.kind == "generic":
                self._mention(event)
            elif event.kind in ",()[]":
                self._comma(index, event)
            elif event.kind in LIST_WORDS:
                self._list_word(index, event)
        for mention in self.mentions:
            mention.concept_near = self.concept

    def _mention(self, event: Event) -> None:
        stance: Stance = "asserted"
        if self.aside:
            stance = "aside"
        elif self.doubted:
            stance = "doubted"
        elif self.negated:
            stance = "denied"
        starts, ends = self.tokens.starts, self.tokens.ends
        mention = Mention(event.kind, event.symbol, stance, starts[event.start], ends[event.end - 1], self.member)
        self.mentions.append(mention)
        self.pending.append(mention)
        self.before_turn = []
        self.predicate_since_mention = False

    def _clear(self) -> None:
        self.negated = self.doubted = self.aside = False
        self.negation_is_list = False
        self.pending = []
        self.predicate_since_mention = False

    def _on_turn(self, index: int, event: Event) -> None:
        word = self.tokens.words[event.start]
        # `AML: no` looks back over the colon; every other turn starts afresh.
        if word == ":" and not self.aside:
            self.negated = self.doubted = False
            return
        if word in ("so", "now", "only", "since", "rather") and not (self.negated or self.doubted or self.aside):
            return
        before = self.pending
        self._clear()
        # `looked for but not found` still speaks of what it looked for.
        self.before_turn = before if word in ("but", "yet", "however") else []

    def _comma(self, index: int, event: Event) -> None:
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
        for word in words[at : at + _REACH]:
            if word in ("and", "or"):
                return True
            if word in ",.;?!\n" or word in PREDICATES:
                return False
        return False

    def _own_statement(self, at: int) -> bool:
        """Whether the words from `at` to the next comma say something by themselves."""
        words = self.tokens.words
        if at < len(words) and words[at] in LIST_WORDS:
            at += 1
            return at < len(words) and words[at] in PRONOUNS
        for word in words[at : at + _REACH]:
            if word in ",.;?!\n":
                break
            if word in PREDICATES or word in ("no", "without"):
                return True
            if word in ("or", "nor"):
                return False
        return self.exclusive

    def _list_word(self, index: int, event: Event) -> None:
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
        if following in PREDICATES and following not in PRONOUNS:
            # `A has shrunk and is not seen`: a new verb of the same subject.
            self.negated = self.doubted = False
            return
        if (
            following in PRONOUNS
            or (self.negated and not self.negation_is_list)
            or (self.aside and self._own_statement(event.end))
        ):
            self._clear()

    def _on_predicate(self, index: int, event: Event) -> None:
        self.predicate_since_mention = True

    def _on_concept(self, index: int, event: Event) -> None:
        self.concept = True
        if self.negated and not self.aside:
            self._generic("denied", event, "concept")

    def _generic(self, stance: Stance, event: Event, kind: str = "generic") -> None:
        starts, ends = self.tokens.starts, self.tokens.ends
        self.mentions.append(Mention(kind, None, stance, starts[event.start], ends[event.end - 1], self.member))

    def _on_member(self, index: int, event: Event) -> None:
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
        for event in self.events[index + 1 : index + _REACH]:
            if event.kind in MENTION_KINDS:
                return True
            if event.kind in ("turn", ",", "aside", "member") or (event.kind == "and" and not over_and):
                return False
        return False

    def _on_negation(self, index: int, event: Event) -> None:
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

    def _on_not(self, index: int, event: Event) -> None:
        if self._mention_ahead(index, over_and=not self.pending):
            self.negated = not self.negated if self.negated and not self.negation_is_list else True
            self.negation_is_list = False
        elif self.pending:
            self._back("denied")
            self.negated = False
        else:
            # Nothing named yet: "not seen", "it is not visible".
            self._deny_before_turn()
            self.negated = True
            self.negation_is_list = False

    def _on_back_negation(self, index: int, event: Event) -> None:
        if self.pending:
            if self.negated and not self.negation_is_list:
                return
            self._back("denied")
        elif self._mention_ahead(index, over_and=False):
            self.negated = True
            self.negation_is_list = False
        else:
            self._deny_before_turn()
            self._generic("aside" if self.aside else "doubted" if self.doubted else "denied", event)

    def _deny_before_turn(self) -> None:
        for mention in self.before_turn:
            if mention.stance == "asserted":
                mention.stance = "denied"

    def _on_doubt(self, index: int, event: Event) -> None:
        if self.found.doubt is None and not self.aside:
            self.found.doubt = (self.tokens.starts[event.start], self.tokens.ends[event.end - 1])
        if self.pending and not self._mention_ahead(index, over_and=False):
            self._back("doubted")
        else:
            self.doubted = True
            self.negated = False

    def _on_back_doubt(self, index: int, event: Event) -> None:
        if self.found.doubt is None and not self.aside:
            self.found.doubt = (self.tokens.starts[event.start], self.tokens.ends[event.end - 1])
        if self.pending:
            self._back("doubted")
        else:
            self.doubted = True

    def _on_not_assessable(self, index: int, event: Event) -> None:
        if self.found.not_assessable is None and not self.aside:
            self.found.not_assessable = (self.tokens.starts[event.start], self.tokens.ends[event.end - 1])
        self._back("not_assessable")
        for later in self.events[index + 1 : index + _REACH]:
            if later.kind in ("turn", ",", "and"):
                break
            if later.kind in MENTION_KINDS:
                later.kind = "concept"

    def _on_aside(self, index: int, event: Event) -> None:
        if not self.as_statement:
            self.aside = True
            self.negated = self.doubted = False

    def _on_condition(self, index: int, event: Event) -> None:
        self.condition = True
        self._on_aside(index, event)

    def _on_would(self, index: int, event: Event) -> None:
        if self.condition:
            self._on_aside(index, event)

    def _on_back_aside(self, index: int, event: Event) -> None:
        if self.pending and not self._mention_ahead(index, over_and=False):
            self._back("aside")
        else:
            self._on_aside(index, event)

    def _on_either(self, index: int, event: Event) -> None:
        if self._mention_ahead(index, over_and=False):
            self._back("doubted")
            self.doubted = True

    def _back(self, stance: Stance) -> None:
        for mention in self.pending:
            if mention.stance in ("asserted", "denied") and not (self.as_statement and stance == "aside"):
                mention.stance = stance
        self.pending = []
