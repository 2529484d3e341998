"""Time and memory of a large study: 20 readers x 500 cases x 3 sources, exported, filled by simulation, analysed.

python benchmarks/reader_study_large.py --out benchmarks/reader_study_large.json
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from medvlm.reader_study.allocate import make_plan
from medvlm.reader_study.analyze import Options, analyze_collected
from medvlm.reader_study.collect import collect
from medvlm.reader_study.export import export_study
from medvlm.reader_study.seal import open_key
from medvlm.reader_study.simulate import Behaviour, simulate_answers
from medvlm.reader_study.spec import load_study_spec

PASSPHRASE = "a passphrase for the benchmark"


def write_study(folder: Path, readers: int, cases: int, sources: int, side: int) -> Path:
    """A study with smooth noise as images and three reports of about 60 words a case."""
    (folder / "img").mkdir(parents=True)
    rng = np.random.default_rng(0)
    words = ["nodule", "lobe", "right", "left", "effusion", "mild", "severe", "heart", "lung", "clear", "basal", "no"]
    rows = []
    for number in range(cases):
        small = Image.fromarray(rng.integers(0, 255, (32, 32), dtype=np.uint8))
        small.resize((side, side), Image.Resampling.BICUBIC).save(folder / "img" / f"{number}.png")
        rows.append({"id": f"case{number:05d}", "patient": f"patient{number:05d}", "stratum": "ab"[number % 2],
                     "truth": number % 2, "image": f"img/{number}.png"})  # fmt: skip
    tables = {"cases": rows}
    for source in range(sources):
        tables[f"reports{source}"] = [
            {"case": row["id"], "text": "FINDINGS:\n" + " ".join(
                f"{' '.join(rng.choice(words, 7))}." for _ in range(8)) + "\nIMPRESSION:\nNodule."}
            for row in rows
        ]  # fmt: skip
    for name, table in tables.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, table[0].keys())
            writer.writeheader()
            writer.writerows(table)
    listed = "\n".join(f"  - {{id: source{k}, kind: ai, reports: reports{k}.csv}}" for k in range(sources))
    (folder / "study.yaml").write_text(
        f"name: large\nreaders: {{readers: {readers}}}\nsources:\n{listed}\ncases: cases.csv\nform: retinavlm\n"
        "endpoint: {question: correctness, margin: 0.3, reference: source0}\nsessions: {max_items: 100}\n"
    )
    return folder / "study.yaml"


def main() -> None:
    """Run the parts one after the other and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--readers", type=int, default=20)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--sources", type=int, default=3)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/reader_study_large.json"))
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="medvlm-large-"))
    times: dict[str, float] = {}

    def lap(name: str, start: float) -> None:
        times[name] = round(time.time() - start, 1)
        print(f"{name:<12}{times[name]:>8.1f} s", flush=True)

    try:
        spec = load_study_spec(
            write_study(root / "study", options.readers, options.cases, options.sources, options.side)
        )
        start = time.time()
        plan = make_plan(spec)
        lap("design", start)
        start = time.time()
        done = export_study(spec, plan, root / "out", PASSPHRASE)
        lap("export", start)
        key = open_key(root / "out/coordinator/key.sealed", PASSPHRASE)
        start = time.time()
        answers = simulate_answers(root / "out", key, root / "answers", Behaviour(effects={"source1": 0.1}))
        lap("simulate", start)
        start = time.time()
        result = collect(root / "out", answers, root / "collected")
        lap("collect", start)
        (root / "phrase").write_text(PASSPHRASE)
        start = time.time()
        analyze_collected(root / "collected", root / "out/coordinator/key.sealed", root / "phrase", root / "results",
                          Options())  # fmt: skip
        lap("analyze", start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"peak memory {peak:>8.0f} MB   {done.items} items, {done.files} files, {len(result.rows)} answers")
        machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        options.out.write_text(
            json.dumps({"machine": machine, "readers": options.readers, "cases": options.cases,
                        "sources": options.sources, "items": done.items, "files": done.files, "seconds": times,
                        "peak_memory_mb": round(peak)}, indent=1) + "\n"
        )  # fmt: skip
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
