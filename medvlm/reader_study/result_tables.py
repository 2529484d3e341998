"""Result tables: one structure, written as CSV, LaTeX and HTML."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvlm.storage import write_text

_LATEX = str.maketrans(
    {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
     "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "<": r"\textless{}", ">": r"\textgreater{}"}
)  # fmt: skip


@dataclass(frozen=True)
class ResultTable:
    """A titled table; numbers stay numbers (CSV has them in full), `note` says how they were computed."""

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""

    def csv(self) -> str:
        """All digits, empty cells for what is not defined."""
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(self.columns)
        for row in self.rows:
            writer.writerow(["" if _undefined(cell) else cell for cell in row])
        return buffer.getvalue()

    def latex(self) -> str:
        """A booktabs table."""
        layout = "".join("r" if _numeric(self.rows, column) else "l" for column in range(len(self.columns)))
        head = " & ".join(name.translate(_LATEX) for name in self.columns)
        body = [" & ".join(shown(cell).translate(_LATEX) for cell in row) + r" \\" for row in self.rows]
        lines = [
            r"% needs \usepackage{booktabs}", r"\begin{table}", r"\centering",
            rf"\caption{{{self.title.translate(_LATEX)}. {self.note.translate(_LATEX)}}}", rf"\label{{tab:{self.key}}}",
            rf"\begin{{tabular}}{{{layout}}}", r"\toprule", head + r" \\", r"\midrule", *body, r"\bottomrule",
            r"\end{tabular}", r"\end{table}",
        ]  # fmt: skip
        return "\n".join(lines) + "\n"

    def shown_rows(self) -> list[list[str]]:
        """Cells as they are printed."""
        return [[shown(cell) for cell in row] for row in self.rows]


def _undefined(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _numeric(rows: Sequence[Sequence[Any]], column: int) -> bool:
    return all(isinstance(row[column], int | float) or row[column] is None for row in rows)


def shown(cell: Any) -> str:
    """A number as people print it: three decimals, small ones in full, `-` for what is not defined."""
    if _undefined(cell):
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        if math.isinf(cell):
            return "inf" if cell > 0 else "-inf"
        if cell == int(cell) and abs(cell) >= 100:
            return str(int(cell))
        return f"{cell:.3f}" if abs(cell) >= 0.0005 or cell == 0 else f"{cell:.2g}"
    return str(cell)


def p_text(p: float) -> str:
    """`p < 0.001` or `p = 0.034`."""
    if math.isnan(p):
        return "p not defined"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def write_tables(folder: Path, tables: Sequence[ResultTable]) -> None:
    """Write `tables/<key>.csv` and `latex/<key>.tex`."""
    for table in tables:
        write_text(folder / "tables" / f"{table.key}.csv", table.csv())
        write_text(folder / "latex" / f"{table.key}.tex", table.latex())
