"""The training half of `medvlm quickstart --model small`: tower, assembly, projector alignment, fourth-stage LoRA.

Each step leaves a folder and is skipped when that is there; an interrupted training goes on from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from medvlm.commands.quickstart import step, train_model

if TYPE_CHECKING:
    from rich.console import Console

# Conversations of each kind a study gives. A pretrained language half needs fewer than one from random weights.
ALIGN: Mapping[str, int] = {"plain": 4}
STAGE4: Mapping[str, int] = {"expert": 6, "plain": 3, "practice": 3}


def train_small(console: Console, out: Path, seed: int) -> None:
    """From the quickstart's conversations to a fine-tuned small model in `out/fit/model`."""
    data = out / "conversations"
    train_model(console, "tower", out / "tower", "quickstart.yaml", data / "train.jsonl", None, seed)
    assemble(console, out / "tower" / "model", out / "start")
    align = choose(data / "train.jsonl", data / "align.jsonl", ALIGN)
    train_model(console, "alignment", out / "align", "small_align.yaml", align, None, seed, out / "start")
    few = choose(data / "train.jsonl", data / "stage4.jsonl", STAGE4)
    train_model(console, "stage 4", out / "fit", "small.yaml", few, None, seed, out / "align" / "model")


def assemble(console: Console, tower: Path, out: Path) -> None:
    """The pretrained language half, the trained tower and a fresh projector in one folder."""
    from medvlm.models.load import LoadedModel
    from medvlm.models.small import build_small_model, build_small_processor, read_small_config

    if (out / "config.json").is_file():
        return
    with step(console, "assembly") as said:
        config = read_small_config()
        processor = build_small_processor(config)
        model = build_small_model(config, processor, tower)
        LoadedModel(model, processor, "small").save(out)
        said.append(f"{model.num_parameters() / 1e6:.0f} M parameters: SmolLM2, the tower of {tower}, a new projector")


def choose(source: Path, target: Path, counts: Mapping[str, int]) -> Path:
    """Write the first so many conversations of each kind of every study to a file of their own, and name it."""
    from medvlm.dialogue.conversation import read_conversations, write_conversations

    if not target.is_file():
        taken: dict[tuple[str, str], int] = {}
        kept = []
        for row in read_conversations(source):
            kind = str(row.symbols.get("kind", ""))
            # Practice conversations belong to no patient; their ids begin with the study they were made for.
            study = row.id.split(f"-{kind}-")[0]
            taken[study, kind] = taken.get((study, kind), 0) + 1
            if taken[study, kind] <= counts.get(kind, 0):
                kept.append(row)
        write_conversations(target, kept)
    return target
