"""What `design` prints: load, balance and power."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from medvlm.reader_study.plan import Plan, balance, loads
from medvlm.reader_study.power import (
    LIKERT,
    PowerComponents,
    cases_needed,
    components_from_merits,
    components_from_sds,
    power,
    simulated_power,
)
from medvlm.reader_study.spec import StudySpec


def load_table(spec: StudySpec, plan: Plan) -> Any:
    """Items, sittings, minutes and days of every reader."""
    from rich.table import Table

    table = Table(title=f"{spec.title}: load", title_justify="left")
    for name in ("reader", "group", "sittings", "items", "hours", "first day", "last day"):
        table.add_column(name, justify="left" if name in ("reader", "group") else "right")
    for row in loads(spec, plan):
        table.add_row(
            row.reader, row.group, str(row.sessions), str(row.items), f"{row.minutes / 60:.1f}",
            str(row.first or "-"), str(row.last or "-"),
        )  # fmt: skip
    return table


def balance_table(spec: StudySpec, plan: Plan) -> Any:
    """Main items by source and period, the smallest and largest number of one reader beside the sum."""
    from rich.table import Table

    by_period = balance(plan.assignments, "period")
    periods = sorted({period for counts in by_period.values() for period in counts})
    table = Table(title="balance: reads by source and period, all readers (one reader: least-most)",
                  title_justify="left")  # fmt: skip
    table.add_column("source")
    for period in periods:
        table.add_column(f"period {period}", justify="right")
    table.add_column("all", justify="right")
    own = {
        reader.id: balance([item for item in plan.assignments if item.reader == reader.id], "period")
        for reader in spec.readers
    }
    for source, counts in by_period.items():
        cells = []
        for period in periods:
            single = [tables.get(source, {}).get(period, 0) for tables in own.values()]
            cells.append(f"{counts.get(period, 0)} ({min(single)}-{max(single)})")
        table.add_row(source, *cells, str(sum(counts.values())))
    return table


def power_lines(spec: StudySpec, plan: Plan, simulations: int) -> Iterator[str]:
    """The power of the planned study, what other sizes would give, and where the components come from."""
    endpoint = spec.endpoint
    question = spec.form.question(endpoint.question)
    if question.kind == "pairwise":
        yield "power        of preferences: not computed; simulate the study with 'medvlm reader-study simulate'"
        return
    if endpoint.difference is None:
        yield "power        give endpoint.difference (what the study should be able to see) to compute it"
        return
    parts = power_components(spec)
    if parts is None:
        yield "power        an AUC endpoint needs endpoint.pilot (an iMRMC, RJafroc or CSV file) for its components"
        return
    main = [item for item in plan.assignments if item.role == "main" and not item.duplicate_of]
    cases = sorted({item.case for item in main})
    readers = [reader.id for reader in spec.readers]
    if len(readers) < 2:
        yield "power        one reader cannot stand for others; take two or more"
        return
    now = power(parts, len(readers), len(cases), endpoint.difference, endpoint.alpha)
    yield (
        f"power        {100 * now.power:.0f} % to see {endpoint.difference:g} in {question.id} ({endpoint.metric}): "
        f"{len(readers)} readers x {len(cases)} cases, if fully crossed (alpha {endpoint.alpha:g}, df2 {now.df2:.1f})"
    )
    design = np.zeros((len(readers), len(cases)), dtype=bool)
    place = {case: index for index, case in enumerate(cases)}
    for item in main:
        design[readers.index(item.reader), place[item.case]] = True
    simulated = simulated_power(parts, design, endpoint.difference, endpoint.alpha, simulations, spec.seed)
    if simulated is not None:
        yield f"             {100 * simulated:.0f} % in {simulations} simulated studies of this very design"
    needed = cases_needed(parts, len(readers), endpoint.difference, endpoint.alpha)
    yield f"needed       {needed or 'more than 5000'} cases with {len(readers)} readers for 80 %"
    sizes = sorted({3, 5, 8, 12, len(readers)})
    counts = sorted({30, 60, 120, 240, len(cases)})
    yield "             readers \\ cases " + "".join(f"{count:>7}" for count in counts)
    for size in sizes:
        cells = [power(parts, size, count, endpoint.difference, endpoint.alpha).power for count in counts]
        yield f"             {size:>15} " + "".join(f"{100 * value:>6.0f}%" for value in cells)
    yield f"components   {parts.origin}"


def power_components(spec: StudySpec) -> PowerComponents | None:
    """From the pilot, from the given standard deviations, or assumed."""
    endpoint = spec.endpoint
    if endpoint.pilot:
        from medvlm.reader_study.statistics.figures_of_merit import figures_of_merit
        from medvlm.reader_study.statistics.rating_files import read_ratings

        ratings = read_ratings(spec.folder / endpoint.pilot)
        merits = figures_of_merit(ratings, endpoint.metric, "jackknife")
        return components_from_merits(merits, len(ratings.cases), f"estimated from the pilot {endpoint.pilot}")
    if endpoint.metric == "auc":
        return None
    assumed = ", ".join(f"{name} {value:g}" for name, value in (LIKERT | dict(endpoint.components)).items())
    origin = "given in study.yaml" if endpoint.components else "ASSUMED (no pilot; set endpoint.components or .pilot)"
    return components_from_sds(endpoint.components, f"{origin}: {assumed}")
