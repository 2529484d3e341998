"""Measure the pathways: speed of scoring and checking, precision and recall of the answer parser, fuzzing.

    python benchmarks/pathways.py --out benchmarks/pathways.json

Times are processor seconds of one core. `--fuzz 100000` reads that many random texts.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import yaml

from medvlm.pathways import NOT_ASSESSABLE, list_pathways, load_pathway, parse_pathway, show_symbol
from medvlm.pathways.consistency import Checker
from medvlm.pathways.dialogues import assistant_texts, read_truth
from medvlm.pathways.lint import lint
from medvlm.pathways.quantities import Interval
from medvlm.pathways.reward import Answer, Scorer
from medvlm.pathways.simulate import Simulator
from medvlm.storage import write_json

ROOT = Path(__file__).resolve().parents[1]


def scoring_speed() -> dict[str, float]:
    """Conversations of five turns a second: with the wordings of the pathway, and with every answer never seen."""
    scorer = Scorer(load_pathway("bone_marrow"))
    rows = list(Simulator(scorer).conversations(3000, 0, order="random"))
    items = []
    for row in rows:
        symbols = row["symbols"]
        texts = assistant_texts(row["messages"])
        answers = [Answer(*item) for item in zip(symbols["asked"], texts, symbols["questions"])]
        items.append((answers, read_truth(scorer.pathway, symbols["truth"], row["id"])))
    random = Random(0)
    new = [
        ([Answer(a.slot, f"{a.text} Case {random.randrange(10**9)}.", a.question) for a in answers], truth)
        for answers, truth in items
    ]
    figures = {}
    for name, batch in (("repeated wordings", items), ("every answer new", new)):
        fresh = Scorer(scorer.pathway)
        fresh.score(*batch[0])
        started = time.process_time()
        for answers, truth in batch:
            fresh.score(answers, truth)
        figures[name] = round(len(batch) / (time.process_time() - started))
    return figures


def thirty_variables() -> str:
    """A pathway of 30 variables with chained rules and tables."""
    lines = ["pathway: {id: thirty, title: Thirty, version: '1', source: [benchmark]}", "variables:"]
    lines += [f"  v{number}: {{type: boolean}}" for number in range(20)]
    for number in range(10):
        lines.append(f"  g{number}: {{type: ordinal, values: {{a: [a], b: [b], c: [c]}}}}")
    lines.append("rules:")
    lines += [f"  r{number}: {{if: v{number}, then: 'v{number + 1} or v{number + 2}'}}" for number in range(0, 17)]
    lines.append("decisions:")
    for number in range(10):
        first, second = f"v{2 * number}", f"v{2 * number + 1}"
        lines.append(f"  g{number}:")
        lines.append("    rows:")
        lines.append(f"      - {{if: '{first} and {second}', then: c}}")
        lines.append(f"      - {{if: '{first} or {second}', then: b}}")
        lines.append("    else: a")
    return "\n".join(lines)


def checking_speed(count: int = 3000) -> dict[str, float]:
    """Milliseconds to check one conversation of a 30-variable pathway; half of the conversations have wrong answers."""
    checker = Checker(parse_pathway(thirty_variables()))
    random = Random(0)
    paths = []
    for number in range(count):
        case = checker.draw(random, {}) or {}
        asked = random.sample(list(case), random.randint(5, 30))
        path = {name: case[name] for name in asked}
        if number % 2:
            wrong = random.choice(asked)
            path[wrong] = random.choice(checker.domains[wrong].symbols)
        paths.append(path)
    checker.conflicts(paths[0])
    times = []
    for path in paths:
        started = time.process_time()
        checker.conflicts(path)
        times.append(1000 * (time.process_time() - started))
    times.sort()
    return {"mean ms": round(sum(times) / count, 4), "99th percentile ms": round(times[int(0.99 * count)], 3)}


def expected_symbols(expected: Any) -> list[str]:
    """The adversarial file's expectation as printed symbols; `-` is no symbol."""
    if isinstance(expected, list):
        return [show_symbol(frozenset(expected))]
    if isinstance(expected, int | float):
        return [show_symbol(float(expected))]
    return str(expected).split("|")


def written_answers(file: str) -> dict[str, Any]:
    """Precision and recall on a file of hand-written answers, in all and by pathway."""
    groups = yaml.safe_load((ROOT / "tests/pathways" / file).read_text(encoding="utf-8"))
    table: dict[str, Counter[str]] = {}
    scorers = {}
    for group in groups:
        name = group["pathway"]
        parser = scorers.setdefault(name, Scorer(load_pathway(name))).parser
        counts = table.setdefault(name, Counter())
        for case in group["cases"]:
            reading = parser.read(case[0], group["variable"], case[2] if len(case) > 2 else None)
            wanted = expected_symbols(case[1])
            counts["cases"] += 1
            counts["wanted"] += "-" not in wanted
            if reading.state == "value":
                bound = isinstance(reading.symbol, Interval) and "-" not in wanted
                right = bound or show_symbol(reading.symbol) in wanted
                counts["read right" if right else "read wrong"] += 1
                counts["recalled"] += right and "-" not in wanted
    whole: Counter[str] = sum(table.values(), Counter())
    table["all"] = whole
    return {
        name: {
            "cases": counts["cases"],
            "wrong": counts["read wrong"],
            "precision": round(counts["read right"] / max(counts["read right"] + counts["read wrong"], 1), 4),
            "recall": round(counts["recalled"] / max(counts["wanted"], 1), 4),
        }
        for name, counts in table.items()
    }


def library() -> dict[str, dict[str, str]]:
    """Lint figures of every pathway."""
    return {name: lint(load_pathway(path)).figures for name, path in list_pathways().items()}


_ALPHABETS = (
    "no not AML MM blasts normal yes, . ; or and cannot exclude 12 mm cm 4A ",
    "".join(chr(code) for code in range(32, 0x250)),
    "".join(chr(code) for code in (*range(0x370, 0x600), *range(0x4E00, 0x4F00), *range(0x1F600, 0x1F650))),
    "((([[[---,,,;;;:::???!!!  \n\t0123456789./%<>=~",
)


_FUZZ_WORDS = tuple(_ALPHABETS[0].replace("AML", "AML SRF drusen Lung-RADS possible 1.2").split())


def fuzz(count: int) -> dict[str, float]:
    """Read random texts against random slots of the library; the slowest in milliseconds."""
    random = Random(0)
    scorers = [Scorer(load_pathway(path)) for path in list_pathways().values()]
    slots = [(one, slot) for one in scorers for slot in one.pathway.slots.values()]
    words = _FUZZ_WORDS
    slowest, with_pauses, states = 0.0, 0.0, Counter[str]()
    for one, slot in slots:
        one.parser.reader(slot).read("warm up", slot.member)
    for number in range(count):
        one, slot = random.choice(slots)
        size = random.randint(0, 400)
        if number % 3:
            alphabet = random.choice(_ALPHABETS)
            text = "".join(random.choices(alphabet, k=size))
        else:
            text = " ".join(random.choices(words, k=size // 4))
        started = time.process_time()
        reading = one.parser.reader(slot).read(text, slot.member)
        taken = 1000 * (time.process_time() - started)
        with_pauses = max(with_pauses, taken)
        if taken > slowest:
            # Again, so that a pause of the garbage collector is not taken for the parser's time.
            started = time.process_time()
            one.parser.reader(slot).read(text, slot.member)
            slowest = max(slowest, min(taken, 1000 * (time.process_time() - started)))
        assert reading.state != "value" or reading.symbol == NOT_ASSESSABLE or reading.symbol is not None
        states[reading.state] += 1
    return {
        "texts": count,
        "exceptions": 0,
        "slowest ms": round(slowest, 2),
        "with pauses ms": round(with_pauses, 2),
        **states,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--fuzz", type=int, default=2000)
    options = parser.parse_args()
    result = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}, one core, processor time",
        "five-turn conversations scored a second": scoring_speed(),
        "30 variables, one conversation checked": checking_speed(),
        "adversarial answers": written_answers("adversarial.yaml"),
        "free wordings": written_answers("free_wordings.yaml"),
        "library": library(),
        "fuzzing": fuzz(options.fuzz),
    }
    print(json.dumps(result, indent=1, ensure_ascii=False))
    if options.out:
        write_json(options.out, result)


if __name__ == "__main__":
    main()
