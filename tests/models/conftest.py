"""A tiny VLM that knows a few words, and conversations with a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.models.load import LoadedModel
from medvlm.models.tiny import TinyConfig, build_tiny_model, build_tiny_processor

SMALL = TinyConfig(image_size=32, vision_width=32, vision_layers=1, vision_heads=2, width=32, layers=2, heads=2, mlp=64)
WORDS = ["experts: <CHEST_CT(nodules)>", "How large is the largest nodule?", "The largest nodule measures 14 mm."]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def tiny() -> LoadedModel:
    processor = build_tiny_processor(SMALL, WORDS)
    return LoadedModel(build_tiny_model(SMALL, processor).eval(), processor, "tiny")


@pytest.fixture
def conversation() -> Conversation:
    turns = (
        Turn("system", "experts: <CHEST_CT(nodules)>"),
        Turn("user", "How large is the largest nodule?", ("0.png",)),
        Turn("assistant", "<CHEST_CT(nodules)>"),
        Turn("expert", "lung nodules: 1\n1. right upper lobe, solid, 14 mm"),
        Turn("assistant", "The largest nodule measures 14 mm."),
    )
    return Conversation("c", "p", "train", turns, "nodule_size")
