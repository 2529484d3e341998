"""`medvlm pathway`: lint, simulate, score and show clinical pathways."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from medvlm.errors import MedVLMError
from medvlm.storage import read_jsonl, write_jsonl, write_text

Order = Literal["standard", "conclusion_first", "random", "subset", "mixed"]
Hint = Literal["none", "right", "misleading", "confirm_right", "confirm_misleading", "mixed"]
PhrasingSplit = Literal["train", "heldout"]


def lint(file: str, data: Path | None = None, notes: bool = True) -> None:
    """Check a pathway file: phrasings, tables, rules, tests and what its reward can be gamed for.

    Example:
        medvlm pathway lint curricula/retina_dr

    Args:
        file: a pathway.yaml, a folder that holds one, the name of one in curricula/, or `all`.
        data: JSONL of conversations or of cases; also print which table rows they reach.
        notes: print notes (uncertain parts of the guideline) and warnings, not only errors.
    """
    from medvlm.pathways.lint import lint as run_lint
    from medvlm.pathways.loader import list_pathways, load_pathway
    from medvlm.pathways.reward import Scorer

    names: list[Any] = list(list_pathways().values()) if file == "all" else [file]
    failed = []
    for name in names:
        pathway = load_pathway(name)
        scorer = Scorer(pathway)
        report = run_lint(pathway, scorer)
        print(f"{pathway.id} {pathway.version}: {pathway.title}")
        for remark in sorted(report.remarks, key=lambda item: (item.level, item.line)):
            if notes or remark.level == "error":
                where = f"line {remark.line}" if remark.line else "file"
                print(f"  {remark.level:8} {where:9} {remark.text}")
        for what, value in report.figures.items():
            print(f"  {what:40} {value}")
        if data is not None:
            _print_coverage(scorer, data)
        if not report.ok:
            failed.append(pathway.file)
    if failed:
        raise MedVLMError(f"{', '.join(failed)}: has errors (above); mend the lines named.")
    print("no errors")


def _print_coverage(scorer: Any, data: Path) -> None:
    from medvlm.pathways.coverage import branch_coverage

    rows, total = branch_coverage(scorer, read_jsonl(data))
    reached = sum(row.cases > 0 for row in rows)
    print(f"  {'rows reached by ' + data.name:40} {reached} of {len(rows)} ({total} cases)")
    for row in rows:
        mark = f"{row.cases:7}" if row.cases else "  never"
        print(f"  {mark}  line {row.line:<5} {row.table}: {row.text}")


def simulate(
    file: str,
    out: Path = Path("conversations.jsonl"),
    count: int = 100,
    seed: int = 0,
    order: Order = "standard",
    hint: Hint = "none",
    phrasings: PhrasingSplit = "train",
    cases: Path | None = None,
    endpoint: str | None = None,
    model: str = "",
    api_key_env: str = "OPENAI_API_KEY",
) -> None:
    """Write conversations of a pathway as JSONL.

    Example:
        medvlm pathway simulate retina_dr --out conversations.jsonl --count 1000

    Args:
        file: a pathway.yaml, its folder or its name.
        out: JSONL file to write.
        count: number of conversations.
        seed: the same seed gives the same file.
        order: order of the questions.
        hint: what is slipped in before the conclusion.
        phrasings: sentences for training, or those held out for testing.
        cases: JSONL of cases (slot: symbol) to use instead of drawn ones.
        endpoint: OpenAI-compatible base URL; its rewordings are used where they read the same.
        model: model name at the endpoint.
        api_key_env: environment variable with the endpoint's key.
    """
    import os

    from rich.progress import track

    from medvlm.pathways.dialogues import read_truth
    from medvlm.pathways.loader import load_pathway
    from medvlm.pathways.paraphrase import Paraphraser
    from medvlm.pathways.reward import Scorer
    from medvlm.pathways.simulate import Simulator

    scorer = Scorer(load_pathway(file))
    listed = None
    if cases is not None:
        rows = enumerate(read_jsonl(cases), start=1)
        listed = [_complete(scorer, read_truth(scorer.pathway, row, str(cases), n), n) for n, row in rows]
    paraphraser = None
    if endpoint:
        cache = out.with_suffix(".paraphrases.json")
        paraphraser = Paraphraser(endpoint, model, cache, seed=seed, key=os.environ.get(api_key_env, ""))
    simulator = Simulator(scorer, paraphraser)
    made = simulator.conversations(count, seed, phrasings, order, hint, listed)
    shown: Iterable[Any] = track(made, f"{scorer.pathway.id}", total=count, disable=count < 2000)
    written = write_jsonl(out, shown)
    if paraphraser is not None:
        paraphraser.save()
    print(f"wrote {written} conversations to {out}")


def _complete(scorer: Any, case: dict[str, Any], number: int) -> dict[str, Any]:
    """A full case from a partial one: what does not follow is drawn."""
    from random import Random

    from medvlm.pathways.cases import spread

    fixed = {name: scorer.checker.allowed(name, symbol) for name, symbol in case.items()}
    drawn = scorer.checker.draw(Random(number), fixed)
    if drawn is None:
        raise MedVLMError(f"case {number} breaks the rules of {scorer.pathway.id}; mend it or leave it out.")
    return spread(scorer.checker, drawn, Random(number)) | case


def score(file: str, conversations: Path, out: Path | None = None, explain: int = 0) -> None:
    """Score a JSONL of conversations: rewards, accuracy by question and contradictions.

    Example:
        medvlm pathway score retina_dr answers.jsonl --out scores.jsonl

    Args:
        file: a pathway.yaml, its folder or its name.
        conversations: JSONL as `simulate` writes it, with any model's answers as assistant messages.
        out: JSONL to write, one score a conversation.
        explain: print the whole trace of this many conversations.
    """
    from medvlm.pathways.dialogues import score_row
    from medvlm.pathways.loader import load_pathway
    from medvlm.pathways.reward import Scorer

    scorer = Scorer(load_pathway(file))
    rows, results = read_jsonl(conversations), []
    right: dict[str, list[bool]] = {}
    whole = clashing = 0
    for number, row in enumerate(rows):
        result = score_row(scorer, row)
        correct = [term[3][0] in ("right", "within tolerance") for term in result.terms if term[1] == "correctness"]
        for slot, good in zip(row["symbols"]["asked"], correct):
            right.setdefault(slot, []).append(good)
        whole += all(correct)
        clashing += bool(result.conflicts)
        results.append(
            {
                "id": row.get("id", str(number)),
                "total": result.total,
                "turns": list(result.turns),
                "correctness": result.correctness,
                "consistency": result.consistency,
                "readings": [str(reading) for reading in result.readings],
                "conflicts": [{"slots": c.slots, "rules": c.rules} for c in result.conflicts],
                "trace": [str(term) for term in result.trace],
            }
        )
        if number < explain:
            print(f"{results[-1]['id']}  total {result.total:+.3f}")
            print("\n".join(f"  {term}" for term in result.trace))
    if not rows:
        raise MedVLMError(f"{conversations}: no conversations; make some with 'medvlm pathway simulate'.")
    answers = [good for items in right.values() for good in items]
    print(f"conversations                     {len(rows)}")
    print(f"mean reward                       {sum(item['total'] for item in results) / len(rows):+.3f}")
    print(f"answers right (A_Q)               {100 * sum(answers) / len(answers):.1f} %")
    print(f"whole conversations right (A_C)   {100 * whole / len(rows):.1f} %")
    print(f"contradicting themselves          {100 * clashing / len(rows):.1f} %")
    for slot, items in right.items():
        print(f"  {slot:32} {100 * sum(items) / len(items):5.1f} %  of {len(items)}")
    if out is not None:
        write_jsonl(out, results)
        print(f"wrote {out}")


def show(file: str, svg: Path | None = None, report: Path | None = None, grammar: str | None = None) -> None:
    """Print the tables of a pathway; draw it, read a report with it or print a decoding grammar.

    Example:
        medvlm pathway show retina_amd --svg retina_amd.svg

    Args:
        file: a pathway.yaml, its folder or its name.
        svg: file to draw the graph to.
        report: text file; print what it says about the pathway and where it contradicts the guideline.
        grammar: variable whose answer grammar (GBNF) to print, or `json` for a JSON Schema of all answers.
    """
    import json

    from medvlm.pathways.draw import draw_pathway, tables_text
    from medvlm.pathways.loader import load_pathway

    pathway = load_pathway(file)
    if grammar == "json":
        from medvlm.pathways.grammar import answers_schema

        print(json.dumps(answers_schema(pathway), indent=1))
    elif grammar:
        from medvlm.pathways.grammar import answer_grammar

        print(answer_grammar(pathway, pathway.slot(grammar)))
    elif report is not None:
        _print_report(pathway, report)
    else:
        print(tables_text(pathway))
    if svg is not None:
        write_text(svg, draw_pathway(pathway))
        print(f"wrote {svg}")


def _print_report(pathway: Any, path: Path) -> None:
    from medvlm.pathways.reports import ReportReader

    if not path.is_file():
        raise MedVLMError(f"{path}: no such file; give a text file with the report.")
    text = path.read_text(encoding="utf-8")
    reader = ReportReader(pathway)
    found = reader.read(text)
    for name, reading in found.readings.items():
        quotes = " | ".join(" ".join(text[start:end].split()) for start, end in reading.spans)
        print(f'{name:28} {reading!s:20} "{quotes}"')
    stated = {name: reading.symbol for name, reading in found.readings.items()}
    for conflict in found.conflicts:
        print(f"CONFLICT {' + '.join(conflict.slots)}: {reader.checker.explain(conflict, stated)}")
    print(f"{len(found.readings)} of {len(pathway.slots)} variables, {len(found.conflicts)} conflicts")


COMMANDS = {"lint": lint, "simulate": simulate, "score": score, "show": show}
