"""How well the check of a report's sentences tells right from wrong, on studies that no expert was trained on.

    python benchmarks/report_evidence.py COHORT FINDINGS --out benchmarks/report_evidence.json

For each held-out study of an annotated phantom cohort (`medvlm annotate`):

* the report's own text is composed from the expert's findings, and every number in it is traced;
* sentences about the true findings, in the varied wording of the phantom's reference reports, are checked against the
  true findings: a sentence that is not supported is a false flag;
* 200 of those sentences get one planted error each (side, size, unit, presence, level): one that is still supported is
  a miss.
"""

from __future__ import annotations

import argparse
import platform
import random
import re
from collections import Counter
from pathlib import Path

from medvlm.experts.annotate import read_annotations
from medvlm.findings.finding import Finding, read_findings
from medvlm.imaging.cohort import read_cohort
from medvlm.reporting.compose import impression
from medvlm.reporting.draft import draft_from_findings
from medvlm.reporting.numbers import trace_sentence
from medvlm.reporting.support import check_sentence, split_sentences
from medvlm.storage import write_json

PLANTED = 200
SIDES = {"left": "right", "right": "left"}
LEVELS = {"upper": "lower", "lower": "upper", "middle": "upper"}
UNITS = {"mm": "cm", "mL": "mm", "cm": "mm"}
KINDS = ("side", "size", "unit", "presence", "level")


def plant(sentence: str, kind: str) -> str | None:
    """The sentence with one error of a kind, or None where it has nothing to get wrong."""
    if kind == "side":
        return swap(sentence, SIDES)
    if kind == "level":
        return swap(sentence, LEVELS)
    if kind == "unit":
        match = re.search(r"(\d)\s*(mm|mL|cm)\b", sentence)
        return None if not match else sentence[: match.start(2)] + UNITS[match[2]] + sentence[match.end(2) :]
    if kind == "size":
        match = re.search(r"\d+(?:\.\d+)?", sentence)
        if not match:
            return None
        decimals = len(match[0].partition(".")[2])
        wrong = float(match[0]) * 1.5 + 10.0**-decimals
        return f"{sentence[: match.start()]}{wrong:.{decimals}f}{sentence[match.end() :]}"
    return deny(sentence)


def swap(sentence: str, pairs: dict[str, str]) -> str | None:
    """One word exchanged, keeping its capital."""
    match = re.search(rf"\b({'|'.join(pairs)})\b", sentence, re.I)
    if not match:
        return None
    word = pairs[match[0].lower()]
    return sentence[: match.start()] + (word.capitalize() if match[0][0].isupper() else word) + sentence[match.end() :]


def deny(sentence: str) -> str | None:
    """What is there is denied, what is not there is asserted."""
    denials = (
        (r"^No pulmonary nodule\.$", "There is a pulmonary nodule."),
        (r"^No pleural effusion\.$", "There is a pleural effusion."),
        (r"\bnot enlarged\b", "enlarged"),
        (r"\bis enlarged\b", "is not enlarged"),
        (r"^There is an? ", "There is no "),
        (r"^Heart size is normal", "The heart is enlarged"),
        (r"^Cardiomegaly", "No cardiomegaly"),
        (r"^No cardiomegaly; the", "Cardiomegaly; the"),
        (r"^A (\d+ mm .*) is present", r"No \1 is present"),
    )
    for pattern, wrong in denials:
        changed, count = re.subn(pattern, wrong, sentence)
        if count:
            return changed
    return None


def true_sentences(report: Path) -> list[str]:
    """The sentences of the findings and the impression of a reference report."""
    text = report.read_text(encoding="utf-8").partition("FINDINGS\n")[2].replace("IMPRESSION\n", "")
    return split_sentences(text)


def traced(findings: list[Finding]) -> tuple[int, int]:
    """Numbers in the text composed from these findings, and how many of them have an origin."""
    sentences = [*impression(findings), *draft_from_findings(findings).sentences]
    traces = [trace for one in sentences for trace in trace_sentence(one, findings)]
    return len(traces), sum(bool(trace.origin) for trace in traces)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("findings", type=Path)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    cohort = read_cohort(options.cohort)
    annotations = read_annotations(options.findings)
    entries = [e for split in ("test", "validation") for e in cohort.split(split) if e.id in annotations]
    entries = entries[: options.studies]
    numbers = with_origin = 0
    right: list[tuple[str, list[Finding]]] = []
    for entry in entries:
        count, found = traced(annotations[entry.id])
        numbers, with_origin = numbers + count, with_origin + found
        assert entry.truth is not None
        assert entry.report is not None
        truth = read_findings(cohort.root / entry.truth)
        right += [(sentence, truth) for sentence in true_sentences(cohort.root / entry.report)]
    false = [text for text, truth in right if not check_sentence(text, truth).findings]

    rng = random.Random(options.seed)
    planted: Counter[str] = Counter()
    missed: list[tuple[str, str]] = []
    pool = {kind: [(plant(text, kind), text, truth) for text, truth in right] for kind in KINDS}
    for kind in KINDS:
        usable = [(wrong, text, truth) for wrong, text, truth in pool[kind] if wrong is not None]
        for wrong, _, truth in rng.sample(usable, min(len(usable), PLANTED // len(KINDS))):
            planted[kind] += 1
            if check_sentence(wrong or "", truth).findings:
                missed.append((kind, wrong or ""))
    total = planted.total()
    print(f"held-out studies              {len(entries)}")
    print(f"numbers in the text           {numbers}, {100 * with_origin / max(numbers, 1):.1f} % traced")
    print(f"right sentences               {len(right)}, {100 * len(false) / max(len(right), 1):.1f} % flagged falsely")
    print(f"planted errors                {total}, {100 * (total - len(missed)) / max(total, 1):.1f} % flagged")
    for kind in KINDS:
        misses = sum(one == kind for one, _ in missed)
        print(f"  {kind:10} {planted[kind]:4}   flagged {planted[kind] - misses}")
    for text in dict.fromkeys(false):
        print(f"  false flag: {text}")
    for kind, text in missed:
        print(f"  missed {kind}: {text}")
    if options.out is not None:
        machine = f"{platform.machine()}, Python {platform.python_version()}"
        flagged = {kind: planted[kind] - sum(one == kind for one, _ in missed) for kind in KINDS}
        write_json(
            options.out,
            {
                "machine": machine,
                "studies": len(entries),
                "numbers": numbers,
                "numbers_traced": with_origin,
                "right_sentences": len(right),
                "false_flags": len(false),
                "planted": dict(planted),
                "flagged": flagged,
            },
        )


if __name__ == "__main__":
    main()
