"""Contrastive pre-training: the loss by hand, what descriptions are true of, and a small run."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from medvlm.dialogue.conversation import Conversation, Turn, write_conversations
from medvlm.errors import MedVLMError
from medvlm.pathways.loader import load_pathway
from medvlm.training.contrastive import Contrastive, looked_at, symmetric_loss
from medvlm.training.descriptions import Descriptions, matches, rarities
from tests.models.families import build_family
from tests.training.test_alignment import fit, logged


def test_the_loss_of_pictures_and_texts_that_cannot_be_told_apart() -> None:
    # Scale 0: every text is as near as the other. Two pictures: log 2 each, from either side, whatever is true.
    one, scale = torch.eye(2), torch.tensor(0.0)
    for true in (torch.eye(2, dtype=torch.bool), torch.ones(2, 2, dtype=torch.bool)):
        loss, _ = symmetric_loss(one, scale, true)
        assert loss.item() == pytest.approx(2 * math.log(2))


def test_the_loss_of_pictures_beside_their_own_texts() -> None:
    # Cosines 1 and 0 at scale 2: log(e^2 + 1) - 2 for each of two pictures.
    loss, right = symmetric_loss(torch.eye(2), torch.tensor(2.0), torch.eye(2, dtype=torch.bool))
    assert loss.item() == pytest.approx(2 * (math.log(math.exp(2) + 1) - 2))
    assert right.item() == 1.0


def test_two_texts_that_are_true_of_a_picture_share_it() -> None:
    # Picture 0 with both texts true: half each of log(e^2 + 1) - 2 and log(e^2 + 1). Picture 1: its own text alone.
    true = torch.tensor([[True, True], [False, True]])
    loss, _ = symmetric_loss(torch.eye(2), torch.tensor(2.0), true)
    base = math.log(math.exp(2) + 1)
    rows = (base - 1) + (base - 2)
    # Text 0 is true of picture 0 alone, text 1 of both.
    columns = (base - 2) + (base - 1)
    assert loss.item() == pytest.approx(0.5 * (rows + columns))


def test_a_description_is_true_of_every_picture_with_its_facts(tmp_path: Path) -> None:
    pathway = load_pathway("bone_marrow")
    (tmp_path / "known.yaml").write_text("diagnosis: {aml: [at least a fifth of the cells are blasts]}\n")
    known = Descriptions(pathway, tmp_path / "known.yaml")
    aml, mm = {"diagnosis": "aml", "cells": "adequate"}, {"diagnosis": "mm", "cells": "adequate"}
    assert matches([{"cells": "adequate"}, {"diagnosis": "aml"}], [aml, mm]) == [[True, True], [True, False]]
    assert "at least a fifth of the cells are blasts" in known.texts("diagnosis", "aml")
    text, stated = known.write(aml, 1, Random(0), rarities([aml, mm]))
    assert len(stated) == 1
    assert text in known.texts(*next(iter(stated.items())))


def test_uncommon_facts_are_said_more_often() -> None:
    known = Descriptions(load_pathway("bone_marrow"))
    rare, common = {"diagnosis": "aml", "cells": "adequate"}, {"cells": "adequate"}
    rarity = rarities([rare, *[common] * 9])
    assert rarity == {("diagnosis", "aml"): 1.0, ("cells", "adequate"): 0.1}
    said = [next(iter(known.write(rare, 1, Random(seed), rarity)[1])) for seed in range(400)]
    # Weighted draws: 1 in 11 says what all pictures have; two standard errors are 3 %.
    assert said.count("cells") / 400 == pytest.approx(1 / 11, abs=0.03)


def test_alternatives_are_what_a_slot_can_be_in_a_batch() -> None:
    known = Descriptions(load_pathway("bone_marrow"))
    aml, mm = {"diagnosis": "aml", "cells": "adequate"}, {"diagnosis": "mm", "cells": "adequate"}
    bank = known.alternatives([aml, mm, {"cells": "adequate"}], Random(0))
    assert {slot: set(told) for slot, told in bank.items()} == {"diagnosis": {"aml", "mm"}}
    assert bank["diagnosis"]["aml"] in known.texts("diagnosis", "aml")


def test_a_text_looks_at_the_places_that_are_like_it() -> None:
    # One place of four is like the text. Looking everywhere alike: cosine of (1, 3) and (1, 0).
    tokens, text = torch.tensor([[1.0, 0], [0, 1], [0, 1], [0, 1]]), torch.tensor([[2.0, 0]])
    assert looked_at(tokens, text, 0.0).item() == pytest.approx(1 / math.sqrt(10))
    weight = math.e / (math.e + 3)
    assert looked_at(tokens, text, 1.0).item() == pytest.approx(weight / math.hypot(weight, 1 - weight))


def test_a_symbol_that_the_pathway_lacks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "known.yaml").write_text("diagnosis: {flu: [a cough]}\n")
    with pytest.raises(MedVLMError, match="diagnosis has no symbol 'flu'; choose"):
        Descriptions(load_pathway("bone_marrow"), tmp_path / "known.yaml")


@pytest.mark.parametrize("name", ["llava", "qwen3_vl", "internvl", "idefics3", "gemma3"])
def test_a_picture_looks_the_same_alone_and_in_a_batch(name: str, pictures: Path, conversation) -> None:
    loaded = build_family(name)
    module = Contrastive.__new__(Contrastive)
    torch.nn.Module.__init__(module)
    module.loaded, module.model = loaded, loaded.model
    from medvlm.models.chat import ChatEncoder

    encoder = ChatEncoder(loaded.processor, pictures)
    turns = [(Turn("user", "?", (f"{number}.png",)), Turn("assistant", "!")) for number in range(2)]
    rows = [encoder.encode(replace(conversation, turns=one)).vision for one in turns]
    with torch.no_grad():
        together = torch.stack(module.seen(rows))
        alone = torch.stack([module.seen([row])[0] for row in rows])
    assert together.shape == alone.shape
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[1])


def test_the_tower_learns_what_descriptions_are_true_of(tiny, small_config, tmp_path: Path) -> None:
    """Dark, middle and bright pictures: three diagnoses."""
    kinds, rows = ("aml", "mm", "healthy"), []
    for number in range(24):
        noise = np.random.default_rng(number).integers(-20, 20, (32, 32, 3))
        Image.fromarray((60 + 70 * (number % 3) + noise).astype(np.uint8)).save(tmp_path / f"{number}.png")
        turns = (Turn("user", "What is it?", (f"{number}.png",)), Turn("assistant", "See."))
        symbols = {"truth": {"diagnosis": kinds[number % 3]}}
        rows.append(Conversation(f"c{number}", f"p{number}", "train", turns, "", (), symbols))
    write_conversations(tmp_path / "rows.jsonl", rows)
    tiny.save(tmp_path / "start")
    trained = fit(
        tmp_path / "run",
        small_config,
        "--objective=contrastive",
        "--model.pathway=bone_marrow",
        f"--model.name={tmp_path / 'start'}",
        f"--data.train=[{tmp_path / 'rows.jsonl'}]",
        "--data.pictures=12",
        "--trainer.max_epochs=20",
        "--model.learning_rate=3e-3",
        "--trainer.log_every_n_steps=1",
    )
    # A picture whose kind is not among the texts cannot be matched: of twelve, hardly one.
    assert sum(logged(tmp_path / "run", "train/matched")[-4:]) / 4 > 0.85
    before = load_file(tmp_path / "start" / "model.safetensors")
    moved = {name.split(".")[0] for name, value in trained.items() if not torch.equal(value, before[name])}
    assert moved == {"vision_tower", "multi_modal_projector"}
