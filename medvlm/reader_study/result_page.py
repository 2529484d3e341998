"""The result page: everything on one self-contained HTML page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import medvlm
from medvlm.reader_study import figures
from medvlm.reader_study.checklists import summary_of
from medvlm.reader_study.result_tables import ResultTable
from medvlm.storage import write_text

if TYPE_CHECKING:
    from medvlm.reader_study.analyze import Analysis

TEMPLATES = Path(__file__).parent / "templates"


def render_page(analysis: Analysis, methods: str, folder: Path) -> str:
    """HTML with inline figures; the figures are also written to `figures/`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    drawn = _figures(analysis)
    for name, (svg, _) in drawn.items():
        write_text(folder / "figures" / f"{name}.svg", '<?xml version="1.0"?>\n' + svg + "\n")
    first = analysis.tables[0]
    return environment.get_template("results.html.j2").render(
        title=analysis.title,
        facts=analysis.facts,
        main=first,
        figures=[(Markup(_unique(svg, name)), caption) for name, (svg, caption) in drawn.items()],
        tables=[table for table in analysis.tables[1:] if table.rows],
        notes=analysis.notes,
        methods=methods.split("\n\n"),
        checklists=summary_of(analysis),
        version=medvlm.__version__,
        style=Markup((TEMPLATES / "results.css").read_text(encoding="utf-8")),
        numeric=_numeric_columns,
    )


def _figures(analysis: Analysis) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    first = analysis.questions[0]
    if first.metric == "auc":
        found["roc"] = figures.roc_figure(first), "ROC curves: readers thin, the diagonal average thick."
    scales = [item for item in analysis.questions if item.metric == "mean" and 2 <= len(item.categories) <= 7]
    if scales:
        found["ratings"] = figures.bars_figure(scales), "Ratings by source, in per cent, centred on the middle."
    margin = analysis.facts.get("margin")
    for result in analysis.questions[:6]:
        forest = figures.forest_figure(result, margin)
        if forest:
            caption = f"{result.question}: each reader (dots) and each analysis (the primary one in blue)."
            found[f"forest_{result.question}"] = forest, caption
    if len(first.ratings.readers) > 1:
        found["agreement"] = figures.heat_figure(first), f"{first.question}: agreement of each pair of readers."
    return found


def _unique(svg: str, name: str) -> str:
    """Ids of several figures on one page must differ."""
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'xlink:href="#', f'xlink:href="#{name}-', svg)
    return re.sub(r"url\(#", f"url(#{name}-", svg)


def _numeric_columns(table: ResultTable) -> list[bool]:
    return [
        all(isinstance(row[column], int | float) or row[column] is None for row in table.rows)
        for column in range(len(table.columns))
    ]
