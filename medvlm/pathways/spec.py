"""The nouns of a pathway: variables, values, rules, decision tables, turns, rewards, tests.

A pathway is a clinical guideline as data. These classes hold a checked pathway; `loader.load_pathway` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from medvlm.pathways.expressions import Expression

VariableType = Literal["boolean", "categorical", "ordinal", "number", "set"]
HitPolicy = Literal["first", "unique", "max"]
Symbol = bool | str | float | frozenset[str]

NOT_ASSESSABLE = "not_assessable"


@dataclass(frozen=True)
class Phrasings:
    """Sentences to train on and sentences kept apart to test on."""

    train: tuple[str, ...] = ()
    heldout: tuple[str, ...] = ()


@dataclass(frozen=True)
class Value:
    """One answer of a variable.

    Attributes:
        symbol: the name used in rules (`moderate`).
        say: how it is written in generated answers, most usual first.
        say_heldout: wordings used only in held-out phrasings.
        synonyms: phrases that mean this value wherever they stand.
        words: phrases that mean this value only in an answer to the question or beside the variable's concept.
        short: very short answers (`4A`, `3`), read only when they are the whole answer.
        denied: phrases whose denial means this value (`nodule` for the value `none`); asserting them means nothing.
        exclude: longer phrases in which a synonym does not count (`non-ST elevation`).
        parent: the super-class symbol, if any.
        abstract: understood by the parser but never a right answer (`cancer` over `aml` and `mm`).
        points: for point sums.
        phrasings: whole sentences beside the generated ones.
        line: where it is written.
    """

    symbol: str
    say: tuple[str, ...] = ()
    say_heldout: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    short: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    parent: str | None = None
    abstract: bool = False
    points: float = 0.0
    phrasings: Phrasings = Phrasings()
    line: int = 0


@dataclass(frozen=True)
class Entity:
    """Something a variable is asked of once each: eyes, nodules, zones. `members` maps a name to its wordings."""

    name: str
    members: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Variable:
    """One typed question of the guideline.

    Attributes:
        id: name used in rules.
        type: boolean, categorical, ordinal, number or set.
        values: the answers (booleans have `true` and `false`; numbers none).
        concept: noun phrases that name what is asked.
        article: article of the concept (`a`, `an`), if it takes one.
        exclude: longer phrases in which the concept or a synonym does not count.
        plural: the concept takes a plural verb (`drusen`).
        ask: questions.
        frame: which family of sentences generated answers use.
        unit, low, high, step, tolerance, dimension: numbers only; `dimension` says what `14 x 10 mm` means
            (`max`, `mean`, `min` or `first`).
        scope: entity name, or None.
        when: asked only if this holds; otherwise the right answer is `not_assessable`.
        may_fail: `not_assessable` is a right answer by itself (poor image).
        weight: share in the reward.
        costs: `(truth, answer)` → factor on the penalty of that mistake; `under` and `over` for ordinals and numbers.
        line: where it is written.
    """

    id: str
    type: VariableType
    values: tuple[Value, ...] = ()
    concept: tuple[str, ...] = ()
    article: str = ""
    exclude: tuple[str, ...] = ()
    plural: bool = False
    ask: Phrasings = Phrasings()
    frame: str = ""
    unit: str = ""
    low: float = 0.0
    high: float = 0.0
    step: float = 1.0
    tolerance: float = 0.0
    dimension: str = "max"
    scope: str | None = None
    when: str | None = None
    may_fail: bool = False
    weight: float = 1.0
    costs: Mapping[tuple[str, str], float] = field(default_factory=dict)
    line: int = 0

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """Symbols that can be right (abstract ones left out), in order."""
        return tuple(value.symbol for value in self.values if not value.abstract)

    @cached_property
    def by_symbol(self) -> Mapping[str, Value]:
        return {value.symbol: value for value in self.values}

    @cached_property
    def rank(self) -> Mapping[str, int]:
        """Symbol → position of an ordinal."""
        return {symbol: index for index, symbol in enumerate(self.symbols)}

    @property
    def subject(self) -> str:
        """The usual name of what is asked."""
        return self.concept[0] if self.concept else self.id.replace("_", " ")


@dataclass(frozen=True)
class Slot:
    """A variable of one entity member: the unit that is asked, answered and checked (`drusen[right]`)."""

    name: str
    variable: Variable
    member: str | None = None


@dataclass(frozen=True)
class Rule:
    """A statement that always holds; `text` explains it to a reader."""

    id: str
    expression: Expression
    text: str
    line: int = 0
    uncertain: str = ""


@dataclass(frozen=True)
class Row:
    """One row of a decision table: the condition and the outcome (a symbol, a number or an expression)."""

    condition: Expression
    outcome: Symbol | Expression
    line: int
    text: str
    uncertain: str = ""


@dataclass(frozen=True)
class Decision:
    """An ordered decision table for one slot."""

    id: str
    target: str
    hit: HitPolicy
    rows: tuple[Row, ...]
    line: int = 0


@dataclass(frozen=True)
class Action:
    """Something that happens between turns: a value is revealed or an expert is called.

    Attributes:
        id: name.
        when: condition on the case, or None for always.
        after: slot whose answer triggers it; `reveals`: slot whose value the next user turn tells.
        before: slot before whose question an expert is called; `call`: `chest_ct(nodules)`.
        say: sentences with `{value}`.
    """

    id: str
    when: Expression | None = None
    after: str = ""
    reveals: str = ""
    before: str = ""
    call: str = ""
    say: tuple[str, ...] = ()


@dataclass(frozen=True)
class Turns:
    """The turn graph: what is asked in which order, and what may be slipped in."""

    order: tuple[str, ...]
    conclusion: str
    orders: tuple[str, ...] = ("standard", "conclusion_first", "random", "subset")
    subset_min: int = 2
    skip_not_assessable: bool = True
    hints: tuple[str, ...] = ("right", "misleading")
    hint_say: Phrasings = Phrasings()
    confirm_say: Phrasings = Phrasings()
    actions: tuple[Action, ...] = ()


@dataclass(frozen=True)
class RewardWeights:
    """Weights of the reward, in units of one right answer.

    Attributes:
        partial: most that a nearly right ordinal, number or set earns.
        parent: credit for the right super-class.
        wrong: taken for a wrong answer (times the clinical cost).
        no_match, ambiguous, abstain: for answers without one symbol; lowered to what the prior earns if above it.
        consistency: share of the bonus for answers that agree with each other, paid on correct answers only.
        max_words: words an answer may have; `length`: taken for each such length beyond, at most three times.
        format: taken for markup, role markers or unfinished tags in an answer.
    """

    partial: float = 0.5
    parent: float = 0.25
    wrong: float = 0.25
    no_match: float = -0.5
    ambiguous: float = -0.5
    abstain: float = 0.0
    consistency: float = 0.5
    max_words: int = 60
    length: float = 0.1
    format: float = 0.1


@dataclass(frozen=True)
class Binding:
    """How a Finding fills a slot.

    Attributes:
        slot: the slot to fill.
        concept: code meaning, or `SCHEME:value`, of the Finding.
        take: `presence`, `probability`, `grade`, `laterality`, `site`, `measurement` or `count`.
        measurement: code meaning, for `measurement`.
        pick: which Finding where several match: `largest` (by `measurement` or long axis) or `first`.
        nth: 1 for the largest, 2 for the next.
        map: Finding text (lower case) → symbol.
        threshold: for `probability`.
    """

    slot: str
    concept: str
    take: str
    measurement: str = ""
    pick: str = "largest"
    nth: int = 1
    map: Mapping[str, str] = field(default_factory=dict)
    threshold: float = 0.5
    line: int = 0


@dataclass(frozen=True)
class SelfTest:
    """A case with the answers that the guideline must give."""

    given: Mapping[str, Symbol]
    expect: Mapping[str, Symbol]
    line: int
    consistent: bool = True


@dataclass(frozen=True)
class Pathway:
    """A checked clinical guideline. `slots` are in the order of the file."""

    id: str
    title: str
    version: str
    source: tuple[str, ...]
    notice: str
    uncertain: tuple[str, ...]
    entities: Mapping[str, Entity]
    variables: Mapping[str, Variable]
    slots: Mapping[str, Slot]
    rules: tuple[Rule, ...]
    decisions: tuple[Decision, ...]
    turns: Turns
    reward: RewardWeights
    balance: str
    bindings: tuple[Binding, ...]
    tests: tuple[SelfTest, ...]
    file: str
    frames: Mapping[str, Phrasings] = field(default_factory=dict)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def slot(self, name: str) -> Slot:
        """A slot by name.

        Raises:
            MedVLMError: there is none of that name.
        """
        if name not in self.slots:
            from medvlm.pathways.located import PathwayError, suggestion

            raise PathwayError(f"{self.id} has no variable '{name}'; {suggestion(name, self.slots)}.")
        return self.slots[name]


def show_symbol(symbol: Any) -> str:
    """A symbol as it is printed and stored: `yes`, `moderate`, `12`, `macro + rim`."""
    if isinstance(symbol, bool):
        return "yes" if symbol else "no"
    if isinstance(symbol, frozenset):
        return " + ".join(sorted(symbol)) or "none"
    if isinstance(symbol, float):
        return f"{symbol:g}"
    return str(symbol)
