"""The `turns` and `reward` sections of a pathway file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

from medvlm.pathways.expressions import Compiler
from medvlm.pathways.located import Located, suggestion
from medvlm.pathways.spec import Action, Decision, Phrasings, RewardWeights, Slot, Turns

_ORDERS = ("standard", "conclusion_first", "random", "subset")
_HINTS = ("right", "misleading")
_KEYS = ("order", "conclusion", "orders", "subset_min", "skip_not_assessable", "hints", "actions")
_ACTION_KEYS = ("if", "after", "reveals", "before", "call", "say")


def read_turns(
    source: Located | None,
    compiler: Compiler,
    slots: Mapping[str, Slot],
    decisions: tuple[Decision, ...],
    frames: Mapping[str, Phrasings],
) -> Turns:
    """The turn graph; without the section: all slots in order, the last decided one as conclusion."""
    conclusion = decisions[-1].target if decisions else list(slots)[-1]
    turns = Turns(order=tuple(slots), conclusion=conclusion, hint_say=frames["hint"], confirm_say=frames["confirm"])
    if source is None:
        return turns
    source.mapping("'turns'", _KEYS)
    entries = source.value
    if "order" in entries:
        order = tuple(name for item in entries["order"].items("order") for name in _asked(item, slots))
        if len(set(order)) != len(order):
            entries["order"].fail("a question is asked twice in 'order'", "list each variable once")
        turns = replace(turns, order=order)
    if "conclusion" in entries:
        turns = replace(turns, conclusion=_slot(entries["conclusion"], slots))
    if turns.conclusion not in turns.order:
        source.fail(f"the conclusion '{turns.conclusion}' is never asked", "add it to 'order'")
    if "orders" in entries:
        names = tuple(item.choice("orders", _ORDERS) for item in entries["orders"].items("orders"))
        turns = replace(turns, orders=names)
    if "hints" in entries:
        hints = tuple(item.choice("hints", _HINTS) for item in entries["hints"].items("hints"))
        turns = replace(turns, hints=hints)
    minimum = int(source.get("subset_min", turns.subset_min).number("subset_min"))
    if not 1 <= minimum <= len(turns.order):
        entries["subset_min"].fail(f"subset_min cannot be {minimum}", f"use 1 to {len(turns.order)}")
    skip = source.get("skip_not_assessable", True).flag("skip_not_assessable")
    actions = entries["actions"].mapping("actions").items() if "actions" in entries else ()
    return replace(
        turns,
        subset_min=minimum,
        skip_not_assessable=skip,
        actions=tuple(_action(name, item, compiler, slots) for name, item in actions),
    )


def _slot(item: Located, slots: Mapping[str, Slot]) -> str:
    if item.value not in slots:
        item.fail(f"'{item.value}' is no variable", suggestion(str(item.value), slots))
    return str(item.value)


def _asked(item: Located, slots: Mapping[str, Slot]) -> list[str]:
    """A slot, or all slots of a scoped variable."""
    scoped = [slot.name for slot in slots.values() if slot.member and slot.variable.id == item.value]
    return scoped or [_slot(item, slots)]


def _action(name: str, item: Located, compiler: Compiler, slots: Mapping[str, Slot]) -> Action:
    entries = item.mapping(f"action '{name}'", _ACTION_KEYS)
    if "reveals" in entries:
        say = item.need("say", f"action '{name}'").texts("say")
        after, reveals = _slot(item.need("after", f"action '{name}'"), slots), _slot(entries["reveals"], slots)
        before = call = ""
    else:
        call = item.need("call", f"action '{name}' without 'reveals'").text("call")
        before, after, reveals, say = _slot(item.need("before", f"action '{name}'"), slots), "", "", ()
    for sentence in say:
        if "{value}" not in sentence:
            entries["say"].fail(f"'{sentence}' does not tell the value", "put {value} into the sentence")
    when = compiler.compile(entries["if"]) if "if" in entries else None
    return Action(name, when, after, reveals, before, call, say)


def read_reward(source: Located | None) -> RewardWeights:
    """Reward weights; what is not written keeps its default."""
    if source is None:
        return RewardWeights()
    names = tuple(field.name for field in fields(RewardWeights))
    given = {key: item.number(key) for key, item in source.mapping("'reward'", names).items()}
    for key in ("partial", "parent", "wrong", "consistency", "length", "format"):
        if not 0 <= given.get(key, 0) <= 1:
            source.value[key].fail(f"'{key}' must be between 0 and 1", "one right answer is worth 1")
    for key in ("no_match", "ambiguous", "abstain"):
        if given.get(key, 0) > 0.5:
            source.value[key].fail(f"'{key}' must not earn more than 0.5", "an answer without a symbol is not right")
    if "max_words" in given:
        given["max_words"] = int(given["max_words"])
    return RewardWeights(**given)  # type: ignore[arg-type]
