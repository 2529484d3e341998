"""What the commands of `medvlm evaluate` have in common: the model that is asked, and the files that are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from medvlm.evaluation.bootstrap import Interval
    from medvlm.evaluation.page import Page
    from medvlm.models.generate import Generator


def open_console() -> Console:
    """The terminal, without colours that are guessed."""
    from rich.console import Console

    return Console(highlight=False)


def open_generator(model: str, root: Path, batch_size: int, device: str, max_new_tokens: int = 64) -> Generator:
    """Any model in transformers format as what answers conversations whose pictures start from `root`."""
    from medvlm.models.generate import Generator
    from medvlm.models.load import load_model

    return Generator(load_model(model, device=device), max_new_tokens, batch_size, root)


def print_intervals(console: Console, title: str, rows: Mapping[Any, Interval | None]) -> None:
    """A table of names and intervals."""
    from rich.table import Table

    from medvlm.evaluation.page import interval_text

    table = Table(title, "value (95 % CI)", box=None, header_style="bold")
    for name, row in rows.items():
        table.add_row(str(name).replace("_", " "), interval_text(row))
    console.print(table)


def write_evaluation(console: Console, out: Path, results: dict[str, Any], outcomes: Sequence[Any], page: Page) -> None:
    """results.json, outcomes.jsonl and the page."""
    from medvlm.evaluation.page import write_page
    from medvlm.storage import write_json, write_jsonl

    write_json(out / "results.json", results)
    write_jsonl(out / "outcomes.jsonl", (outcome.to_json() for outcome in outcomes))
    write_page(page, out / "index.html")
    console.print(f"wrote {out / 'index.html'}, results.json and outcomes.jsonl")
