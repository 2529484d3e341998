"""Pictures that a model should not be able to answer from: blank, noise, another patient's, dropped.

What a model still gets right on them it did not see.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image

from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.errors import MedVLMError
from medvlm.storage import atomic_path

Control = Literal["blank", "noise", "shuffled", "inverted"]
CONTROLS: tuple[Control, ...] = get_args(Control)


def with_control(
    conversations: Sequence[Conversation], root: Path, control: Control, folder: Path, seed: int = 0
) -> list[Conversation]:
    """The same questions with altered pictures.

    Args:
        conversations: what is asked; image paths start from `root`.
        root: folder of the conversation file.
        control: `blank` (one grey), `noise`, `shuffled` (a picture of another patient) or `inverted` (grey levels
            turned round: the wrong window).
        folder: where altered pictures are written; those that are there already are kept.
        seed: of noise and shuffling.

    Raises:
        MedVLMError: shuffling needs pictures of two patients.
    """
    if control == "shuffled":
        return _shuffled(conversations, root, seed)
    changed = {name: _altered(root / name, control, folder, seed) for row in conversations for name in row.images}
    return [_replace(row, changed) for row in conversations]


def _shuffled(conversations: Sequence[Conversation], root: Path, seed: int) -> list[Conversation]:
    owner = {name: row.patient for row in conversations for name in row.images}
    names = sorted(owner)
    if len(set(owner.values())) < 2:
        raise MedVLMError("the pictures of one patient cannot be shuffled with those of another.")
    rng = np.random.default_rng(seed)
    changed = {}
    for name in names:
        others = [other for other in names if owner[other] != owner[name]]
        changed[name] = str((root / others[int(rng.integers(len(others)))]).resolve())
    return [_replace(row, changed) for row in conversations]


def _replace(row: Conversation, changed: dict[str, str]) -> Conversation:
    def turn(one: Turn) -> Turn:
        return replace(one, images=tuple(changed[name] for name in one.images))

    return replace(row, turns=tuple(turn(one) for one in row.turns))


def _altered(path: Path, control: Control, folder: Path, seed: int) -> str:
    name = f"{zlib.crc32(str(path).encode()):08x}-{path.stem}.png"
    target = folder / control / name
    if not target.is_file():
        try:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
        except OSError as error:
            raise MedVLMError(f"{path}: not a readable picture ({type(error).__name__}).") from None
        if control == "blank":
            pixels = np.full_like(pixels, 128)
        elif control == "noise":
            rng = np.random.default_rng([seed, zlib.crc32(path.name.encode())])
            pixels = rng.integers(0, 256, pixels.shape, np.uint8)
        else:
            pixels = 255 - pixels
        with atomic_path(target) as temporary:
            Image.fromarray(pixels).save(temporary)
    return str(target.resolve())
