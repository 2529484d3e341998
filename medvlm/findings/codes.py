"""The coded concepts of the package: one reviewed table, `codes.csv`.

Columns: `key` is our name; `scheme`, `value` and `meaning` are the code; `kind` says what it is (`list`: things that
are counted and numbered; `line`: one line; `state`: a structure in a state, such as an enlarged heart; `site`, `side`,
`measurement`); `text` and `plural` are how it is written, `state` the word for a `state` that is present.
A measurement without `text` is written bare, because its unit says what it is (14 mm, 1.2 mL).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

from medvlm.errors import MedVLMError
from medvlm.findings.finding import Code


@dataclass(frozen=True)
class Concept:
    """A row of the table."""

    key: str
    code: Code
    kind: str
    text: str
    plural: str
    state: str


@cache
def concepts() -> dict[str, Concept]:
    """Key → Concept, in the order of the table."""
    table = resources.files("medvlm.findings").joinpath("codes.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(table.splitlines())
    return {
        row["key"]: Concept(
            row["key"],
            Code(row["value"], row["scheme"], row["meaning"]),
            row["kind"],
            row["text"],
            row["plural"],
            row["state"],
        )
        for row in rows
    }


@cache
def _by_code() -> dict[tuple[str, str], Concept]:
    return {(concept.code.scheme, concept.code.value): concept for concept in concepts().values()}


def code(key: str) -> Code:
    """The code of a concept (`code("pleural_effusion")`).

    Raises:
        MedVLMError: the table has no such key (suggests near ones).
    """
    try:
        return concepts()[key].code
    except KeyError:
        import difflib

        near = difflib.get_close_matches(key, concepts(), 3)
        hint = f"; did you mean {', '.join(near)}?" if near else "."
        raise MedVLMError(f"no concept '{key}' in findings/codes.csv{hint}") from None


def concept_of(code: Code) -> Concept:
    """The table's row for a code; a code of a user's own is written as its meaning, on one line."""
    known = _by_code().get((code.scheme, code.value))
    return known or Concept(code.value, code, "line", code.meaning[:1].lower() + code.meaning[1:], "", "")
