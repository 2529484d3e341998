"""Conversation: chat turns with images, the Findings shown and symbol labels.

Roles are `system`, `user`, `assistant` and `expert`. An expert turn is what medvlm wrote into the conversation after
the assistant's trigger; general chat templates know no such role, so `to_messages` gives it as a user message. The
file format (`to_json`) is HF `messages` with an `images` column beside it, as JSON Lines, Parquet or Arrow
(`dialogue/arrow.py`); `datasets.load_dataset` reads all three.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from medvlm.dialogue.arrow import BATCH, arrow_batches, conversation_schema, from_record, record_batches
from medvlm.errors import MedVLMError
from medvlm.storage import atomic_path, iterate_jsonl, write_jsonl

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

    def add(self, *turns: Turn) -> Conversation:
        """The same conversation with more turns at its end."""
        return replace(self, turns=(*self.turns, *turns))

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
        """One row of a conversation file: `messages` (image parts stand for `images` in order), labels beside it.

        `train` is written only where it is False, so that files of other tools read the same way.
        """
        messages = []
        for turn in self.turns:
            content: list[dict[str, str]] = [{"type": "image"} for _ in turn.images]
            content.append({"type": "text", "text": turn.text})
            message: dict[str, Any] = {"role": turn.role, "content": content}
            if not turn.train:
                message["train"] = False
            messages.append(message)
        return {
            "id": self.id,
            "patient": self.patient,
            "split": self.split,
            "task": self.task,
            "messages": messages,
            "images": list(self.images),
            "findings": list(self.findings),
            "symbols": self.symbols,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Conversation:
        """The inverse of `to_json`; also reads `content` given as a plain string.

        Raises:
            MedVLMError: a field is missing or of the wrong type, or images and image parts do not match.
        """
        try:
            images = list(data.get("images") or ())
            turns = tuple(_turn(message, images) for message in data["messages"])
            if images:
                raise ValueError(f"{len(images)} images have no image part in the messages")
            return cls(
                id=str(data["id"]),
                patient=str(data["patient"]),
                split=str(data["split"]),
                turns=turns,
                task=str(data.get("task") or ""),
                findings=tuple(data.get("findings") or ()),
                symbols=dict(data.get("symbols") or {}),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else error
            raise MedVLMError(f"not a Conversation: {reason}.") from None


def _turn(message: dict[str, Any], images: list[str]) -> Turn:
    """One message as a Turn; its image parts take their paths from the front of `images`."""
    content = message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    texts, shown = [], []
    for part in parts:
        if part["type"] == "text":
            texts.append(part["text"])
        elif part["type"] == "image":
            if not images:
                raise ValueError("more image parts than images")
            shown.append(images.pop(0))
        else:
            raise ValueError(f"unknown content part {part['type']!r}")
    train = message.get("train")
    return Turn(message["role"], "\n".join(texts), tuple(shown), True if train is None else bool(train))


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> int:
    """Write `.jsonl`, `.parquet` or `.arrow` (by the suffix) and return the number of conversations.

    Nothing is collected: conversations are written as they come, so any number of them needs little memory.
    """
    rows = (conversation.to_json() for conversation in conversations)
    suffix = Path(path).suffix
    return write_jsonl(path, rows) if suffix not in (".parquet", ".arrow") else _write_table(path, rows, suffix)


def read_conversations(path: Path) -> list[Conversation]:
    """Read all of a `.jsonl`, `.parquet` or `.arrow` file; `open_conversations` reads one at a time.

    Raises:
        MedVLMError: the file is missing or a row is not a Conversation (names file and row).
    """
    return list(iterate_conversations(path))


def iterate_conversations(path: Path) -> Iterator[Conversation]:
    """The conversations of a file one after the other, without holding them all.

    Raises:
        MedVLMError: as `read_conversations`.
    """
    rows = _iterate_table(path) if Path(path).suffix in (".parquet", ".arrow") else iterate_jsonl(path)
    for number, row in enumerate(rows, start=1):
        try:
            yield Conversation.from_json(row)
        except MedVLMError as error:
            raise MedVLMError(f"{path}, line {number}: {error}") from None


def _write_table(path: Path, rows: Iterable[dict[str, Any]], suffix: str) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, count = conversation_schema(), 0
    with atomic_path(path) as temporary:
        writer = pq.ParquetWriter(temporary, schema) if suffix == ".parquet" else pa.ipc.new_file(temporary, schema)
        with writer:
            for batch in record_batches(rows):
                writer.write_batch(batch)
                count += len(batch)
    return count


def _iterate_table(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not Path(path).is_file():
        raise MedVLMError(f"{path}: no such file.")
    kind = "a Parquet" if Path(path).suffix == ".parquet" else "an Arrow"
    try:
        with pa.OSFile(str(path)) as file:
            batches = pq.ParquetFile(file).iter_batches(BATCH) if kind == "a Parquet" else arrow_batches(file)
            for batch in batches:
                yield from map(from_record, batch.to_pylist())
    except pa.ArrowException as error:
        raise MedVLMError(f"{path}: not {kind} file ({str(error).splitlines()[0]}).") from None
