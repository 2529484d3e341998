"""The closed loop as a skill: test questions answered with the expert on offer, or from the picture alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from medvlm.curricula.measure import Measured
from medvlm.dialogue.conversation import Conversation
from medvlm.dialogue.loop import Case, Desk, ask_many
from medvlm.dialogue.score import Score
from medvlm.models.generate import Generator
from medvlm.models.load import LoadedModel


def measure_loop(
    loaded: LoadedModel,
    conversations: Sequence[Conversation],
    desk: Desk,
    offered: bool,
    tasks: Sequence[str] = (),
    max_new_tokens: int = 64,
    batch: int = 64,
) -> Measured:
    """Ask the test questions that an expert can answer; the model itself must call it.

    Args:
        loaded: the model.
        conversations: test conversations, one question each.
        desk: answers the calls.
        offered: the expert is on offer; otherwise the model answers from the picture.
        tasks: question families that count; empty counts all that need an expert.
        max_new_tokens: longest message.
        batch: conversations side by side.
    """
    asked = [
        row
        for row in conversations
        if row.symbols.get("score") and (row.task in tasks if tasks else row.symbols["needs_expert"])
    ]
    cases = [Case(_opening(row, offered), str(row.symbols["study"]), None, offered) for row in asked]
    ends = ask_many(cases, Generator(loaded, max_new_tokens, batch_size=batch), desk)
    right: dict[str, list[bool]] = {}
    by_task: dict[str, list[bool]] = defaultdict(list)
    for row, end in zip(asked, ends, strict=True):
        good = bool(Score.from_json(row.symbols["score"]).correct(end.turns[-1].text, row.symbols.get("value")))
        right[row.id] = [good]
        by_task[row.task].append(good)
    told = [good for answers in right.values() for good in answers]
    share = sum(told) / max(1, len(told))
    slots = {name: sum(values) / len(values) for name, values in by_task.items()}
    return Measured(len(asked), len(told), share, share, None, 0.0, 0.0, 0.0, slots, right)


def _opening(row: Conversation, offered: bool) -> Conversation:
    """The conversation up to its question; the system turn that shows the expert is left out without it."""
    first = next(number for number, turn in enumerate(row.turns) if turn.role == "user")
    turns = tuple(turn for turn in row.turns[: first + 1] if offered or turn.role != "system")
    return Conversation(row.id, row.patient, row.split, turns, row.task, (), row.symbols)
