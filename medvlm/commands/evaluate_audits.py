"""`medvlm evaluate trust` and `grounding`: what a model does when its expert or its picture is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from medvlm.commands.evaluate_output import open_console, open_generator, print_intervals, write_evaluation


def trust(
    conversations: Path,
    *,
    cohort: Path,
    model: str,
    out: Path,
    questions: str = "chest_ct",
    style: Literal["short", "long", "table", "json"] = "short",
    calls: Literal["model", "given"] = "model",
    picture: Literal["own", "blank", "noise", "shuffled", "inverted"] = "own",
    limit: int | None = None,
    max_new_tokens: int = 64,
    batch_size: int = 64,
    device: str = "cpu",
    seed: int = 0,
) -> None:
    """Audit whether a model trusts its expert blindly: every question under eight conditions of the expert.

    Example:
        medvlm evaluate trust runs/quickstart/conversations --cohort runs/quickstart/clinic --model MODEL --out audit

    Args:
        conversations: folder that 'medvlm data build' wrote; its test.jsonl is asked.
        cohort: folder of the studies with their true findings.
        model: folder of a fine-tuned model or adapter, or a hub id.
        out: folder for results.json, outcomes.jsonl and index.html.
        questions: curriculum or YAML file that the conversations were built with.
        style: how findings are written in expert turns, as in training.
        calls: model is the closed loop; given writes the call for the model, for one that was never taught to call.
        picture: what is shown; with a control, what is still distrusted was not seen but read in the findings.
        limit: ask only the first so many questions.
        max_new_tokens: longest answer, in tokens.
        batch_size: conversations decoded together.
        device: where the model runs: cpu, cuda, cuda:1, ...
        seed: of what is made up, and of the bootstrap.
    """
    from medvlm.dialogue.conversation import read_conversations
    from medvlm.dialogue.dataset import AnnotatedExpert
    from medvlm.dialogue.practice import PracticePool
    from medvlm.dialogue.questions import read_questions
    from medvlm.evaluation.pages_audits import trust_page
    from medvlm.evaluation.pictures import with_control
    from medvlm.evaluation.trust import run_trust_audit
    from medvlm.experts.registry import find_expert
    from medvlm.findings.finding import read_findings
    from medvlm.imaging.cohort import read_cohort

    console = open_console()
    asked = read_questions(questions)
    clinic = read_cohort(cohort)
    truths = {e.id: tuple(read_findings(clinic.root / e.truth)) for e in clinic.entries if e.truth}
    pool = PracticePool([truths[entry.id] for entry in clinic.split("train") if entry.id in truths])
    test = read_conversations(conversations / "test.jsonl")[:limit]
    if picture != "own":
        test = with_control(test, conversations, picture, out / "pictures", seed)
    with console.status("trust audit"):
        generate = open_generator(model, conversations, batch_size, device, max_new_tokens)
        expert: Any = AnnotatedExpert(find_expert(asked.expert))
        audit = run_trust_audit(test, generate, expert, asked, truths, pool, seed, style, calls == "model")
    print_intervals(console, "accuracy", audit.accuracy)
    print_intervals(console, "measure", audit.measures)
    if calls == "model" and audit.measures["called"] and audit.measures["called"].value < 0.5:
        console.print("it seldom calls the expert, so little of it was tested: --calls given", style="yellow")
    images = {row.id: row.images[0] for row in test if row.images}
    write_evaluation(console, out, audit.to_json(), audit.outcomes, trust_page(audit, model, conversations, images))


def grounding(
    conversations: Path,
    *,
    cohort: Path,
    model: str,
    out: Path,
    lesion: str = "lung nodule",
    task: str = "nodule_present",
    edit: Literal["erased", "moved", "dropped_slices", "wrong_window"] = "erased",
    around: list[str] = [],  # noqa: B006 (jsonargparse shows it)
    limit: int | None = None,
    max_new_tokens: int = 64,
    batch_size: int = 64,
    device: str = "cpu",
    seed: int = 0,
) -> None:
    """Take a lesion out of the studies, or move it, and see whether the answers follow (BEAF's indices).

    Example:
        medvlm evaluate grounding runs/quickstart/conversations --cohort runs/quickstart/clinic --model MODEL --out beaf

    Args:
        conversations: folder that 'medvlm data build' wrote; the yes-no questions of its test.jsonl are asked.
        cohort: folder of the studies with their masks.
        model: folder of a fine-tuned model or adapter, or a hub id.
        out: folder for results.json, outcomes.jsonl, index.html and the pictures.
        lesion: name of the structure in the cohort's masks.
        task: the question about it; the other yes-no questions are about what stays.
        edit: erased, moved (the answer stays), dropped_slices or wrong_window.
        around: names of the structures that it may be moved into (default: all but the lesion).
        limit: edit only the first so many studies.
        max_new_tokens: longest answer, in tokens.
        batch_size: conversations decoded together.
        device: where the model runs: cpu, cuda, cuda:1, ...
        seed: of edits and bootstrap.
    """
    from medvlm.dialogue.conversation import read_conversations
    from medvlm.dialogue.score import VERSION as RULES
    from medvlm.evaluation.edit_study import EditJob, run_edits
    from medvlm.evaluation.grounding import VERSION, indices
    from medvlm.evaluation.pages_audits import grounding_page
    from medvlm.evaluation.signature import sign
    from medvlm.imaging.cohort import read_cohort

    console = open_console()
    job = EditJob(lesion, task, edit, tuple(around), seed)
    test = read_conversations(conversations / "test.jsonl")
    generate = open_generator(model, conversations, batch_size, device, max_new_tokens)
    cases = read_cohort(cohort)
    outcomes, pictures = run_edits(test, cases, generate, job, out / "pictures", limit, conversations)
    found = indices(outcomes, seed)
    print_intervals(console, "index", found)
    asked = {outcome.id for outcome in outcomes}
    rows = [row for row in test if row.id in asked]
    settings = {"edit": edit, "lesion": lesion.replace(" ", "_"), "seed": str(seed), "loop": "none"}
    signed = {"accuracy": str(sign("beaf", VERSION, rows, norm=RULES, **settings))}
    data = {"schema": 1, "kind": "grounding", "edit": edit, "lesion": lesion, "studies": len(pictures)}
    data |= {"indices": {name: row.to_json() if row else None for name, row in found.items()}, "signatures": signed}
    write_evaluation(console, out, data, outcomes, grounding_page(found, outcomes, pictures, model, job, signed))
