from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvlm.dialogue.conversation import Conversation, Turn, write_conversations


@pytest.fixture
def rows(tmp_path) -> Path:
    Image.fromarray(np.zeros((40, 50, 3), dtype=np.uint8)).save(tmp_path / "0.png")
    turns = (Turn("user", "How large is the largest nodule?", ("0.png",)), Turn("assistant", "It measures 14 mm."))
    talks = [Conversation(f"c{n}", f"p{n}", "train", turns) for n in range(12)]
    long = Conversation("long", "p", "train", (Turn("user", "nodule " * 600), Turn("assistant", "yes")))
    write_conversations(tmp_path / "train.jsonl", [*talks, long])
    return tmp_path / "train.jsonl"


def test_a_model_of_eight_billion_parameters_is_planned_without_weights(medvlm_command):
    done = medvlm_command(
        "plan", "--config", "configs/vila_m3_8b.yaml", "--hardware", "a100-80gb", "--rows", "1000000", "--dollars", "2"
    )
    assert done.code == 0, done.err
    # SigLIP-so400m's 27 layers, 1152·4096 + 4096·4096 weights of the projector, Llama-3-8B with 128,320 words.
    assert "412,987,248" in done.out
    assert f"{1152 * 4096 + 4096 + 4096 * 4096 + 4096:,}" in done.out
    assert "weights over 32, gradients over 32, optimiser states over 32" in done.out
    assert "of 80 GiB" in done.out
    assert "dollars" in done.out


def test_data_that_are_not_here_must_be_described(medvlm_command):
    done = medvlm_command("plan", "--config", "configs/vila_m3_8b.yaml", "--hardware", "h100-80gb")
    assert done.code == 2
    assert "describe the data with --rows N" in done.err


def test_unknown_hardware_is_one_sentence(medvlm_command, rows):
    done = medvlm_command("plan", f"--data.train=[{rows}]", "--hardware", "abacus")
    assert done.code == 2
    assert "unknown hardware 'abacus'; choose here, a100-40gb" in done.err


def test_a_preview_shows_what_is_learnt_left_out_trained_and_spent(medvlm_command, rows, tmp_path):
    sizes = tmp_path / "sizes.yaml"
    sizes.write_text("image_size: 32\nwidth: 32\nlayers: 2\nheads: 2\nmlp: 64\nvision_width: 32\nvision_layers: 1\n")
    done = medvlm_command(
        "preview",
        f"--data.train=[{rows}]",
        "--data.longest=400",
        f"--model.tiny_config={sizes}",
        f"--trainer.default_root_dir={tmp_path / 'run'}",
        "--trainer.accelerator=cpu",
    )
    assert done.code == 0, done.err
    for said in ("It measures 14 mm.", "left out 1: longer than 400 tokens (for example long)", "train (full)"):
        assert said in done.out
    for said in ("largest    12 conversations", "optimiser", "GiB at the peak"):
        assert said in done.out
    page = (tmp_path / "run" / "preview.html").read_text(encoding="utf-8")
    assert "<mark>It measures 14 mm.&lt;|end|&gt;</mark>" in page
    assert 'src="data:image/png;base64,' in page
    assert not (tmp_path / "run" / "model").exists()
