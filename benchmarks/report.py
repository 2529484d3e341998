"""How fast a cohort is reported, beside the same steps one study and one sentence at a time with plain `generate`.

    medvlm phantom chest-ct --out clinic --patients 100
    python benchmarks/report.py clinic --model runs/quickstart/fit/model --studies 100 --out benchmarks/report.json

Both sides read the same studies with the same expert, have the same model write, check every sentence and write the
same formats. The pipeline asks the model for whole reports, many side by side, while the next study is read and the
last one is written. The plain loop does one thing after the other: one study, then one request a finding. Each side
runs in a fresh process; peak memory is that of the process, also for a fourth of the studies, to show that it does not
grow with the cohort.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from medvlm.storage import write_json

FORMATS = ("text", "html", "csv", "grounded")


def plain(jobs: list, experts: list, out: Path, writer: object, options: object) -> int:
    """One study and one sentence at a time."""
    from medvlm.dialogue.loop import open_conversation
    from medvlm.findings.verbalise import verbalise
    from medvlm.imaging.reader import load_study
    from medvlm.imaging.view import overview
    from medvlm.reporting.generate import render_report
    from medvlm.reporting.read_study import read_with_experts

    for job in jobs:
        reading = read_with_experts(load_study(job.path), experts)
        sentences = []
        with tempfile.TemporaryDirectory() as folder:
            picture = Path(folder) / "seen.png"
            overview(reading.study.find_series(reading.results[0].series)).save(picture)
            for finding in reading.findings:
                question = f"{verbalise([finding])}\nWrite one sentence of the report about this finding."
                asked = open_conversation(question, [str(picture)], [])
                sentences.append(writer.generator.answer(asked))  # type: ignore[attr-defined]
        render_report(reading, out / job.name, options, writer, " ".join(sentences))  # type: ignore[arg-type]
    return len(jobs)


def run(side: str, cohort: Path, model: str, studies: int) -> dict[str, float]:
    """One side in this process."""
    from medvlm.reporting.batch import find_jobs, report_batch
    from medvlm.reporting.draft import VLMWriter
    from medvlm.reporting.generate import Options, open_experts

    jobs = find_jobs(cohort)[:studies]
    experts, _ = open_experts(["chest_ct"], "cpu")
    writer = VLMWriter(model, "cpu")
    options = Options(FORMATS)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        if side == "plain":
            done = plain(jobs, experts, Path(folder), writer, options)
        else:
            outcome = report_batch(jobs, experts, Path(folder), options, writer)
            assert not outcome.failed, outcome.failed[:1]
            done = len(outcome.done)
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"studies": done, "seconds": round(seconds, 2), "peak_mb": round(peak)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--side", choices=("plain", "pipeline"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(run(options.side, options.cohort, options.model, options.studies)))
        return
    results = {}
    for name, side, studies in (
        ("pipeline", "pipeline", options.studies),
        ("pipeline, a fourth of the studies", "pipeline", max(1, options.studies // 4)),
        ("plain", "plain", options.studies),
    ):
        command = [sys.executable, __file__, str(options.cohort), "--model", options.model]
        command += ["--side", side, "--studies", str(studies)]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env=os.environ | {"TQDM_DISABLE": "1"}
        )
        results[name] = json.loads(done.stdout.splitlines()[-1])
        row = results[name]
        each = f"{row['seconds'] / row['studies']:6.2f} s each"
        print(f"{name:36} {row['studies']:4.0f} studies  {row['seconds']:8.1f} s  {each}  {row['peak_mb']:6.0f} MB")
    ratio = results["plain"]["seconds"] / results["pipeline"]["seconds"]
    print(f"faster by a factor of {ratio:.2f}")
    if options.out is not None:
        machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        write_json(options.out, {"machine": machine, "factor": round(ratio, 2), "results": results})


if __name__ == "__main__":
    main()
