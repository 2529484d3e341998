"""How fast a cohort is reported, beside the same steps one study and one sentence at a time with plain `generate`.

    medvlm phantom chest-ct --out clinic --patients 100
    python benchmarks/report.py clinic --model runs/quickstart/fit/model --out benchmarks/results/report.json

Both sides read the same studies with the same expert, have the same model write greedily from the same prompts, check
every sentence and write the same formats; that the reports say the same is verified. The plain loop does one thing
after the other on all cores: one study, then one call of `model.generate` a sentence, from the first token each time.
The pipeline is `medvlm report --each`. Each side runs in a fresh process with the cache of expert results off; peak
memory is that of the process, for cohorts of three sizes.

How much the second way saves depends on what share of the work is writing, and so on the size of the model. The
built-in model of the demo has 2.3 million weights; a model that is worth using has hundreds of times more. `--size 135`
gives it that many million: further layers that compute with random weights and add nothing, so that it writes the same
text at the price of a model of that size (SmolLM2-135M).

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


def heavier(model: Path, millions: int, folder: Path) -> Path:
    """The same function at the price of more weights: wider perceptrons padded with zeros, layers that add zero.

    Args:
        model: folder of a model of the `tiny` family.
        millions: weights of the language model it shall have, in millions.
        folder: where to write it.
    """
    import shutil

    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    small = AutoModelForImageTextToText.from_pretrained(model)
    config = AutoConfig.from_pretrained(model)
    text = config.text_config
    layers = 28
    text.intermediate_size = (
        round((millions * 1e6 / layers - 4 * text.hidden_size**2) / (3 * text.hidden_size) / 64) * 64
    )
    text.layer_types = ["full_attention"] * layers
    text.num_hidden_layers = layers
    torch.manual_seed(0)
    large = AutoModelForImageTextToText.from_config(config)
    own = small.state_dict()
    with torch.no_grad():
        for name, weight in large.state_dict().items():
            if name in own and own[name].shape == weight.shape:
                weight.copy_(own[name])
            elif name in own:
                weight.zero_()
                weight[tuple(slice(length) for length in own[name].shape)] = own[name]
            elif name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()
    large.generation_config = small.generation_config
    shutil.copytree(model, folder)
    large.save_pretrained(folder)
    return folder


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

        def forget(self) -> None:
            """It keeps nothing from one call to the next."""

    writer.generator = Plain()
    for job in jobs:
        reading = read_with_experts(load_study(job.path), experts)
        answer = writer.write_many([reading])[0] if reading.results else None
        render_report(reading, out / job.name, options, writer, answer)


def run(side: str, cohort: Path, model: str, first: int, last: int) -> dict[str, Any]:
    """One side in this process, on the studies from the first up to the last."""
    from medvlm.reporting.batch import find_jobs, report_batch
    from medvlm.reporting.draft import VLMWriter
    from medvlm.reporting.generate import Options, open_experts
    from medvlm.reporting.report import read_report

    jobs = find_jobs(cohort)[first:last]
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
    digests = [hashlib.sha256(json.dumps(one).encode()).hexdigest()[:8] for one in said]
    return {"studies": len(jobs), "seconds": round(seconds, 2), "peak_mb": round(peak), "sentences": digests}


def measure(options: argparse.Namespace, side: str, first: int, last: int) -> dict[str, Any]:
    """One side in a fresh process."""
    command = [sys.executable, __file__, str(options.cohort), "--model", str(options.model)]
    command += ["--work", side, str(first), str(last)]
    environment = os.environ | {"TQDM_DISABLE": "1", "MEDVLM_CACHE": "off"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def table(results: dict[str, Any], studies: int) -> dict[str, Any]:
    """Print what there is; the factor where both sides are complete."""
    for name, row in results.items():
        each = f"{row['seconds'] / row['studies']:6.2f} s each"
        print(f"{name:18} {row['studies']:4} studies  {row['seconds']:8.1f} s  {each}  {row['peak_mb']:6} MB")
    plain_rows = [row for name, row in results.items() if name.startswith("plain")]
    fast = results.get(f"pipeline 0-{studies}")
    if fast is None or sum(row["studies"] for row in plain_rows) < studies:
        return {}
    factor = sum(row["seconds"] for row in plain_rows) / fast["seconds"]
    said = [digest for row in plain_rows for digest in row["sentences"]]
    same = sum(one == other for one, other in zip(said, fast["sentences"], strict=True))
    print(f"faster by a factor of {factor:.2f}; {same} of {studies} reports say the same")
    return {"factor": round(factor, 2), "same_reports": same}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--size", type=int, help="millions of weights that the model shall have")
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument(
        "--most", type=int, default=99, help="so many measurements in this run; run it again for the rest"
    )
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.work:
        side, first, last = options.work
        print(json.dumps(run(side, options.cohort, str(options.model), int(first), int(last))))
        return
    kept = read_json(options.out) if options.out is not None and options.out.is_file() else {}
    label = f"{options.size} million weights" if options.size else "the demo's model"
    results: dict[str, Any] = kept.get(label, {}).get("results", {})
    whole = options.studies
    half = whole // 2
    wanted = [("pipeline", 0, whole // 4), ("pipeline", 0, half), ("pipeline", 0, whole)]
    wanted += [("plain", 0, half), ("plain", half, whole)]
    left = [one for one in wanted if f"{one[0]} {one[1]}-{one[2]}" not in results]
    with tempfile.TemporaryDirectory() as folder:
        if options.size and left:
            options.model = heavier(options.model, options.size, Path(folder) / "model")
        for side, first, last in left[: options.most]:
            results[f"{side} {first}-{last}"] = measure(options, side, first, last)
            if options.out is not None:
                write_json(options.out, kept | {label: {"results": results}})
    told = table(results, whole)
    if options.out is not None:
        machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        write_json(options.out, kept | {"machine": machine, label: told | {"results": results}})


if __name__ == "__main__":
    main()
