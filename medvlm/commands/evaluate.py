"""`medvlm evaluate`: the closed loop with and without the expert; its subcommands are audits and scores."""

from __future__ import annotations

from pathlib import Path

from medvlm.commands.evaluate_audits import grounding, trust
from medvlm.commands.evaluate_output import open_console, open_generator, write_evaluation
from medvlm.commands.evaluate_scores import answers, compare, duplicates, metrics, reports


def evaluate(
    conversations: Path,
    *,
    cohort: Path,
    model: str,
    findings: Path | None = None,
    out: Path | None = None,
    expert: str = "chest_ct",
    wordings: int = 1,
    questions: str = "chest_ct",
    phrasings: Path | None = None,
    batch_size: int = 64,
    device: str = "cpu",
    seed: int = 0,
) -> None:
    """Ask a model the held-out questions with and without the expert, closed loop, and print both accuracies.

    Example:
        medvlm evaluate runs/quickstart/data --cohort runs/quickstart/clinic --model runs/quickstart/fit/model
        (also: medvlm evaluate trust|grounding|answers|reports|duplicates|compare --help)

    Args:
        conversations: folder that 'medvlm data build' wrote; its test.jsonl is asked.
        cohort: folder of the studies, for the expert to read.
        model: folder of a fine-tuned model or adapter, or a hub id.
        findings: folder that 'medvlm annotate' wrote; the expert is not run again on studies in it.
        out: folder for results.json, outcomes.jsonl and index.html (default: nothing is written).
        expert: the expert on offer.
        wordings: ask every question in up to so many held-out phrasings, for the worst case over them.
        questions: curriculum or YAML file that the conversations were built with, for its phrasings.
        phrasings: YAML file of other phrasings (family → list), as for 'medvlm data build'.
        batch_size: conversations decoded together.
        device: where model and expert run: cpu, cuda, cuda:1, ...
        seed: of the bootstrap.
    """
    from medvlm.dialogue.conversation import read_conversations
    from medvlm.dialogue.loop import Desk
    from medvlm.dialogue.questions import read_questions, rephrased
    from medvlm.errors import MedVLMError
    from medvlm.evaluation.closed_loop import run_closed_loop
    from medvlm.evaluation.page import interval_text
    from medvlm.evaluation.pages_scores import loop_page
    from medvlm.evaluation.rephrase import rephrase
    from medvlm.evaluation.table import closed_loop_table, trigger_line
    from medvlm.experts.annotate import read_annotations
    from medvlm.experts.registry import load_expert
    from medvlm.imaging.cohort import read_cohort
    from medvlm.imaging.reader import load_study
    from medvlm.imaging.study import Study

    console = open_console()
    test = read_conversations(conversations / "test.jsonl")
    if wordings > 1:
        asked = read_questions(questions)
        test = rephrase(test, rephrased(asked, phrasings) if phrasings else asked, wordings, seed)
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
    with console.status("closed loop"):
        result = run_closed_loop(test, open_generator(model, conversations, batch_size, device), desk, load, seed=seed)
    console.print(trigger_line(result))
    console.print(closed_loop_table(result))
    for arm, row in result.rephrased.items():
        if row is not None:
            said = f"every wording {interval_text(row.mean)}, right in every wording {interval_text(row.worst)}"
            console.print(f"{arm} expert, {row.groups} questions in {row.wordings:.1f} wordings: {said}")
    if out is not None:
        write_evaluation(console, out, result.to_json(), result.outcomes, loop_page(result, model, conversations))


COMMAND = evaluate
COMMANDS = {
    "trust": trust,
    "grounding": grounding,
    "answers": answers,
    "reports": reports,
    "metrics": metrics,
    "duplicates": duplicates,
    "compare": compare,
}
