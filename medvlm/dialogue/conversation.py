"""Conversation: chat turns with images, the Findings shown and symbol labels.

Roles are `system`, `user`, `assistant` and `expert`. An expert turn is what medvlm wrote into the conversation after
the assistant's trigger; general chat templates know no such role, so `to_messages` gives it as a user message.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from medvlm.errors import MedVLMError
from medvlm.storage import read_jsonl, write_jsonl

Role = Literal["system", "user", "assistant", "expert"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "expert")


@dataclass(frozen=True)
class Turn:
    """One message. `images` are paths relative to the conversation file; they come before the text.

    `train` is False for an assistant turn that is context only (no loss on it).
    """

    role: Role
    text: str
    images: tuple[str, ...] = ()
    train: bool = True


@dataclass(frozen=True)
class Conversation:
    """One training or test example.

    Attributes:
        id: unique in its data set.
        patient: patient key for splits.
        split: `train`, `validation` or `test`.
        turns: the messages in order.
        task: what is asked (`nodule_size`), for balancing and for scoring by task.
        findings: ids of the Findings shown in expert turns.
        symbols: labels for scoring (`{"answer": "14 mm", "value": 14.0, "needs_expert": True}`).
    """

    id: str
    patient: str
    split: str
    turns: tuple[Turn, ...]
    task: str = ""
    findings: tuple[str, ...] = ()
    symbols: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for turn in self.turns:
            if turn.role not in ROLES:
                raise ValueError(f"unknown role {turn.role!r}")

    @property
    def images(self) -> tuple[str, ...]:
        """All images in the order of their turns."""
        return tuple(image for turn in self.turns for image in turn.images)

    def to_messages(self) -> list[dict[str, Any]]:
        """HF chat messages: content parts of type `image` and `text`; expert turns as user messages.

        Consecutive messages of one role are joined, since many chat templates insist on alternation.
        """
        messages: list[dict[str, Any]] = []
        for turn in self.turns:
            role = "user" if turn.role == "expert" else turn.role
            parts: list[dict[str, str]] = [{"type": "image", "path": image} for image in turn.images]
            parts.append({"type": "text", "text": turn.text})
            if messages and messages[-1]["role"] == role:
                messages[-1]["content"] += parts
            else:
                messages.append({"role": role, "content": parts})
        return messages

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Conversation:
        """The inverse of `to_json`.

        Raises:
            MedVLMError: a field is missing or of the wrong type.
        """
        try:
            turns = tuple(Turn(**{**row, "images": tuple(row.get("images", ()))}) for row in data["turns"])
            return cls(**{**data, "turns": turns, "findings": tuple(data.get("findings", ()))})
        except (KeyError, TypeError, ValueError) as error:
            raise MedVLMError(f"not a Conversation: {error}.") from None


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> int:
    """Write JSON Lines and return the number of conversations."""
    return write_jsonl(path, (conversation.to_json() for conversation in conversations))


def read_conversations(path: Path) -> list[Conversation]:
    """Read JSON Lines.

    Raises:
        MedVLMError: the file is missing or a line is not a Conversation (names file and line).
    """
    conversations = []
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            conversations.append(Conversation.from_json(row))
        except MedVLMError as error:
            raise MedVLMError(f"{path}, line {number}: {error}") from None
    return conversations
