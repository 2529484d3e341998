"""`medvlm evaluate`: the closed loop, measured on held-out patients."""

from __future__ import annotations

from pathlib import Path


def evaluate(
    conversations: Path,
    *,
    cohort: Path,
    model: str,
    findings: Path | None = None,
    out: Path | None = None,
    expert: str = "chest_ct",
    batch_size: int = 64,
    device: str = "cpu",
    seed: int = 0,
) -> None:
    """Ask a model the held-out questions with and without the expert, closed loop, and print both accuracies.

    Example:
        medvlm evaluate runs/quickstart/data --cohort runs/quickstart/clinic --model runs/quickstart/fit/model

    Args:
        conversations: folder that 'medvlm data build' wrote; its test.jsonl is asked.
        cohort: folder of the studies, for the expert to read.
        model: folder of a fine-tuned model or adapter, or a hub id.
        findings: folder that 'medvlm annotate' wrote; the expert is not run again on studies in it.
        out: folder for results.json and outcomes.jsonl (default: nothing is written).
        expert: the expert on offer.
        batch_size: conversations decoded together.
        device: where model and expert run: cpu, cuda, cuda:1, ...
        seed: of the bootstrap.
    """
    from rich.console import Console

    from medvlm.dialogue.conversation import read_conversations
    from medvlm.dialogue.loop import Desk
    from medvlm.errors import MedVLMError
    from medvlm.evaluation.closed_loop import run_closed_loop
    from medvlm.evaluation.table import closed_loop_table, trigger_line
    from medvlm.experts.annotate import read_annotations
    from medvlm.experts.registry import load_expert
    from medvlm.imaging.cohort import read_cohort
    from medvlm.imaging.reader import load_study
    from medvlm.imaging.study import Study
    from medvlm.models.generate import Generator
    from medvlm.models.load import load_model
    from medvlm.storage import write_json, write_jsonl

    console = Console(highlight=False)
    test = read_conversations(conversations / "test.jsonl")
    clinic = read_cohort(cohort)
    sources = {entry.id: clinic.root / entry.study for entry in clinic.entries}

    def load(study: str) -> Study:
        if study not in sources:
            raise MedVLMError(f"{cohort}: no study {study}, which a test question is about.")
        return load_study(sources[study])

    desk = Desk([load_expert(expert, device)])
    if findings is not None:
        known = read_annotations(findings)
        desk.remember(
            expert, {study: [f for f in rows if f.provenance.expert == expert] for study, rows in known.items()}
        )
    generator = Generator(load_model(model, device=device), batch_size=batch_size, root=conversations)
    with console.status("closed loop"):
        result = run_closed_loop(test, generator, desk, load, seed=seed)
    console.print(trigger_line(result))
    console.print(closed_loop_table(result))
    if out is not None:
        write_json(out / "results.json", result.to_json())
        write_jsonl(out / "outcomes.jsonl", (outcome.to_json() for outcome in result.outcomes))
        console.print(f"wrote {out / 'results.json'} and outcomes.jsonl")


COMMAND = evaluate
