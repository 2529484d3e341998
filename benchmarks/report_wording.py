"""How well the check of a report's sentences reads wordings that it was not made for.

    python benchmarks/report_wording.py --out benchmarks/results/report_wording.json

`report_sentences.yaml` holds sentences as people write them, labelled before the check saw them. A hash of the sentence
puts it into one of two halves: the check was completed on what it got wrong in the first; the second is the result,
and what it gets wrong there is counted and not shown.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medvlm.findings.codes import code
from medvlm.findings.finding import Code, Finding, Measurement, Provenance
from medvlm.reporting.support import check_sentence
from medvlm.storage import write_json

SENTENCES = Path(__file__).parent / "report_sentences.yaml"
HALVES = ("development", "held out")
MADE_BY = Provenance("truth", "1", "")
LOBES = {"upper": "upper_lobe", "middle": "middle_lobe", "lower": "lower_lobe"}
LIMIT = 0.5


@dataclass(frozen=True)
class Case:
    """A sentence, the findings it is about, and what is wrong with it (`right`: nothing)."""

    text: str
    label: str
    findings: tuple[Finding, ...]

    @property
    def half(self) -> str:
        return HALVES[hashlib.sha256(self.text.encode()).digest()[0] % 2]


def _finding(identifier: str, concept: str, presence: str, **more: Any) -> Finding:
    return Finding(identifier, "1", code(concept), presence, MADE_BY, **more)  # type: ignore[arg-type]


def _measured(**values: float) -> tuple[Measurement, ...]:
    units = {"long_axis": "mm", "volume": "mL", "cardiothoracic_ratio": "1"}
    return tuple(Measurement(code(name), value, units[name]) for name, value in values.items())


def findings_of(study: dict[str, Any]) -> tuple[Finding, ...]:
    """The findings of one study of the file, as an expert would state them."""
    sides: dict[str, Code] = {"left": code("left"), "right": code("right")}
    found = []
    for number, (side, lobe, grade, length, volume, *doubt) in enumerate(study["nodules"], start=1):
        found.append(
            _finding(
                f"nodule-{number}",
                "lung_nodule",
                doubt[0] if doubt else "present",
                laterality=sides[side],
                site=code(LOBES[lobe]),
                grade=grade,
                measurements=_measured(long_axis=length, volume=volume),
            )
        )
    if not study["nodules"]:
        found.append(_finding("nodule-0", "lung_nodule", "absent"))
    for side, volume in study["effusions"].items():
        found.append(
            _finding(
                f"effusion-{side}",
                "pleural_effusion",
                "present",
                laterality=sides[side],
                measurements=_measured(volume=volume),
            )
        )
    if not study["effusions"]:
        found.append(_finding("effusion-0", "pleural_effusion", "absent"))
    ratio = study["heart"]
    presence = "present" if ratio > LIMIT else "absent"
    found.append(_finding("heart", "cardiomegaly", presence, measurements=_measured(cardiothoracic_ratio=ratio)))
    return tuple(found)


def cases(path: Path = SENTENCES) -> Iterator[Case]:
    """Every sentence of the file."""
    for study in yaml.safe_load(path.read_text("utf-8")).values():
        findings = findings_of(study)
        for row in study["sentences"]:
            yield Case(row[-1], row[1] if row[0] == "wrong" else "right", findings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    for half in HALVES:
        total, flagged = Counter[str](), Counter[str]()
        for case in cases():
            if case.half != half:
                continue
            support = check_sentence(case.text, case.findings)
            total[case.label] += 1
            flagged[case.label] += not support.findings
            if half == HALVES[0] and bool(support.findings) != (case.label == "right"):
                print(f"  {case.label:10} {case.text}  [{support.reason or 'let through'}]")
        wrong = total.total() - total["right"]
        caught = flagged.total() - flagged["right"]
        print(f"{half:12} errors flagged {caught}/{wrong}, right sentences flagged {flagged['right']}/{total['right']}")
        kinds = {kind: f"{flagged[kind]}/{total[kind]}" for kind in sorted(total) if kind != "right"}
        print("             " + ", ".join(f"{kind} {count}" for kind, count in kinds.items()))
        results[half] = {
            "errors": wrong,
            "errors_flagged": caught,
            "right": total["right"],
            "right_flagged": flagged["right"],
            "kinds": kinds,
        }
    if options.out is not None:
        machine = f"{platform.machine()}, Python {platform.python_version()}"
        write_json(options.out, {"machine": machine, **results})


if __name__ == "__main__":
    main()
