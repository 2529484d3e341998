"""Two evaluations side by side: comparable or visibly not, and if so, how they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvlm.errors import MedVLMError
from medvlm.evaluation.signature import Signature
from medvlm.evaluation.statistics import Paired, compare_paired
from medvlm.storage import read_json, read_jsonl


@dataclass(frozen=True)
class Comparison:
    """Groups of shared questions, and what the signatures say."""

    groups: Mapping[str, Paired]
    questions: int
    differences: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "kind": "comparison",
            "questions": self.questions,
            "differences": list(self.differences),
            "groups": {name: row.to_json() for name, row in self.groups.items()},
        }


def compare(first: Path, second: Path, seed: int = 0) -> Comparison:
    """Compare two folders that `medvlm evaluate` wrote, question by question.

    Args:
        first, second: folders with results.json and outcomes.jsonl of the same kind of evaluation.
        seed: of the bootstrap.

    Raises:
        MedVLMError: the evaluations are of different kinds or share no question.
    """
    results = [read_json(folder / "results.json") for folder in (first, second)]
    kinds = [result.get("kind", "closed_loop") for result in results]
    if kinds[0] != kinds[1]:
        raise MedVLMError(f"{first} is an evaluation of {kinds[0]}, {second} of {kinds[1]}; compare the same kind.")
    rows = [_rows(read_jsonl(folder / "outcomes.jsonl")) for folder in (first, second)]
    shared = [key for key in rows[0] if key in rows[1]]
    if not shared:
        raise MedVLMError(f"{first} and {second} have no question in common.")
    groups: dict[str, list[tuple[str, ...]]] = {"all": shared}
    for key in shared:
        row = rows[0][key]
        for name in (row.get("condition") or row.get("arm") or row.get("kind"), row.get("task")):
            if name:
                groups.setdefault(str(name), []).append(key)
    paired = {
        name: (
            [float(rows[0][key]["correct"]) for key in keys],
            [float(rows[1][key]["correct"]) for key in keys],
            [str(rows[0][key]["patient"]) for key in keys],
        )
        for name, keys in groups.items()
        if name == "all" or len(keys) < len(shared)
    }
    return Comparison(compare_paired(paired, seed), len(shared), tuple(_differences(results, rows)))


def _rows(outcomes: Sequence[dict[str, Any]]) -> dict[tuple[str, ...], dict[str, Any]]:
    return {
        (str(row["id"]), str(row.get("condition") or row.get("arm") or "")): row
        for row in outcomes
        if row.get("correct") is not None
    }


def _differences(results: Sequence[dict[str, Any]], rows: Sequence[Mapping[tuple[str, ...], Any]]) -> list[str]:
    found = []
    mine, theirs = (result.get("signatures") or {} for result in results)
    for name in mine:
        if name in theirs:
            for difference in Signature.parse(mine[name]).differences(Signature.parse(theirs[name])):
                if difference not in found:
                    found.append(difference)
    missing = len(set(rows[0]) ^ set(rows[1]))
    if missing:
        found.append(f"{missing} questions are in one evaluation only")
    return found
