"""The tiny VLM, pictures and a conversation of the model tests, and files to train on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from medvlm.dialogue.conversation import Conversation, Turn, write_conversations
from tests.models.conftest import SMALL, conversation, pictures, tiny

__all__ = ["conversation", "pictures", "tiny"]


@pytest.fixture(scope="session")
def data(pictures: Path) -> Path:
    """Sizes to be copied from an expert's turn: train.jsonl (24), validation.jsonl (4) and test.jsonl (4)."""
    for split, count in (("train", 24), ("validation", 4), ("test", 4)):
        rows = []
        for number in range(count):
            size = 5 + number
            turns = (
                Turn("user", "How large is the largest nodule?", (f"{number % 3}.png",) if number % 2 else ()),
                Turn("assistant", "<CHEST_CT(nodules)>"),
                Turn("expert", f"1. solid, {size} mm"),
                Turn("assistant", f"{size} mm."),
            )
            symbols = {"answer": f"{size} mm"}
            rows.append(
                Conversation(f"{split}-{number}", f"{split}-{number}", split, turns, "nodule_size", (), symbols)
            )
        write_conversations(pictures / f"{split}.jsonl", rows)
    return pictures


@pytest.fixture(scope="session")
def small_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(yaml.safe_dump(asdict(SMALL)))
    return path
