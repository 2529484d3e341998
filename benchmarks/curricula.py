"""Run the shipped curricula at their default size, once left alone and once killed twice, and compare every test.

    medvlm data prepare wbc --root segmentation_WBC --out runs/wbc/cohort     # blood_smear's cells
    OMP_NUM_THREADS=1 python benchmarks/curricula.py --out benchmarks/results/curricula.json

The two runs of a curriculum go side by side, a processor core each. SIGKILL comes in the last fine-tuning stage and in
the last stage, after the first checkpoint or twenty seconds of learning; then the same command is called again.
Minutes are those of the run that was left alone, pictures and tests included.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from experiment import machine

from medvlm.curricula import load_curriculum
from medvlm.storage import read_json, write_json

NAMES = ("bone_marrow", "retina_amd", "chest_ct", "blood_smear")
SECONDS = 20.0
COMMAND = [sys.executable, "-c", "import sys; from medvlm.cli import main; main(sys.argv[1:])", "curriculum", "run"]


def main() -> None:
    """Every curriculum that is asked for; those with a result are kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", default=list(NAMES))
    parser.add_argument("--runs", type=Path, default=Path("runs/curricula"))
    parser.add_argument("--cohort", default="runs/wbc/cohort", help="of blood_smear")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/curricula.json"))
    given = parser.parse_args()
    results: dict[str, Any] = read_json(given.out) if given.out.is_file() else {}
    for name in given.names:
        extra = [f"--cohort={given.cohort}"] if name == "blood_smear" else []
        results[name] = compare(name, given.runs, extra)
        write_json(given.out, results | {"machine": machine()})
        row = results[name]
        print(f"{name:<12} {row['minutes']:5.1f} minutes; killed in {', '.join(row['killed_in'])}; {row['verdict']}")


def compare(name: str, runs: Path, extra: list[str]) -> dict[str, Any]:
    """Both runs of one curriculum."""
    stages = load_curriculum(name).stages
    tuned = [f"{number:02d}-{stage.id}" for number, stage in enumerate(stages, 1) if stage.objective == "finetune"]
    kills = (tuned[-1], f"{len(stages):02d}-{stages[-1].id}")
    begin = time.monotonic()
    whole = start(name, runs / name, extra)
    stopped = start(name, runs / f"{name}-killed", extra)
    for stage in kills:
        fall(stopped, runs / f"{name}-killed" / stage)
        stopped = start(name, runs / f"{name}-killed", extra)
    if whole.wait():
        raise SystemExit(f"{name}: the run that was left alone failed; see {runs / name}.log")
    minutes = (time.monotonic() - begin) / 60
    if stopped.wait():
        raise SystemExit(f"{name}: the run that was killed did not end; see {runs / name}-killed.log")
    one, other = (tests(runs / folder) for folder in (name, f"{name}-killed"))
    different = [
        f"{stage}/{skill}/{measure}"
        for stage, skills in one.items()
        for skill, measures in skills.items()
        for measure, value in measures.items()
        if other[stage][skill][measure] != value
    ]
    compared = sum(len(measures) for skills in one.values() for measures in skills.values())
    verdict = f"{len(different)} of {compared} measures of the tests differ"
    return {"minutes": round(minutes, 1), "killed_in": kills, "different": different, "verdict": verdict, "tests": one}


def start(name: str, out: Path, extra: list[str]) -> subprocess.Popen[bytes]:
    """The command, in a process group of its own."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{out}.log").open("ab") as log:
        return subprocess.Popen(
            [*COMMAND, name, f"--out={out}", "--workers=1", *extra], stdout=log, stderr=log, start_new_session=True
        )


def fall(process: subprocess.Popen[bytes], stage: Path) -> None:
    """Kill the run in this stage.

    Raises:
        SystemExit: the run ended, or the stage was over, before.
    """
    learnt: float | None = None
    while not (stage / "fit" / "checkpoints" / "last.ckpt").is_file():
        if process.poll() is not None:
            raise SystemExit(f"{stage.parent}: the run ended before it was killed in {stage.name}.")
        if learnt is None and (stage / "fit" / "config.yaml").is_file():
            learnt = time.monotonic()
        if learnt is not None and time.monotonic() - learnt > SECONDS:
            break
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if (stage / "stage.json").is_file():
        raise SystemExit(f"{stage}: was over before the run was killed.")


def tests(run: Path) -> dict[str, Any]:
    """Stage → skill → measures."""
    return {row["id"]: row["tests"] for row in read_json(run / "card.json")["stages"]}


if __name__ == "__main__":
    main()
