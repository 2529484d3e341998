"""Fine-tuning speed and memory, beside TRL's SFTTrainer and transformers' Trainer, in one run on one machine.

    pip install trl
    python benchmarks/finetune.py --out benchmarks/results/finetune.json

The same tiny VLM (the same first weights), the same synthetic conversations, the same number of conversations a step,
the same precision (bf16 computing, float32 master weights) and optimiser for all. Peers run as their documentation
says for VLMs (loss on the assistant's words, no truncation) in the variants of `PEERS`; the best of them counts, for
each figure by itself. Time and memory are those of the first seed; the further seeds are for the loss. Each
measurement is a process of its own. Time is that of the whole training, tokenising and the feature cache of medvlm
included. Memory is the peak of the process above what it held after its imports. The loss is that of the final weights
on held-out conversations, computed by one function for all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from finetune_engines import BATCH, TRAIN, Clock, Row, with_medvlm, with_trainer, with_trl

VALIDATION, IMAGES = 64, 64

# Pieces save memory only where logits are what takes it; recomputing saves nothing there.
SHORT = ("trl", "trl, no checkpointing", "trainer")
LARGE = ("trl", "trl, two pieces", "trainer", "trainer, two pieces")
ROWS = {
    "frozen tower": Row({"vision": "freeze"}, SHORT),
    "nothing frozen": Row({}, SHORT),
    "150,000 tokens": Row({"vision": "freeze", "language": "lora"}, LARGE, 150_000, epochs=1, limit=96, seeds=False),
    "150,000 tokens, full": Row({"vision": "freeze"}, LARGE, 150_000, epochs=1, limit=96, seeds=False),
}
# Peer variants: TRL's own defaults (gradient checkpointing on), then the quicker choices of both.
PEERS: dict[str, dict[str, Any]] = {
    "trl": {},
    "trl, no checkpointing": {"gradient_checkpointing": False},
    "trl, two pieces": {"per_device_train_batch_size": BATCH // 2, "gradient_accumulation_steps": 2},
    "trainer": {},
    "trainer, two pieces": {"per_device_train_batch_size": BATCH // 2, "gradient_accumulation_steps": 2},
}


def write_data(folder: Path) -> None:
    """Report-like conversations (log-normal lengths) about pictures of 512 x 512 pixels; the same every time."""
    from PIL import Image
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(0)
    for number in range(IMAGES):
        blobs = gaussian_filter(random.normal(size=(512, 512)), 12)
        grey = np.uint8(255 * (blobs - blobs.min()) / np.ptp(blobs))
        Image.fromarray(grey).convert("RGB").save(folder / f"{number}.png")
    sites = ["right upper lobe", "left lower lobe", "lingula", "right middle lobe", "left upper lobe"]
    kinds = ["solid", "part-solid", "ground-glass", "calcified"]
    for split, count in (("train", TRAIN), ("validation", VALIDATION)):
        rows = []
        for index in range(count):
            messages = []
            for turn in range(int(random.integers(1, 4))):
                lines = int(np.clip(random.lognormal(0.4, 0.7), 1, 8))
                found = [
                    f"{random.choice(kinds)} nodule of {random.integers(3, 30)} mm in the {random.choice(sites)}"
                    for _ in range(lines)
                ]
                asked = [{"type": "text", "text": "The expert reports: " + "; ".join(found) + ". What is the finding?"}]
                messages.append({"role": "user", "content": ([{"type": "image"}] if not turn else []) + asked})
                answer = "There is a " + ", and a ".join(found[: max(1, lines // 2)]) + "."
                messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
            name = f"{split}-{index}"
            row = {"id": name, "patient": name, "split": split, "task": "", "messages": messages}
            rows.append(json.dumps(row | {"images": [f"{index % IMAGES}.png"], "findings": [], "symbols": {}}))
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n")


def write_start(folder: Path, data: Path, vocabulary: int | None, seed: int) -> None:
    """The model that every engine starts from."""
    from dataclasses import replace

    from medvlm.dialogue.conversation import read_conversations
    from medvlm.models.load import LoadedModel
    from medvlm.models.tiny import build_tiny_model, build_tiny_processor, read_tiny_config

    config = replace(read_tiny_config(), seed=seed)
    texts = [turn.text for row in read_conversations(data / "train.jsonl") for turn in row.turns]
    processor = build_tiny_processor(config, texts)
    model = build_tiny_model(config, processor)
    if vocabulary:
        model.resize_token_embeddings(vocabulary, mean_resizing=False)
    LoadedModel(model, processor, "start").save(folder)


def memory(key: str) -> float:
    """`VmRSS` or `VmHWM` of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def held_out_loss(model: Any, start: Path, data: Path) -> float:
    """Mean loss of the learnt tokens of the validation conversations, in float32."""
    import torch
    from transformers import AutoProcessor

    from medvlm.dialogue.conversation import read_conversations
    from medvlm.models.chat import ChatEncoder
    from medvlm.training.collate import TrainingCollator, tokenise
    from medvlm.training.loss import supervised_loss

    processor = AutoProcessor.from_pretrained(start)
    rows = tokenise(read_conversations(data / "validation.jsonl"), ChatEncoder(processor, data), 4096).rows
    collator = TrainingCollator(processor.tokenizer.pad_token_id)
    model = model.float().eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for first in range(0, len(rows), 8):
            loss, tokens = supervised_loss(model, collator(rows[first : first + 8]))
            total, count = total + float(loss), count + int(tokens)
    return total / count


ENGINES = {"medvlm": with_medvlm, "trl": with_trl, "trainer": with_trainer}


def work(arguments: argparse.Namespace) -> None:
    """One measurement: train, print one JSON line."""
    import torch

    if arguments.engine.startswith("medvlm"):
        import medvlm.training.finetune  # noqa: F401
    elif arguments.engine.startswith("trl"):
        import trl  # noqa: F401
        from trl import SFTTrainer  # noqa: F401
    import transformers

    transformers.AutoModelForImageTextToText, transformers.Trainer  # noqa: B018 - lazy imports happen here
    row, start, data = ROWS[arguments.row], Path(arguments.start), Path(arguments.data)
    clock = Clock()
    torch.manual_seed(arguments.seed)
    before = memory("VmRSS")
    began = time.perf_counter()
    engine = ENGINES[arguments.engine.partition(",")[0]]
    model = engine(start, data, row, json.loads(arguments.options), arguments.seed, arguments.epochs, clock)
    seconds = time.perf_counter() - began
    peak = memory("VmHWM")
    skip = min(4, len(clock.steps) // 3)
    steady = (clock.steps[-1] - clock.steps[skip]) / (len(clock.steps) - 1 - skip)
    measured = {"seconds": seconds, "step": steady, "steps": len(clock.steps), "imports": before, "peak": peak}
    measured["loss"] = held_out_loss(model, start, data)
    Path(arguments.result).write_text(json.dumps(measured))


def measure(engine: str, options: dict[str, Any], row: str, seed: int, folder: Path) -> dict[str, float]:
    """One measurement in a process of its own; the result of an interrupted run is kept."""
    name = f"{engine}-{row}-{seed}".replace(",", "").replace(" ", "_")
    result = folder / f"{name}.json"
    start = folder / f"start-{ROWS[row].vocabulary or 'stock'}-{seed}"
    if not start.is_dir():
        write_start(start, folder, ROWS[row].vocabulary, seed)
    if not result.is_file():
        given = {"engine": engine, "row": row, "start": start, "data": folder, "options": json.dumps(options)}
        given |= {"result": result, "seed": seed, "epochs": ROWS[row].epochs}
        command = [sys.executable, __file__, "--work", *(f"--{key}={value}" for key, value in given.items())]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(result.read_text())
    return found


def machine_rate() -> float:
    """bf16 GFLOP/s of this machine: products of 2048 x 2048 matrices."""
    import torch

    one, other = (torch.randn(2048, 2048, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        one @ other
    began = time.perf_counter()
    for _ in range(20):
        one @ other
    return 20 * 2 * 2048**3 / (time.perf_counter() - began) / 1e9


def counted(folder: Path, row: Row) -> tuple[int, int]:
    """Tokens and learnt tokens of one epoch."""
    from medvlm.dialogue.conversation import read_conversations
    from medvlm.models.chat import ChatEncoder
    from medvlm.models.load import load_model
    from medvlm.training.collate import tokenise

    loaded = load_model(next(folder.glob("start-stock-*")))
    rows = tokenise(
        read_conversations(folder / "train.jsonl")[: row.limit], ChatEncoder(loaded.processor, folder), 9999
    )
    return sum(rows.lengths), rows.supervised_tokens


def report(folder: Path, rows: list[str], seeds: list[int]) -> dict[str, Any]:
    """Measure all rows and print the table."""
    rate = machine_rate()
    results: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    results |= {"bf16_gflops": round(rate), "rows": {}}
    for name in rows:  # what is timed comes first: the other seeds only show the losses
        for engine in ("medvlm", *ROWS[name].peers):
            measure(engine, PEERS.get(engine, {}), name, seeds[0], folder)
    for name in rows:
        row = ROWS[name]
        found = {
            engine: [
                measure(engine, PEERS.get(engine, {}), name, seed, folder)
                for seed in (seeds if row.seeds and "," not in engine else seeds[:1])
            ]
            for engine in ("medvlm", *row.peers)
        }
        tokens, learnt = counted(folder, row)
        # 6 FLOPs a weight and token (2 forward, 4 backward); the tower, where it is frozen and cached, costs nothing.
        language = 1.9e6
        print(f"\n{name}: {learnt} learnt of {tokens} tokens an epoch, {row.epochs} epochs")
        print(f"{'':<24}{'tokens/s':>10}{'steady':>10}{'peak MB':>9}{'loss (seeds)':>24}")
        lines = {}
        for engine, runs in found.items():
            first = runs[0]
            lines[engine] = {
                "tokens_per_second": learnt * row.epochs / first["seconds"],
                "steady": learnt * row.epochs / first["steps"] / first["step"],
                "memory": first["peak"] - first["imports"],
                "peak": first["peak"],
                "losses": [run["loss"] for run in runs],
            }
            line = lines[engine]
            shown = " ".join(f"{loss:.3f}" for loss in line["losses"])
            figures = f"{line['tokens_per_second']:>10.0f}{line['steady']:>10.0f}{line['memory']:>9.0f}"
            print(f"{engine:<24}{figures}{shown:>24}")
        ours, others = lines["medvlm"], [line for engine, line in lines.items() if engine != "medvlm"]
        ratios = {
            "speed": ours["tokens_per_second"] / max(line["tokens_per_second"] for line in others),
            "steady": ours["steady"] / max(line["steady"] for line in others),
            "memory": ours["memory"] / min(line["memory"] for line in others),
            "utilisation": 6 * language * tokens * ours["steady"] / learnt / rate / 1e9,
        }
        print("  ".join(f"{key} {value:.2f}" for key, value in ratios.items()))
        results["rows"][name] = {"engines": lines, "ratios": ratios}
    return results


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--folder", type=Path, help="where runs are kept, to go on from; a temporary one by default")
    parser.add_argument("--rows", nargs="+", default=list(ROWS)[:3], choices=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    for name in ("engine", "row", "start", "data", "options", "result"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    for name in ("seed", "epochs"):
        parser.add_argument(f"--{name}", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "validation.jsonl").is_file():
            write_data(folder)
        results = report(folder, arguments.rows, arguments.seeds)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
