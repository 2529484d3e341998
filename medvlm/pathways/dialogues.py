"""Conversation rows → answers to score, with the truth they carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medvlm.pathways.load_rules import read_symbol
from medvlm.pathways.located import Located, PathwayError
from medvlm.pathways.reward import Answer, Score, Scorer
from medvlm.pathways.spec import Pathway, Symbol


def score_row(scorer: Scorer, row: Mapping[str, Any], answers: Sequence[str] | None = None) -> Score:
    """Score one conversation row (`messages` with `symbols.asked` and `symbols.truth`).

    Args:
        scorer: scorer of the row's pathway.
        row: a conversation as `simulate` writes it, with the answers of any model.
        answers: answers to use instead of the row's assistant messages.

    Raises:
        PathwayError: the row has no symbols, or its answers do not match its questions.
    """
    name = str(row.get("id", "the conversation"))
    symbols = row.get("symbols") or {}
    if "asked" not in symbols or "truth" not in symbols:
        raise PathwayError(
            f"{name}: 'symbols' has no 'asked' and 'truth'; make the file with 'medvlm pathway simulate'."
        )
    texts = list(answers) if answers is not None else assistant_texts(row["messages"])
    asked = symbols["asked"]
    if len(texts) != len(asked):
        raise PathwayError(f"{name}: {len(texts)} answers for {len(asked)} questions; give one answer a question.")
    questions = symbols.get("questions") or [None] * len(asked)
    truth = read_truth(scorer.pathway, symbols["truth"], name)
    return scorer.score([Answer(*item) for item in zip(asked, texts, questions)], truth)


def assistant_texts(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The answers among chat messages: assistant turns, expert triggers left out."""
    texts = []
    for message in messages:
        if message.get("role") != "assistant":
            continue
        text = message_text(message)
        if not _is_trigger(text):
            texts.append(text)
    return texts


def message_text(message: Mapping[str, Any]) -> str:
    """The text of a message whose content is a string or a list of parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content if part.get("type", "text") == "text")


def _is_trigger(text: str) -> bool:
    stripped = text.strip()
    return stripped.startswith("<") and stripped.endswith(")>") and stripped[1:2].isupper()


def read_truth(pathway: Pathway, truth: Mapping[str, Any], name: str, line: int = 1) -> dict[str, Symbol]:
    """Symbols from JSON, checked against the pathway; `name` and `line` say where they are written.

    Raises:
        PathwayError: a slot or symbol is unknown.
    """
    return {slot: read_symbol(_located(value, name, line), pathway.slot(slot)) for slot, value in truth.items()}


def _located(value: Any, name: str, line: int) -> Located:
    if isinstance(value, list):
        return Located([Located(item, line, name) for item in value], line, name)
    return Located(value, line, name)
