"""The conversation JSON of LLaVA and VILA, so that other trainers can use our data and we theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from medvlm.dialogue.conversation import Conversation, Role, Turn
from medvlm.errors import MedVLMError
from medvlm.storage import read_json, write_json

IMAGE_TOKEN = "<image>"
_FROM = {"user": "human", "assistant": "gpt", "expert": "human", "system": "system"}
_ROLE: dict[str, Role] = {"human": "user", "gpt": "assistant", "system": "system"}


def write_llava(path: Path, conversations: Iterable[Conversation]) -> int:
    """Write the LLaVA/VILA list (`conversations` with `from` and `value`); expert turns become `human`.

    Consecutive `human` values are joined by a blank line. Returns the number of conversations.
    """
    rows = [_to_llava(conversation) for conversation in conversations]
    write_json(path, rows)
    return len(rows)


def read_llava(
    path: Path, split: str = "train", patient: Callable[[dict[str, Any]], str] | None = None
) -> list[Conversation]:
    """Read a LLaVA/VILA list.

    An `<image>` in the text becomes an image at the front of its turn.

    Args:
        path: the JSON file.
        split: split of all rows; the format has none.
        patient: patient key of a row; the default is its first image, else its id.

    Raises:
        MedVLMError: not such a file (names the row).
    """
    rows = read_json(path)
    if not isinstance(rows, list):
        raise MedVLMError(f"{path}: not a LLaVA file (a JSON list of conversations is expected).")
    conversations = []
    for number, row in enumerate(rows, start=1):
        try:
            conversations.append(_from_llava(row, split, patient))
        except MedVLMError as error:
            raise MedVLMError(f"{path}, row {number}: {error}") from None
    return conversations


def _to_llava(conversation: Conversation) -> dict[str, Any]:
    values: list[dict[str, str]] = []
    for turn in conversation.turns:
        sender = _FROM[turn.role]
        value = "\n".join([IMAGE_TOKEN] * len(turn.images) + [turn.text])
        if values and values[-1]["from"] == sender == "human":
            values[-1]["value"] += "\n\n" + value
        else:
            values.append({"from": sender, "value": value})
    row: dict[str, Any] = {"id": conversation.id}
    if len(conversation.images) == 1:
        row["image"] = conversation.images[0]
    elif conversation.images:
        row["images"] = list(conversation.images)
    return row | {"conversations": values}


def _from_llava(row: dict[str, Any], split: str, patient: Callable[[dict[str, Any]], str] | None) -> Conversation:
    try:
        images = list(row.get("images") or ([row["image"]] if row.get("image") else []))
        remaining = list(images)
        turns = []
        for message in row["conversations"]:
            count = message["value"].count(IMAGE_TOKEN)
            shown, remaining = remaining[:count], remaining[count:]
            if len(shown) < count:
                raise ValueError("more <image> tokens than images")
            pieces = [piece.strip() for piece in message["value"].split(IMAGE_TOKEN)]
            text = " ".join(piece for piece in pieces if piece)
            turns.append(Turn(_ROLE[message["from"]], text, tuple(shown)))
        if remaining:
            raise ValueError(f"{len(remaining)} images have no <image> token")
        identity = str(row["id"])
        key = patient(row) if patient else str(images[0] if images else identity)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"'{error.args[0]}' is missing or unknown" if isinstance(error, KeyError) else error
        raise MedVLMError(f"not a LLaVA conversation: {reason}.") from None
    return Conversation(identity, key, split, tuple(turns))
