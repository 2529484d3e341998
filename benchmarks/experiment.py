"""What the experiments share: one curriculum a seed, resumable; intervals over seeds; a table, JSON and a plot.

Every arm is a stage (or a chain of stages) of one curriculum run, so that arms of one seed have the same patients, the
same start and the same tests. A run that was stopped goes on; a seed that is finished is only read.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy import stats

from medvlm.curricula.run import Run
from medvlm.curricula.spec import Curriculum
from medvlm.storage import atomic_path, read_json, write_json

Tests = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95 % interval by Student's t, in per cent (or points, for a difference)."""

    mean: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:5.1f} (one seed)"
        return f"{self.mean:5.1f} ({self.low:5.1f} to {self.high:5.1f})"


def interval(values: Sequence[float]) -> Interval:
    """Mean and interval of shares 0..1, as per cent; without an interval for a single seed."""
    percent = 100 * np.asarray(values, dtype=float)
    mean = float(percent.mean())
    if len(percent) < 2:
        return Interval(mean, None, None)
    half = float(stats.t.ppf(0.975, len(percent) - 1) * percent.std(ddof=1) / np.sqrt(len(percent)))
    return Interval(mean, mean - half, mean + half)


def arguments(description: str, name: str) -> argparse.Namespace:
    """The command line of an experiment."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("runs") / name, help="one folder a seed is kept here")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="begin with this seed, to share seeds between processes")
    parser.add_argument("--patients", type=int, default=0, help="fewer patients for a quick look")
    parser.add_argument("--report", action="store_true", help="only read what is finished")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results") / f"{name}.json")
    return parser.parse_args()


def run_seeds(curriculum: Curriculum, given: argparse.Namespace) -> list[dict[str, Any]]:
    """The cards of all seeds that are finished, in order; those that are not are run first."""
    if given.patients:
        curriculum = replace(curriculum, cases=replace(curriculum.cases, patients=given.patients))
    cards = []
    for seed in range(given.first, given.seeds):
        out = given.runs / f"seed-{seed}"
        if not given.report:
            if curriculum.cases.seed is not None and seed:
                _same_patients(given.runs / "seed-0", out)
            Run(replace(curriculum, seed=seed), out, Console(highlight=False), workers=1)()
        if (out / "card.json").is_file():
            card = read_json(out / "card.json")
            if len(card["stages"]) == len(curriculum.stages):
                cards.append(card)
    return cards


def _same_patients(first: Path, out: Path) -> None:
    """The patients, what the expert found and the pictures are those of the first seed: drawn and read once."""
    for name in ("cohort", "findings", "conversations/images"):
        if (first / name).is_dir() and not (out / name).is_dir():
            with atomic_path(out / name) as temporary:
                shutil.copytree(first / name, temporary, copy_function=os.link)


def tests_of(card: Mapping[str, Any], stage: str) -> Tests:
    """The tests after a stage."""
    found: Tests = next(row["tests"] for row in card["stages"] if row["id"] == stage)
    return found


def over_seeds(cards: Sequence[Mapping[str, Any]], stage: str, value: Callable[[Tests], float]) -> list[float]:
    """One number of a stage's tests, seed by seed."""
    return [float(value(tests_of(card, stage))) for card in cards]


def machine() -> str:
    """The machine, for the record."""
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def save(given: argparse.Namespace, curriculum: Curriculum, cards: Sequence[Any], results: dict[str, Any]) -> None:
    """Write the results with what they were measured on."""
    write_json(
        given.out,
        {
            "curriculum": curriculum.id,
            "machine": machine(),
            "seeds": [card["seed"] for card in cards],
            "patients": [card["data"]["studies"] for card in cards],
            "minutes": [round(sum(sum(row["seconds"].values()) for row in card["stages"]) / 60, 1) for card in cards],
            "versions": cards[0]["versions"],
            **results,
        },
    )
    print(f"wrote {given.out}")


def plot(path: Path, groups: Mapping[str, Mapping[str, Interval]], label: str) -> None:
    """Bars with intervals: one group of bars a row, one colour an arm.

    Args:
        path: PNG to write.
        groups: group → arm → interval.
        label: of the vertical axis.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    arms = list(next(iter(groups.values())))
    figure, axes = pyplot.subplots(figsize=(1.6 + 1.5 * len(groups), 3.6), layout="constrained")
    colours = ("#9aa5b1", "#4c78a8", "#54a24b", "#e4b23a", "#b279a2")
    width = 0.8 / len(arms)
    for number, arm in enumerate(arms):
        rows = [group[arm] for group in groups.values()]
        places = np.arange(len(groups)) + (number - (len(arms) - 1) / 2) * width
        reach = [
            [row.mean - (row.mean if row.low is None else row.low) for row in rows],
            [(row.mean if row.high is None else row.high) - row.mean for row in rows],
        ]
        colour = colours[number % len(colours)]
        axes.bar(places, [row.mean for row in rows], width * 0.92, color=colour, label=arm, zorder=2)
        axes.errorbar(places, [row.mean for row in rows], reach, fmt="none", ecolor="#333333", capsize=2, zorder=3)
    axes.set_xticks(np.arange(len(groups)), list(groups))
    axes.set_ylabel(label)
    axes.set_ylim(0, 105)
    axes.grid(axis="y", color="#dddddd", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=len(arms), loc="upper center", bbox_to_anchor=(0.5, -0.12))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    pyplot.close(figure)
    print(f"wrote {path}")
