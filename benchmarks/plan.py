"""What `medvlm plan` says against what a run takes: memory and seconds a batch, three configs on this machine.

    python benchmarks/plan.py --conversations runs/quickstart/conversations --small runs/small/start --out plan.json

Each config is planned, then really trained for a few steps in a process of its own whose peak memory and seconds a
step are measured. The first steps, in which kernels and memory are prepared, do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SHARED = ["--trainer.max_epochs=1", "--model.paths.features=never"]
RUN = """
import resource, sys, time, json
from medvlm.training.callbacks import Announce
from medvlm.training.finetune import FineTune
times, tokens = [], []
step = FineTune.loss
def timed(self, batch):
    times.append(time.perf_counter())
    tokens.append(int(batch["input_ids"].numel()))
    return step(self, batch)
FineTune.loss = timed
from medvlm.training.cli import main
main(sys.argv[2:])
seconds = [b - a for a, b in zip(times, times[1:])]
kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
open(sys.argv[1], "w").write(json.dumps({"seconds": seconds, "tokens": tokens, "peak": kib * 1024}))
"""


def configs(conversations: Path, small: Path) -> dict[str, list[str]]:
    """Name -> options of `medvlm fit`."""
    data = [f"--data.train=[{conversations / 'train.jsonl'}]", "--data.validation=null", "--data.drill=0"]
    base = ["--config", "configs/quickstart.yaml", *data]
    lora = ["--config", "configs/small.yaml", *data, f"--model.name={small}", "--data.limit=400"]
    return {
        "tiny, full": [*base, "--data.batch_tokens=4096"],
        "small, LoRA, 1024 tokens": [*lora, "--data.batch_tokens=1024"],
        "small, language in full, 2048 tokens": [
            *lora,
            "--data.batch_tokens=2048",
            "--model.tuning.language=full",
            "--model.tuning.projector=freeze",
        ],
    }


def planned(options: list[str]) -> dict[str, Any]:
    """Bytes and seconds a batch that the planner says."""
    from medvlm.commands.plan import EXAMPLE, add_options, make_plan
    from medvlm.commands.run_settings import SettingsCLI, parse_run

    plan = make_plan(parse_run(SettingsCLI, "medvlm plan", EXAMPLE, options, add_options).config)
    tokens = plan.work.rows * plan.work.length
    return {"bytes": plan.bytes, "seconds": plan.seconds, "tokens": tokens}


def measured(options: list[str], steps: int) -> dict[str, Any]:
    """Peak bytes and seconds a token of a real run."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "measured.json"
        fit = ["fit", *options, f"--trainer.max_steps={steps}", f"--trainer.default_root_dir={folder}/run"]
        fit += ["--samples.count=0"]
        subprocess.run([sys.executable, "-c", RUN, str(out), *fit], check=True, stdout=subprocess.DEVNULL)
        found = json.loads(out.read_text())
    # Steps after those of the self-tests and the first of the run.
    rates = [s / t for s, t in zip(found["seconds"], found["tokens"])][-(steps - 3) :]
    return {"bytes": found["peak"], "seconds a token": statistics.median(rates)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--conversations", type=Path, required=True)
    parser.add_argument("--small", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/plan.json"))
    arguments = parser.parse_args()
    rows = []
    for name, options in configs(arguments.conversations, arguments.small).items():
        said = subprocess.run(
            [sys.executable, __file__, "--planned", json.dumps([*options, *SHARED])],
            check=True,
            capture_output=True,
            text=True,
        )
        plan = json.loads(said.stdout.splitlines()[-1])
        took = measured([*options, *SHARED], arguments.steps)
        seconds = took["seconds a token"] * plan["tokens"]
        rows.append(
            {
                "config": name,
                "planned GiB": round(plan["bytes"] / 2**30, 3),
                "measured GiB": round(took["bytes"] / 2**30, 3),
                "memory error": round(plan["bytes"] / took["bytes"] - 1, 3),
                "planned s": round(plan["seconds"], 3),
                "measured s": round(seconds, 3),
                "time error": round(plan["seconds"] / seconds - 1, 3),
            }
        )
        print(rows[-1], flush=True)
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    arguments.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--planned"]:
        print(json.dumps(planned(json.loads(sys.argv[2]))))
    else:
        main()
