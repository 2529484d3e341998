"""Kill a training run again and again, let it resume, and compare it with one that was left alone, bit by bit.

    python benchmarks/resume.py --kills 20 --out benchmarks/results/resume.json

The tiny model (float32, one thread) trains on synthetic conversations with pictures and writes a checkpoint every few
steps. SIGKILL comes at random moments: before the first step, within one, while a checkpoint is written. Every
loss of every attempt is compared with the loss of the same step in the uninterrupted run, then the last weights.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback

EPOCHS, CONVERSATIONS, EVERY = 8, 96, 2


class Recorder(Callback):
    """Append every step's number and loss, exactly, to `losses.txt` in the run's folder."""

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss = float(trainer.callback_metrics["train/loss"]).hex()
        with (Path(trainer.default_root_dir) / "losses.txt").open("a") as file:
            file.write(f"{trainer.global_step} {loss}\n")


def write_data(folder: Path) -> None:
    """Conversations of unequal length, half of them about a picture."""
    import numpy as np
    from PIL import Image

    from medvlm.dialogue.conversation import Conversation, Turn, write_conversations

    draw = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(draw.integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    rows = []
    for number in range(CONVERSATIONS):
        words = " ".join(str(value) for value in draw.integers(1, 99, draw.integers(2, 30)))
        shown = (f"{number % 4}.png",) if number % 2 else ()
        turns = (Turn("user", f"Repeat: {words}", shown), Turn("assistant", words))
        rows.append(Conversation(f"c{number}", f"p{number}", "train", turns))
    write_conversations(folder / "train.jsonl", rows)


def fit(data: Path, out: Path, options: list[str]) -> int:
    """Run `medvlm fit` in a child process and return its process id."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    sys.stdout = sys.stderr = (out.parent / "log.txt").open("a")
    from medvlm.training.cli import main

    checkpoint = out / "checkpoints" / "last.ckpt"
    resume = [f"--ckpt_path={checkpoint}"] if checkpoint.is_file() else []
    given = ["fit", f"--data.train={data / 'train.jsonl'}", f"--trainer.default_root_dir={out}"]
    given += ["--trainer.callbacks=resume.Recorder", f"--trainer.max_epochs={EPOCHS}", "--trainer.accelerator=cpu"]
    given += ["--trainer.enable_progress_bar=false", "--data.batch_tokens=600", "--trainer.logger=false"]
    given += [f"--checkpoint.every_n_train_steps={EVERY}"]
    try:
        main([*given, *options, *resume])
    except BaseException as error:
        print(repr(error), flush=True)
        os._exit(1)
    os._exit(0)


def losses(out: Path) -> list[tuple[int, str]]:
    """Step and loss of every line that was written whole."""
    path = out / "losses.txt"
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []
    return [(int(line.split()[0]), line.split()[1]) for line in lines]


def ended(child: int, out: Path, lines: float, delay: float) -> int | None:
    """The exit code of a child, or None once it has written so many losses and gone on for `delay` seconds."""
    until = None
    while until is None or time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if until is None and len(losses(out)) >= lines:
            until = time.monotonic() + delay
        time.sleep(0.005)
    return None


def run(folder: Path, kills: int, seed: int, options: list[str]) -> dict[str, Any]:
    """Compare a run that is killed `kills` times with one that is not."""
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    data = folder / "data"
    data.mkdir()
    write_data(data)
    whole, part = folder / "whole", folder / "part"
    code = ended(fit(data, whole, options), whole, float("inf"), 0.0)
    if code != 0:
        raise SystemExit(f"the uninterrupted run failed: {(folder / 'log.txt').read_text()[-2000:]}")
    expected = dict(losses(whole))
    choose = random.Random(seed)
    killed, steps = 0, []
    while True:
        child = fit(data, part, options)
        # After none to twice as many steps as leave some for the kills to come, and a part of a second.
        left = max(expected) - max((step for step, _ in losses(part)), default=0)
        steps_more = choose.randint(0, max(1, 2 * left // (kills - killed + 1))) if killed < kills else float("inf")
        delay = choose.uniform(0.0, 0.3)
        code = ended(child, part, len(losses(part)) + steps_more, delay)
        if code is None:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            killed += 1
            steps.append(losses(part)[-1][0] if losses(part) else 0)
            print(f"kill {killed} after step {steps[-1]} of {max(expected)}", flush=True)
        elif code:
            raise SystemExit(f"a resumed run failed: {(folder / 'log.txt').read_text()[-2000:]}")
        else:
            break
    seen = losses(part)
    names = load_file(next((whole / "model").glob("*.safetensors")))
    other = load_file(next((part / "model").glob("*.safetensors")))
    return {
        "kills": killed,
        "steps": len(expected),
        "losses_compared": len(seen),
        "losses_different": sum(expected[step] != loss for step, loss in seen),
        "steps_missing": len(set(expected) - {step for step, _ in seen}),
        "weights_different": sum(not torch.equal(value, other[name]) for name, value in names.items()),
        "killed_after_step": steps,
    }


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("options", nargs="*", help="further options of medvlm fit")
    arguments = parser.parse_args()
    import medvlm.training.cli  # noqa: F401 - children find it imported

    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder), arguments.kills, arguments.seed, arguments.options)
    print(json.dumps(result, indent=1))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    if result["losses_different"] or result["weights_different"] or result["steps_missing"]:
        raise SystemExit("not the same run")


if __name__ == "__main__":
    main()
