"""Rollouts: whole conversations sampled by medvlm, by a plain `generate` loop and by TRL's GRPOTrainer.

    python benchmarks/rollouts.py --prepare 200         # once: pictures, scripts and a tiny model that answers
    python benchmarks/rollouts.py                       # every way in a process of its own

The pictures are bone-marrow phantoms, the scripts those of the pathway `bone_marrow` (five questions each), the model
is `tiny` after a short fine-tuning, so that answers have their natural lengths. TRL's trainer has no scripted user
turns: it is compared on the first question alone, generation and whole optimiser steps (same prompts, group, lengths,
precision, loss, divergence from a reference).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

GROUP, LONGEST, TEMPERATURE, KL = 8, 32, 1.0, 0.02
PATHWAY = "bone_marrow"


def prepare(folder: Path, steps: int) -> None:
    """Pictures, scripts with one and with all questions, and a model that has learnt the answers for some steps."""
    import numpy as np
    from PIL import Image

    from medvlm.dialogue.conversation import Conversation, Turn, write_conversations
    from medvlm.pathways.cases import complete
    from medvlm.pathways.loader import load_pathway
    from medvlm.pathways.reward import Scorer
    from medvlm.pathways.simulate import Simulator
    from medvlm.phantom.marrow import CLASSES, draw_field
    from medvlm.training.cli import main as fit

    scorer = Scorer(load_pathway(PATHWAY))
    simulator, rows = Simulator(scorer), []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(400):
        kind = CLASSES[number % len(CLASSES)]
        known = {"cells": kind} if kind in ("blood", "clot") else {"diagnosis": kind}
        case = complete(scorer.checker, known)
        (row,) = simulator.conversations(1, number, "train", "standard", "none", [case])
        Image.fromarray(draw_field(kind, np.random.default_rng(number))).save(folder / f"{number}.png")
        made = Conversation.from_json(row)
        first, *rest = made.turns
        turns = (Turn("user", first.text, (f"{number}.png",)), *rest)
        rows.append(Conversation(f"c{number}", f"p{number}", "train", turns, "", (), made.symbols))
    full = [row for row in rows if len(row.symbols["asked"]) == max(len(one.symbols["asked"]) for one in rows)]
    write_conversations(folder / "train.jsonl", rows)
    write_conversations(folder / "scripts.jsonl", full)
    write_conversations(folder / "single.jsonl", [_first_question(row) for row in full])
    fit(
        [
            "fit",
            f"--data.train=[{folder / 'train.jsonl'}]",
            "--data.batch_tokens=2048",
            f"--trainer.default_root_dir={folder / 'fit'}",
            "--trainer.max_epochs=-1",
            f"--trainer.max_steps={steps}",
            "--model.optimizer=muon",
            "--model.learning_rate=3e-3",
            "--model.warmup=0",
        ]
    )


def _first_question(row: Any) -> Any:
    symbols = {name: value[:1] if name in ("asked", "questions") else value for name, value in row.symbols.items()}
    return replace(row, turns=row.turns[:2], symbols=symbols)


def _read(folder: Path, name: str, count: int) -> list[Any]:
    from medvlm.dialogue.conversation import read_conversations

    def rooted(row: Any) -> Any:
        turns = (replace(turn, images=tuple(str(folder / path) for path in turn.images)) for turn in row.turns)
        return replace(row, turns=tuple(turns))

    return [rooted(row) for row in read_conversations(folder / name)[:count]]


def _loaded(folder: Path) -> Any:
    from medvlm.models.load import load_model

    return load_model(folder / "fit" / "model", dtype="float32")


def ours(folder: Path, scripts: str, count: int, rounds: int, quick: bool = True) -> dict[str, float]:
    """Our rollouts; not quick: one batched `generate` a turn."""
    from medvlm.training.rollouts import Rollouts, Script

    asked = [Script.of(row) for row in _read(folder, scripts, count)]
    rollouts = Rollouts(_loaded(folder), max_new_tokens=LONGEST, temperature=TEMPERATURE, quick=quick)
    rollouts(asked[:2], 2)
    return _timed(lambda number: [len(row.wrote) for row in rollouts(asked, GROUP, number)], rounds)


def loop(folder: Path, scripts: str, count: int, rounds: int) -> dict[str, float]:
    """One `generate` a turn and conversation."""
    from medvlm.models.chat import ChatEncoder, collate
    from medvlm.training.rollouts import Rollouts, Script

    loaded = _loaded(folder)
    settings = Rollouts(loaded)
    encoder = ChatEncoder(loaded.processor, "", loaded.name)
    asked = [Script.of(row) for row in _read(folder, scripts, count)]
    suppressed = settings.forbidden.tolist()

    def talk(script: Script) -> int:
        said, written = script.opening(), 0
        for number in range(len(script.asked)):
            inputs = collate([encoder.encode(said, reply=True)], settings.pad, side="left")
            ids = loaded.model.generate(
                **inputs,
                max_new_tokens=LONGEST,
                do_sample=True,
                temperature=TEMPERATURE,
                top_k=0,
                suppress_tokens=suppressed,
                pad_token_id=settings.pad,
                eos_token_id=sorted(settings.stop_ids),
            )[0, inputs["input_ids"].shape[1] :]
            written += len(ids)
            following = script.asked[number + 1] if number + 1 < len(script.asked) else ()
            said = said.add(_assistant(encoder.decode(ids)), *following)
        return written

    talk(asked[0])
    return _timed(lambda _: [talk(script) for script in asked for _ in range(GROUP)], rounds)


def _assistant(text: str) -> Any:
    from medvlm.dialogue.conversation import Turn

    return Turn("assistant", text)


def _timed(roll: Callable[[int], list[int]], rounds: int) -> dict[str, float]:
    seconds, tokens, episodes = 0.0, 0, 0
    for number in range(rounds):
        begin = time.perf_counter()
        written = roll(number)
        seconds += time.perf_counter() - begin
        tokens, episodes = tokens + sum(written), episodes + len(written)
    return {"seconds": seconds, "tokens": tokens, "episodes": episodes}


class _Clock:
    """Wraps a method: seconds spent in it, without the first call."""

    def __init__(self, owner: Any, name: str) -> None:
        self.calls: list[float] = []
        self.inner = getattr(owner, name)
        setattr(owner, name, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        found = self.inner(*args, **kwargs)
        self.calls.append(time.perf_counter() - begin)
        return found


def our_steps(folder: Path, count: int, rounds: int) -> dict[str, float]:
    """Whole steps of `medvlm fit --objective policy` on the first question."""
    import lightning.pytorch as pl

    from medvlm.training.episodes import EpisodeData
    from medvlm.training.policy import Policy, PolicySettings
    from medvlm.training.rollouts import Rollouts

    settings = PolicySettings(group=GROUP, variant="dapo", kl=KL, temperature=TEMPERATURE)
    module = Policy(
        PATHWAY,
        settings,
        name=str(folder / "fit" / "model"),
        dtype="float32",
        max_new_tokens=LONGEST,
        learning_rate=1e-6,
    )
    counted: list[list[int]] = []

    class Counted(Rollouts):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            samples = super().__call__(*args, **kwargs)
            rolled.append(time.perf_counter() - begin)
            counted.append([len(row.wrote) for row in samples])
            return samples

    rolled: list[float] = []
    module._rollouts[TEMPERATURE] = Counted(module.loaded, max_new_tokens=LONGEST, temperature=TEMPERATURE)
    ends: list[float] = []

    class Ticks(pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            ends.append(time.perf_counter())

    data = EpisodeData(episodes=count, train=[folder / "single.jsonl"], limit=count)
    trainer = pl.Trainer(
        max_steps=rounds + 1, accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[Ticks()],
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1, default_root_dir=folder / "ours", gradient_clip_val=1.0,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    tokens = sum(sum(row) for row in counted[1:])
    return {
        "seconds": sum(rolled[1:]),
        "tokens": tokens,
        "episodes": rounds * count * GROUP,
        "step_seconds": (ends[-1] - ends[0]) / rounds,
    }


def trl_steps(folder: Path, count: int, rounds: int) -> dict[str, float]:
    """Whole steps of TRL's GRPOTrainer, and its generation alone."""
    import torch
    from datasets import Dataset
    from PIL import Image
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from medvlm.pathways.adapters import reward_function

    rows, loaded = _read(folder, "single.jsonl", count), _loaded(folder)
    data = Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": row.turns[0].text}],
                "symbols": json.dumps(dict(row.symbols)),
                "image": {"path": row.images[0]},
            }
            for row in rows
        ]
    ).map(lambda row: row)
    shown = {row.images[0]: Image.open(row.images[0]).convert("RGB") for row in rows}
    data = data.with_transform(lambda batch: batch | {"image": [shown[image["path"]] for image in batch["image"]]})
    settings = GRPOConfig(
        output_dir=str(folder / "trl"), use_cpu=True, bf16=False, per_device_train_batch_size=count * GROUP,
        num_generations=GROUP, max_completion_length=LONGEST, max_steps=rounds + 1, learning_rate=1e-6, beta=KL,
        temperature=TEMPERATURE, top_k=0, loss_type="dapo", gradient_checkpointing=False, save_strategy="no",
        report_to=[], logging_steps=1000, disable_tqdm=True, remove_unused_columns=False, max_grad_norm=1.0,
    )  # fmt: skip
    ends: list[float] = []

    class Ticks(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    trainer = GRPOTrainer(
        model=loaded.model,
        processing_class=loaded.processor,
        reward_funcs=reward_function(PATHWAY),
        args=settings,
        train_dataset=data,
        callbacks=[Ticks()],
    )
    generation = _Clock(trainer, "_generate")
    lengths: list[int] = []
    inner = generation.inner

    def counted(*args: Any, **kwargs: Any) -> Any:
        found = inner(*args, **kwargs)
        lengths.append(sum(len(ids) for ids in found[1]))
        return found

    generation.inner = counted
    torch.manual_seed(0)
    trainer.train()
    return {
        "seconds": sum(generation.calls[1:]),
        "tokens": sum(lengths[1:]),
        "episodes": rounds * count * GROUP,
        "step_seconds": (ends[-1] - ends[0]) / rounds,
    }


WAYS: dict[str, tuple[str, Callable[[Path, int, int], dict[str, float]]]] = {
    "medvlm": ("five questions", lambda folder, count, rounds: ours(folder, "scripts.jsonl", count, rounds)),
    "generate, batched by turn": (
        "five questions",
        lambda folder, count, rounds: ours(folder, "scripts.jsonl", count, 1, quick=False),
    ),
    "generate, one by one": (
        "five questions",
        lambda folder, count, rounds: loop(folder, "scripts.jsonl", count // 4, 1),
    ),
    "medvlm policy": ("one question", our_steps),
    "TRL GRPOTrainer": ("one question", trl_steps),
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/rollouts"))
    parser.add_argument("--prepare", type=int, help="steps of fine-tuning of the model that is measured")
    parser.add_argument("--scripts", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", help="run one way in this process (number)", type=int)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/rollouts.json"))
    given = parser.parse_args(argv)
    folder = given.folder.resolve()
    if given.prepare:
        prepare(folder, given.prepare)
        return
    if given.way is not None:
        measured = list(WAYS.values())[given.way][1](folder, given.scripts, given.rounds)
        print("\n" + json.dumps(measured))
        return
    rows = []
    for number, (name, (asked, _)) in enumerate(WAYS.items()):
        command = [sys.executable, __file__, "--folder", str(folder), "--way", str(number)]
        command += ["--scripts", str(given.scripts), "--rounds", str(given.rounds)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
        measured = json.loads(done.stdout.strip().splitlines()[-1])
        row = {
            "way": name,
            "asked": asked,
            "answer_tokens_a_second": round(measured["tokens"] / measured["seconds"], 1),
            "episodes_a_second": round(measured["episodes"] / measured["seconds"], 2),
            "tokens_an_episode": round(measured["tokens"] / measured["episodes"], 1),
        }
        if "step_seconds" in measured:
            row["seconds_a_step"] = round(measured["step_seconds"], 3)
        rows.append(row)
        print(row, flush=True)
    report = {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "versions": {name: version(name) for name in ("torch", "transformers", "trl")},
        "group": GROUP,
        "scripts": given.scripts,
        "longest_answer": LONGEST,
        "rows": rows,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
