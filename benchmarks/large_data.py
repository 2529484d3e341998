"""Training on a million conversations: seconds to the first step, and memory while it goes on.

    python benchmarks/large_data.py --rows 1000000 --steps 400 --out benchmarks/results/large_data.json

The conversations are written once (about 600 MB), then `medvlm fit` runs as a user starts it, in a process of its own:
the first time it makes its index, the second time it finds it. Memory is the process' resident set, read after every
step; the start is the set after the fifth step, when all kernels have been used once.
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

STEADY = 5
RUN = """
import sys, time
began = time.time()
from pathlib import Path
from medvlm.training.callbacks import Announce
def resident():
    return int(next(l.split()[1] for l in open("/proc/self/status") if l.startswith("VmRSS"))) / 1024
seen = []
plain = Announce.on_train_batch_end if "on_train_batch_end" in vars(Announce) else None
def after(self, trainer, module, outputs, batch, batch_index):
    seen.append((time.time() - began, resident(), int(batch["input_ids"].numel())))
    if plain:
        plain(self, trainer, module, outputs, batch, batch_index)
Announce.on_train_batch_end = after
from medvlm.training.cli import main
main(sys.argv[2:])
import json
Path(sys.argv[1]).write_text(json.dumps(seen))
"""


def write_data(path: Path, rows: int) -> None:
    """Report-like conversations of two turns, without pictures."""
    random = np.random.default_rng(0)
    sites = ["right upper lobe", "left lower lobe", "lingula", "right middle lobe", "left upper lobe"]
    drawn = random.integers(0, 5, size=(rows, 2)), random.integers(3, 30, size=(rows, 2))
    with path.open("w") as file:
        for index in range(rows):
            turns = []
            for site, size in zip(drawn[0][index], drawn[1][index], strict=True):
                asked = f"The expert reports a nodule of {size} mm in the {sites[site]}. Where is it?"
                answer = f"There is a nodule of {size} mm in the {sites[site]}."
                turns.append({"role": "user", "content": [{"type": "text", "text": asked}]})
                turns.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
            row = {"id": f"{index}", "patient": f"{index}", "split": "train", "task": "", "messages": turns}
            file.write(json.dumps(row | {"images": [], "findings": [], "symbols": {}}) + "\n")


def run(folder: Path, data: Path, steps: int, name: str) -> dict[str, Any]:
    """One `medvlm fit`; seconds to the first step and memory."""
    out = folder / f"{name}.json"
    options = ["fit", f"--data.train=[{data}]", f"--trainer.max_steps={steps}"]
    options += [
        f"--trainer.default_root_dir={folder / name.replace(' ', '_')}",
        "--data.batch_tokens=1024",
        "--samples.count=0",
    ]
    options += ["--trainer.precision=bf16-true", "--trainer.enable_progress_bar=false"]
    began = time.time()
    subprocess.run([sys.executable, "-c", RUN, str(out), *options], check=True, stdout=subprocess.DEVNULL)
    seen = json.loads(out.read_text())
    memory = [resident for _, resident, _ in seen]
    start = memory[STEADY - 1]
    highest, last = max(memory[STEADY:]) - start, memory[-1] - start
    print(f"{name:<14}{seen[0][0]:>14.1f}{start:>12.0f}{highest:>12.0f}{last:>12.0f}")
    return {
        "seconds_to_first_step": seen[0][0],
        "start_mb": start,
        "highest_above_start_mb": highest,
        "last_above_start_mb": last,
        "steps": len(seen),
        "seconds": time.time() - began,
    }


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--folder", type=Path, help="where the data is kept; a temporary one by default")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        data = folder / "train.jsonl"
        if not data.is_file():
            write_data(data, arguments.rows)
        print(f"{'':<14}{'first step, s':>14}{'start, MB':>12}{'highest +':>12}{'last +':>12}")
        found = {name: run(folder, data, arguments.steps, name) for name in ("with indexing", "indexed")}
        found["megabytes"] = data.stat().st_size / 2**20
    if arguments.out:
        machine = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(machine | {"rows": arguments.rows} | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
