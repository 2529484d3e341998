"""`medvlm evaluate`: closed loop, trust audit, given answers, reports, duplicate pictures, comparison of two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console

    from medvlm.evaluation.page import Page
    from medvlm.models.generate import Generator


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
        (also: medvlm evaluate trust|grounding|answers|reports|duplicates|compare --help)

    Args:
        conversations: folder that 'medvlm data build' wrote; its test.jsonl is asked.
        cohort: folder of the studies, for the expert to read.
        model: folder of a fine-tuned model or adapter, or a hub id.
        findings: folder that 'medvlm annotate' wrote; the expert is not run again on studies in it.
        out: folder for results.json, outcomes.jsonl and index.html (default: nothing is written).
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
    from medvlm.evaluation.pages import loop_page
    from medvlm.evaluation.table import closed_loop_table, trigger_line
    from medvlm.experts.annotate import read_annotations
    from medvlm.experts.registry import load_expert
    from medvlm.imaging.cohort import read_cohort
    from medvlm.imaging.reader import load_study
    from medvlm.imaging.study import Study

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
    with console.status("closed loop"):
        result = run_closed_loop(test, _generator(model, conversations, batch_size, device), desk, load, seed=seed)
    console.print(trigger_line(result))
    console.print(closed_loop_table(result))
    if out is not None:
        _write(console, out, result.to_json(), result.outcomes, loop_page(result, model, conversations))


def trust(
    conversations: Path,
    *,
    cohort: Path,
    model: str,
    out: Path,
    questions: str = "chest_ct",
    style: Literal["short", "long", "table", "json"] = "short",
    limit: int | None = None,
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
        limit: ask only the first so many questions.
        batch_size: conversations decoded together.
        device: where the model runs: cpu, cuda, cuda:1, ...
        seed: of what is made up, and of the bootstrap.
    """
    from rich.console import Console
    from rich.table import Table

    from medvlm.dialogue.conversation import read_conversations
    from medvlm.dialogue.dataset import AnnotatedExpert
    from medvlm.dialogue.practice import PracticePool
    from medvlm.dialogue.questions import read_questions
    from medvlm.evaluation.page import interval_text
    from medvlm.evaluation.pages import trust_page
    from medvlm.evaluation.trust import run_trust_audit
    from medvlm.experts.registry import find_expert
    from medvlm.findings.finding import read_findings
    from medvlm.imaging.cohort import read_cohort

    console = Console(highlight=False)
    asked = read_questions(questions)
    clinic = read_cohort(cohort)
    truths = {e.id: tuple(read_findings(clinic.root / e.truth)) for e in clinic.entries if e.truth}
    pool = PracticePool([truths[entry.id] for entry in clinic.split("train") if entry.id in truths])
    test = read_conversations(conversations / "test.jsonl")[:limit]
    with console.status("trust audit"):
        generate = _generator(model, conversations, batch_size, device)
        expert: Any = AnnotatedExpert(find_expert(asked.expert))
        audit = run_trust_audit(test, generate, expert, asked, truths, pool, seed, style)
    for title, rows in (("accuracy", audit.accuracy), ("measure", audit.measures)):
        table = Table(title, "value (95 % CI)", box=None, header_style="bold")
        for name, row in rows.items():
            table.add_row(name.replace("_", " "), interval_text(row))
        console.print(table)
    images = {row.id: row.images[0] for row in test if row.images}
    _write(console, out, audit.to_json(), audit.outcomes, trust_page(audit, model, conversations, images))


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
        batch_size: conversations decoded together.
        device: where the model runs: cpu, cuda, cuda:1, ...
        seed: of edits and bootstrap.
    """
    from rich.console import Console
    from rich.table import Table

    from medvlm.dialogue.conversation import read_conversations
    from medvlm.evaluation.edit_study import EditJob, run_edits
    from medvlm.evaluation.grounding import indices
    from medvlm.evaluation.page import interval_text
    from medvlm.evaluation.pages import grounding_page
    from medvlm.imaging.cohort import read_cohort

    console = Console(highlight=False)
    job = EditJob(lesion, task, edit, tuple(around), seed)
    test = read_conversations(conversations / "test.jsonl")
    generate = _generator(model, conversations, batch_size, device)
    outcomes, pictures = run_edits(test, read_cohort(cohort), generate, job, out / "pictures", limit)
    found = indices(outcomes, seed)
    table = Table("index", "value (95 % CI)", box=None, header_style="bold")
    for name, row in found.items():
        table.add_row(name.replace("_", " "), interval_text(row))
    console.print(table)
    data = {"schema": 1, "kind": "grounding", "edit": edit, "lesion": lesion, "studies": len(pictures)}
    data["indices"] = {name: row.to_json() if row else None for name, row in found.items()}
    _write(console, out, data, outcomes, grounding_page(found, outcomes, pictures, model, job))


def answers(
    conversations: Path,
    *,
    out: Path,
    model: str = "",
    predictions: Path | None = None,
    controls: list[Literal["blank", "noise", "shuffled", "inverted"]] = ["blank"],  # noqa: B006 (jsonargparse shows it)
    circular: bool = False,
    limit: int | None = None,
    max_new_tokens: int = 64,
    batch_size: int = 16,
    device: str = "cpu",
    seed: int = 0,
) -> None:
    """Score a model on questions with given answers (VQA), with the picture and without seeing it.

    Any folder in transformers format works, whoever trained it.

    Example:
        medvlm evaluate answers runs/vqa_rad/data --model runs/vqa_rad/fit/model --out runs/vqa_rad/results

    Args:
        conversations: folder with test.jsonl, or a conversation file.
        out: folder for results.json, outcomes.jsonl and index.html.
        model: folder in transformers format or an adapter, or a hub id.
        predictions: instead of a model: JSON Lines with id and answer, of any other program.
        controls: altered pictures that are asked about as well: blank, noise, shuffled (another patient's), inverted.
        circular: ask multiple-choice questions with their options in every circular order, all of which must be right.
        limit: ask only the first so many questions.
        max_new_tokens: longest answer, in tokens.
        batch_size: conversations decoded together.
        device: where the model runs: cpu, cuda, cuda:1, ...
        seed: of controls and bootstrap.
    """
    from rich.console import Console
    from rich.table import Table

    from medvlm.dialogue.conversation import read_conversations
    from medvlm.errors import MedVLMError
    from medvlm.evaluation.circular import circular_set
    from medvlm.evaluation.page import interval_text
    from medvlm.evaluation.pages import answers_page
    from medvlm.evaluation.statistics import worst_of_groups
    from medvlm.evaluation.table import percent
    from medvlm.evaluation.vqa import ask_all, score_answers
    from medvlm.storage import read_jsonl

    console = Console(highlight=False)
    file = conversations / "test.jsonl" if conversations.is_dir() else conversations
    test = read_conversations(file)[:limit]
    test = circular_set(test) if circular else test
    if bool(model) == (predictions is not None):
        raise MedVLMError("give either --model or --predictions.")
    if predictions is not None:
        given = {str(row["id"]).partition("#")[0]: str(row["answer"]) for row in read_jsonl(predictions)}
        missing = [row.id for row in test if row.id not in given]
        if missing:
            raise MedVLMError(f"{predictions}: no answer for {len(missing)} questions, such as {missing[0]}.")
        result = score_answers(test, [given[row.id] for row in test], seed=seed)
    else:
        with console.status("answers"):
            generate = _generator(model, file.parent, batch_size, device, max_new_tokens)
            result = ask_all(test, generate, file.parent, controls, out / "pictures", seed)
    shown = tuple(result.groups[0].controls)
    table = Table("questions", "n", "accuracy (95 % CI)", "F1", *(f"{name} picture" for name in shown), box=None)
    for group in [group for group in result.groups if group.name in ("all", "closed", "open")]:
        cells = [interval_text(group.controls[name]) for name in shown]
        table.add_row(
            group.name, f"{group.questions:,}", interval_text(group.accuracy), percent(group.f1.value), *cells
        )
    console.print(table)
    data = result.to_json()
    if circular:
        groups = [row.symbols.get("group", row.id) for row in test]
        data["circular"] = worst_of_groups([row.correct for row in result.outcomes], groups)
        console.print(f"right in every order: {percent(data['circular'])}")
    console.print(str(result.signatures["accuracy"]), style="dim")
    _write(console, out, data, result.outcomes, answers_page(result, model or str(predictions), file.parent))


def reports(
    written: Path,
    *,
    out: Path,
    pathway: str = "chest_xray",
    uncertain: Literal["ignore", "positive", "negative"] = "ignore",
    meteor: bool = False,
) -> None:
    """Score written reports against references: words, and finding by finding.

    Example:
        medvlm evaluate reports reports.jsonl --out results --pathway chest_xray

    Args:
        written: JSON Lines with id, report and reference.
        out: folder for results.json and outcomes.jsonl.
        pathway: pathway whose phrases read the findings.
        uncertain: what a doubted finding counts as.
        meteor: METEOR as well (needs Java).
    """
    from rich.console import Console

    from medvlm.errors import MedVLMError
    from medvlm.evaluation.reports import score_reports
    from medvlm.storage import read_jsonl, write_json, write_jsonl

    rows = read_jsonl(written)
    try:
        triples = [(str(row["id"]), str(row["report"]), str(row["reference"])) for row in rows]
    except (KeyError, TypeError):
        raise MedVLMError(f"{written}: every line needs id, report and reference.") from None
    result = score_reports(triples, pathway, uncertain, meteor)
    console = Console(highlight=False)
    for name, value in {**result.words, **result.findings.to_json()}.items():
        console.print(f"{name:<14}{value}")
    write_json(out / "results.json", result.to_json())
    write_jsonl(out / "outcomes.jsonl", result.outcomes)
    console.print(f"wrote {out / 'results.json'} and outcomes.jsonl")


def duplicates(
    train: Path,
    test: Path,
    *,
    out: Path | None = None,
    near: int = 6,
) -> None:
    """Find test pictures that are in the training data, whatever their size, format or name.

    Example:
        medvlm evaluate duplicates data/train.jsonl data/test.jsonl

    Args:
        train: conversation file.
        test: conversation file.
        out: JSON file for the pairs.
        near: most bits of 64 that may differ.
    """
    from medvlm.dialogue.conversation import iterate_conversations
    from medvlm.evaluation.contamination import find_duplicates, hash_pictures
    from medvlm.storage import write_json

    hashes = []
    for file in (train, test):
        names = {name for row in iterate_conversations(file) for name in row.images}
        hashes.append(hash_pictures(file.parent, names))
    found = find_duplicates(hashes[1], hashes[0], near)
    print(f"{len(found):,} of {len(hashes[1]):,} test pictures look like one of {len(hashes[0]):,} training pictures")
    for match in found[:20]:
        print(f"  {match.test}  ~  {match.train}  ({match.bits} bits)")
    if out is not None:
        write_json(out, {"near": near, "matches": [match.to_json() for match in found]})


def compare(first: Path, second: Path, *, out: Path | None = None, seed: int = 0) -> None:
    """Compare two evaluations of the same questions: paired differences, McNemar, Holm; comparable or visibly not.

    Example:
        medvlm evaluate compare results/before results/after --out results/compared

    Args:
        first: folder that 'medvlm evaluate' wrote.
        second: another one, of the same kind.
        out: folder for results.json and index.html (default: nothing is written).
        seed: of the bootstrap.
    """
    from rich.console import Console
    from rich.table import Table

    from medvlm.evaluation.compare import compare as run
    from medvlm.evaluation.page import write_page
    from medvlm.evaluation.pages import comparison_page
    from medvlm.evaluation.table import gain, percent
    from medvlm.storage import write_json

    console = Console(highlight=False)
    result = run(first, second, seed)
    for difference in result.differences:
        console.print(f"not comparable as they stand: {difference}", style="yellow")
    table = Table("questions", "first", "second", "difference (95 % CI)", "p", "p (Holm)", box=None)
    for name, row in result.groups.items():
        cells = (percent(row.first), percent(row.second), gain(row.difference), f"{row.p:.3g}", f"{row.p_holm:.3g}")
        table.add_row(name.replace("_", " "), *cells)
    console.print(table)
    if out is not None:
        write_json(out / "results.json", result.to_json())
        write_page(comparison_page(result, str(first), str(second)), out / "index.html")
        console.print(f"wrote {out / 'index.html'}")


def _generator(model: str, root: Path, batch_size: int, device: str, max_new_tokens: int = 64) -> Generator:
    from medvlm.models.generate import Generator
    from medvlm.models.load import load_model

    return Generator(load_model(model, device=device), max_new_tokens, batch_size, root)


def _write(console: Console, out: Path, results: dict[str, Any], outcomes: Sequence[Any], page: Page) -> None:
    """results.json, outcomes.jsonl and the page."""
    from medvlm.evaluation.page import write_page
    from medvlm.storage import write_json, write_jsonl

    write_json(out / "results.json", results)
    write_jsonl(out / "outcomes.jsonl", (outcome.to_json() for outcome in outcomes))
    write_page(page, out / "index.html")
    console.print(f"wrote {out / 'index.html'}, results.json and outcomes.jsonl")


COMMAND = evaluate
COMMANDS = {
    "trust": trust,
    "grounding": grounding,
    "answers": answers,
    "reports": reports,
    "duplicates": duplicates,
    "compare": compare,
}
