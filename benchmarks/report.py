"""How fast a cohort is reported, beside the same steps one study and one sentence at a time with plain `generate`.

    medvlm phantom chest-ct --out clinic --patients 100
    python benchmarks/report.py clinic --model runs/quickstart/fit/model --out benchmarks/results/report.json

Both sides read the same studies with the same expert, have the same model write greedily from the same prompts, check
every sentence and write the same formats; that the reports say the same is verified. The plain loop does one thing
after the other on all cores: one study, then one call of `model.generate` a sentence, from the first token each time.
The pipeline is `medvlm report --each`. Each side runs in a fresh process with the cache of expert results off; peak
memory is that of the process, for cohorts of three sizes.

A measurement that is in the file of `--out` already is not made again, so the benchmark can be run in pieces
(`--only plain`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medvlm.storage import read_json, write_json

FORMATS = ("text", "html", "csv", "grounded")
MOST_TOKENS = 256
# The sentence before is whole once the first word of the next one is there.
NEXT_SENTENCE = re.compile(r"[.!?]\s+\S")


def by_sentence(generator: Any, conversation: Any) -> str:
    """The assistant's next turn: one call of `model.generate` a sentence, each from the first token of the prompt."""
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    from medvlm.models.chat import collate

    class EndOfSentence(StoppingCriteria):
        def __init__(self, before: int) -> None:
            self.before = before

        def __call__(self, ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
            said = generator.encoder.decode(ids[0, self.before :])
            return torch.tensor([NEXT_SENTENCE.search(said) is not None])

    inputs = generator._inputs(collate([generator.encoder.encode(conversation, reply=True)], generator.pad, "left"))
    prompt = inputs["input_ids"]
    ids = prompt
    with torch.inference_mode():
        while True:
            inputs |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            before = ids.shape[1]
            ids = generator.loaded.model.generate(
                **inputs,
                max_new_tokens=MOST_TOKENS - (before - prompt.shape[1]),
                do_sample=False,
                pad_token_id=generator.pad,
                eos_token_id=generator.stop_ids,
                stopping_criteria=StoppingCriteriaList([EndOfSentence(before)]),
            )
            if int(ids[0, -1]) in generator.stop_ids or ids.shape[1] - prompt.shape[1] >= MOST_TOKENS:
                return str(generator.encoder.decode(ids[0, prompt.shape[1] :]))


def plain(jobs: Sequence[Any], experts: Sequence[Any], out: Path, writer: Any, options: Any) -> None:
    """One study and one sentence at a time."""
    from medvlm.imaging.reader import load_study
    from medvlm.reporting.generate import render_report
    from medvlm.reporting.read_study import read_with_experts

    generator = writer.generator

    class Plain:
        def __call__(self, conversations: Sequence[Any]) -> list[str]:
            return [by_sentence(generator, conversation) for conversation in conversations]

    writer.generator = Plain()
    for job in jobs:
        reading = read_with_experts(load_study(job.path), experts)
        answer = writer.write_many([reading])[0] if reading.results else None
        render_report(reading, out / job.name, options, writer, answer)


def run(side: str, cohort: Path, model: str, studies: int) -> dict[str, Any]:
    """One side in this process."""
    from medvlm.reporting.batch import find_jobs, report_batch
    from medvlm.reporting.draft import VLMWriter
    from medvlm.reporting.generate import Options, open_experts
    from medvlm.reporting.report import read_report

    jobs = find_jobs(cohort)[:studies]
    experts, _ = open_experts(["chest_ct"], "cpu")
    writer = VLMWriter(model, "cpu")
    options = Options(FORMATS)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        if side == "plain":
            plain(jobs, experts, Path(folder), writer, options)
        else:
            outcome = report_batch(jobs, experts, Path(folder), options, writer)
            assert not outcome.failed, outcome.failed[:1]
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        said = [[one.text for one in read_report(Path(folder) / job.name).sentences()] for job in jobs]
    digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
    return {"studies": len(jobs), "seconds": round(seconds, 2), "peak_mb": round(peak), "sentences": digest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--only", choices=("plain", "pipeline"), help="leave the other side for another run")
    parser.add_argument("--work", choices=("plain", "pipeline"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(run(options.work, options.cohort, options.model, options.studies)))
        return
    results: dict[str, Any] = {}
    if options.out is not None and options.out.is_file():
        results = read_json(options.out)["results"]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    whole = options.studies
    for side, studies in (("pipeline", whole // 4), ("pipeline", whole // 2), ("pipeline", whole), ("plain", whole)):
        name = f"{side} {studies}"
        if name not in results and options.only in (None, side):
            command = [sys.executable, __file__, str(options.cohort), "--model", options.model]
            command += ["--work", side, "--studies", str(studies)]
            environment = os.environ | {"TQDM_DISABLE": "1", "MEDVLM_CACHE": "off"}
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
            results[name] = json.loads(done.stdout.splitlines()[-1])
            if options.out is not None:
                write_json(options.out, {"machine": machine, "results": results})
        if name in results:
            row = results[name]
            each = f"{row['seconds'] / row['studies']:6.2f} s each"
            print(f"{side:10} {row['studies']:4} studies  {row['seconds']:8.1f} s  {each}  {row['peak_mb']:6} MB")
    if f"plain {whole}" in results and f"pipeline {whole}" in results:
        slow, fast = results[f"plain {whole}"], results[f"pipeline {whole}"]
        same = "the same sentences" if slow["sentences"] == fast["sentences"] else "DIFFERENT sentences"
        factor = slow["seconds"] / fast["seconds"]
        print(f"faster by a factor of {factor:.2f}, {same}")
        if options.out is not None:
            write_json(options.out, {"machine": machine, "factor": round(factor, 2), "say": same, "results": results})


if __name__ == "__main__":
    main()
