"""`medvlm evaluate answers`, `reports`, `metrics`, `duplicates` and `compare`: scores of what was said."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from medvlm.commands.evaluate_output import open_console, open_generator, write_evaluation

_REPORT = ("id", "report", "reference", "patient", "image")


def answers(
    conversations: Path,
    *,
    out: Path,
    model: str = "",
    predictions: Path | None = None,
    controls: list[Literal["blank", "noise", "shuffled", "inverted"]] = ["blank"],  # noqa: B006 (jsonargparse shows it)
    circular: bool = False,
    experts: Literal["given", "none"] = "given",
    confidence: bool = False,
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
        experts: given shows expert turns that a conversation holds (teacher-forced); none asks from the picture alone.
        confidence: how sure the model is of each answer as well, for risk against coverage; a prediction file may have
            a confidence in each line.
        limit: ask only the first so many questions.
        max_new_tokens: longest answer, in tokens.
        batch_size: conversations decoded together.
        device: where the model runs: cpu, cuda, cuda:1, ...
        seed: of controls and bootstrap.
    """
    from functools import partial

    from rich.table import Table

    from medvlm.dialogue.conversation import read_conversations
    from medvlm.errors import MedVLMError
    from medvlm.evaluation.circular import circular_set
    from medvlm.evaluation.confidence import answer_confidences
    from medvlm.evaluation.page import interval_text
    from medvlm.evaluation.pages_scores import answers_page
    from medvlm.evaluation.table import percent
    from medvlm.evaluation.vqa import ask_all, score_answers, without_experts
    from medvlm.storage import read_jsonl

    console = open_console()
    file = conversations / "test.jsonl" if conversations.is_dir() else conversations
    test = read_conversations(file)[:limit]
    test = circular_set(test) if circular else test
    test = [without_experts(row) for row in test] if experts == "none" else test
    if bool(model) == (predictions is not None):
        raise MedVLMError("give either --model or --predictions.")
    if predictions is not None:
        given = {str(row["id"]).partition("#")[0]: row for row in read_jsonl(predictions)}
        missing = [row.id for row in test if row.id not in given]
        if missing:
            raise MedVLMError(f"{predictions}: no answer for {len(missing)} questions, such as {missing[0]}.")
        said = [given[row.id] for row in test]
        known = [float(row["confidence"]) for row in said] if all("confidence" in row for row in said) else None
        result = score_answers(test, [str(row["answer"]) for row in said], seed=seed, confidence=known)
    else:
        with console.status("answers"):
            generate = open_generator(model, file.parent, batch_size, device, max_new_tokens)
            sure = partial(answer_confidences, generate) if confidence else None
            result = ask_all(test, generate, file.parent, controls, out / "pictures", seed, sure)
    shown = tuple(result.groups[0].controls)
    table = Table("questions", "n", "accuracy (95 % CI)", "F1", *(f"{name} picture" for name in shown), box=None)
    for group in [group for group in result.groups if group.name in ("all", "closed", "open")]:
        cells = [interval_text(group.controls[name]) for name in shown]
        table.add_row(
            group.name, f"{group.questions:,}", interval_text(group.accuracy), percent(group.f1.value), *cells
        )
    console.print(table)
    if result.selective is not None:
        shares = ", ".join(f"{percent(value)} of {percent(kept)}" for kept, value in result.selective.accuracy.items())
        console.print(f"accuracy of the surest answers: {shares}")
    if result.rephrased is not None:
        worst = interval_text(result.rephrased.worst)
        console.print(f"right in every wording or order: {worst} of {result.rephrased.groups} questions")
    console.print(str(result.signatures["accuracy"]), style="dim")
    page = answers_page(result, model or str(predictions), file.parent)
    write_evaluation(console, out, result.to_json(), result.outcomes, page)


def reports(
    written: Path,
    *,
    out: Path,
    pathway: str = "chest_xray",
    uncertain: Literal["ignore", "positive", "negative"] = "ignore",
    meteor: bool = False,
    metrics: list[str] = [],  # noqa: B006 (jsonargparse shows it)
    weights: Path | None = None,
    seed: int = 0,
) -> None:
    """Score written reports against references: words, and finding by finding.

    Example:
        medvlm evaluate reports reports.jsonl --out results --pathway chest_xray

    Args:
        written: JSON Lines with id, report and reference; patient and image (a path beside the file) if there are any.
        out: folder for results.json, outcomes.jsonl and index.html.
        pathway: pathway whose phrases read the findings.
        uncertain: what a doubted finding counts as.
        meteor: METEOR as well (needs Java).
        metrics: model-based metrics of other packages as well ('medvlm evaluate metrics' lists them).
        weights: folder with their weights, one folder a metric; nothing is downloaded.
        seed: of the bootstrap.
    """
    from medvlm.errors import MedVLMError
    from medvlm.evaluation.outside import score_outside
    from medvlm.evaluation.pages_scores import reports_page
    from medvlm.evaluation.reports import ReportPair, score_reports
    from medvlm.storage import read_jsonl

    console = open_console()
    try:
        rows = [ReportPair(**{key: str(row[key]) for key in row if key in _REPORT}) for row in read_jsonl(written)]
    except TypeError:
        raise MedVLMError(f"{written}: every line needs id, report and reference.") from None
    if not rows:
        raise MedVLMError(f"{written}: there are no reports in this file.")
    result = score_reports(rows, pathway, uncertain, meteor, seed)
    for name in metrics:
        found = score_outside(name, rows, weights)
        result = result.joined(found.values, found.each, found.signature)
    for name, value in {**result.words, **result.findings.to_json()}.items():
        console.print(f"{name:<22}{value}")
    page = reports_page(result, str(written), written.parent)
    write_evaluation(console, out, result.to_json(), result.outcomes, page)


def metrics() -> None:
    """List the model-based report metrics of other packages: which are at hand, and what to know of each.

    Example:
        medvlm evaluate metrics
    """
    from medvlm.evaluation.outside import METRICS

    for name, metric in METRICS.items():
        state = metric.missing_package() or "the package is there"
        print(f"{name:<12}{metric.title}\n{'':<12}{state}; weights: {metric.weights}\n{'':<12}{metric.note}")


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
        out: folder for results.json, outcomes.jsonl and index.html (default: nothing is written).
        near: most bits of 64 that may differ.
    """
    from medvlm.dialogue.conversation import iterate_conversations
    from medvlm.evaluation.contamination import find_duplicates, hash_pictures
    from medvlm.evaluation.pages_scores import duplicates_page

    hashes = []
    for file in (train, test):
        names = {name for row in iterate_conversations(file) for name in row.images}
        hashes.append(hash_pictures(file.parent, names))
    found = find_duplicates(hashes[1], hashes[0], near)
    print(f"{len(found):,} of {len(hashes[1]):,} test pictures look like one of {len(hashes[0]):,} training pictures")
    for match in found[:20]:
        print(f"  {match.test}  ~  {match.train}  ({match.bits} bits)")
    if out is not None:
        counts = (len(hashes[1]), len(hashes[0]))
        data = {"schema": 1, "kind": "duplicates", "near": near, "test": counts[0], "train": counts[1]}
        data["found"] = len(found)
        page = duplicates_page(found, counts, (test.parent, train.parent), near)
        write_evaluation(open_console(), out, data, found, page)


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
    from rich.table import Table

    from medvlm.evaluation.compare import compare as run
    from medvlm.evaluation.page import write_page
    from medvlm.evaluation.pages_scores import comparison_page
    from medvlm.evaluation.table import gain, percent
    from medvlm.storage import write_json

    console = open_console()
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
