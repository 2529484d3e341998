"""The small table at the end of a run."""

from __future__ import annotations

from rich.table import Table

from medvlm.evaluation.bootstrap import Interval
from medvlm.evaluation.closed_loop import ClosedLoop, TaskRow


def trigger_line(result: ClosedLoop) -> str:
    """`trigger 98 % when needed, 1 % when not`."""
    parts = []
    for interval, when in ((result.trigger.needed, "when needed"), (result.trigger.not_needed, "when not")):
        if interval is not None:
            parts.append(f"{percent(interval.value)} {when}")
    return "trigger " + ", ".join(parts)


def closed_loop_table(result: ClosedLoop, title: str = "") -> Table:
    """Task, accuracy without and with the expert, and gain with its 95 % interval, for tasks that need an expert."""
    table = Table(title=title or None, box=None, header_style="bold", pad_edge=False, padding=(0, 2))
    table.add_column("question")
    for name in ("n", "no expert", "with expert", "gain (95 % CI)"):
        table.add_column(name, justify="right")
    needing = {outcome.task for outcome in result.outcomes if outcome.expected}
    rows = [row for row in result.tasks if row.task in needing]
    for row in sorted(rows, key=lambda row: -row.gain.value):
        _add(table, row)
    if result.overall:
        table.add_section()
        _add(table, result.overall, style="bold")
    return table


def _add(table: Table, row: TaskRow, style: str = "") -> None:
    without, with_expert = percent(row.without.value), percent(row.with_expert.value)
    table.add_row(row.task.replace("_", " "), str(row.questions), without, with_expert, gain(row.gain), style=style)


def percent(share: float) -> str:
    """`71 %`."""
    return f"{100 * share:.0f} %"


def gain(interval: Interval) -> str:
    """`+65 (+56, +73)` in percentage points."""
    return f"{100 * interval.value:+.0f} ({100 * interval.low:+.0f}, {100 * interval.high:+.0f})"
