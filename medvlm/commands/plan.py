"""`medvlm plan`: parameters, memory, FLOPs, hours and dollars of a run, before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medvlm.errors import MedVLMError

if TYPE_CHECKING:
    from rich.console import Console

    from medvlm.models.cost import PartCost, Workload

EXAMPLE = "Example:  medvlm plan --config configs/stage4.yaml --hardware a100-80gb --dollars 2.00"
# Dense bf16 TFLOP/s (float16 for t4) and GiB of memory, from the vendors' data sheets.
HARDWARE: dict[str, tuple[float, float]] = {
    "a100-40gb": (312, 40),
    "a100-80gb": (312, 80),
    "h100-80gb": (989, 80),
    "l4": (121, 24),
    "l40s": (362, 48),
    "rtx4090": (165, 24),
    "t4": (65, 16),
}
GIB = 2**30


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes:
        parts: cost of one batch on one device, part by part (before sharding).
        work: that batch.
        devices: how many there are.
        steps: optimiser steps.
        batches: batches a device sees in the run.
        shards: devices that weights, gradients and optimiser states are each spread over.
        base_bytes: memory of the process before the model.
        seconds: of one batch on one device.
        groups: the optimiser's parameter groups, a line each.
    """

    parts: tuple[PartCost, ...]
    work: Workload
    devices: int
    steps: int
    batches: int
    shards: tuple[int, int, int]
    base_bytes: int
    seconds: float
    groups: tuple[str, ...] = ()

    @property
    def flops(self) -> int:
        return sum(part.flops for part in self.parts)

    @property
    def bytes(self) -> int:
        """Peak on one device."""
        return self.base_bytes + sum(sum(column) for column in self.memory().values())

    def memory(self) -> dict[str, tuple[int, int, int, int]]:
        """Part → bytes of weights, gradients, optimiser states and activations on one device."""
        weights, gradients, states = self.shards
        return {
            part.part: (
                part.weights // weights,
                part.gradients // gradients,
                part.optimizer // states,
                part.activations,
            )
            for part in self.parts
        }

    @property
    def hours(self) -> float:
        return self.seconds * self.batches / 3600


def main(argv: Sequence[str]) -> None:
    """Print the plan of a run; takes all options of `medvlm fit`."""
    from rich.console import Console

    from medvlm.commands.run_settings import SettingsCLI, parse_run

    cli = parse_run(SettingsCLI, "medvlm plan", EXAMPLE, argv, add_options)
    console = Console(highlight=False, width=max(100, Console().width))
    show(console, make_plan(cli.config), cli.config)


def add_options(parser: Any) -> None:
    """The planner's own options."""
    names = ", ".join(["here", *HARDWARE])
    parser.add_argument("--hardware", type=str, default="here", help=f"one of {names}")
    parser.add_argument("--utilisation", type=float, default=0.35, help="share of the peak that a GPU reaches")
    parser.add_argument("--dollars", type=float, default=None, help="price of one device for an hour")
    parser.add_argument("--rows", type=int, default=None, help="training conversations, when the data is not here")
    parser.add_argument("--row_tokens", type=int, default=1024, help="tokens of one, when the data is not here")
    parser.add_argument("--row_images", type=float, default=1.0, help="pictures of one, when the data is not here")
    parser.add_argument("--learnt", type=float, default=0.25, help="share of learnt tokens, when the data is not here")


def make_plan(config: Any) -> Plan:
    """Plan a parsed run.

    Raises:
        MedVLMError: unknown hardware or model, or data that are neither here nor described.
    """
    from medvlm.commands.plan_run import batch_of, devices_of, groups_of, in_words, packs, run_length, shards_of, sketch
    from medvlm.models.cost import part_costs
    from medvlm.training.probe import process_bytes, seconds_here, update_seconds

    if config.hardware != "here" and config.hardware not in HARDWARE:
        raise MedVLMError(f"unknown hardware '{config.hardware}'; choose here, {', '.join(HARDWARE)}.")
    drawn = sketch(config)
    work, batches_an_epoch = batch_of(config, drawn)
    devices = devices_of(config)
    steps, batches = run_length(config, batches_an_epoch, devices)
    parts = tuple(part_costs(drawn.model, drawn.tuning, work, drawn.state_bytes))
    groups = groups_of(config, drawn)
    if config.hardware == "here":
        seconds, base = seconds_here(drawn.model, drawn.tuning, work, parts, packs(config, drawn)), process_bytes()
        seconds += update_seconds(groups, drawn.model.dtype) * steps / batches
    else:
        peak = HARDWARE[config.hardware][0] * 1e12
        seconds, base = sum(part.flops for part in parts) / (peak * config.utilisation), 2 * GIB
    words = tuple(in_words(group) for group in groups)
    return Plan(parts, work, devices, steps, batches, shards_of(config, devices), base, seconds, words)


def show(console: Console, plan: Plan, config: Any) -> None:
    """Print a plan."""
    from rich.table import Table

    table = Table(title=f"one batch on one of {plan.devices} device(s), GiB", title_justify="left")
    for name in ("part", "parameters", "train", "weights", "gradients", "optimiser", "activations", "TFLOP"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for part in plan.parts:
        columns = [f"{value / GIB:.2f}" for value in plan.memory()[part.part]]
        table.add_row(part.part, f"{part.parameters:,}", f"{part.trainable:,}", *columns, f"{part.flops / 1e12:.2f}")
    console.print(table)
    for part in plan.parts:
        if part.estimated:
            console.print(f"[yellow]estimate[/yellow]   {part.part}, from the sizes of its weights: {part.estimated}")
    for group in plan.groups:
        console.print(f"group      {group}")
    if plan.devices > 1:
        names = zip(("weights", "gradients", "optimiser states"), plan.shards)
        console.print("sharding   " + ", ".join(f"{name} over {count}" for name, count in names))
    work = plan.work
    console.print(
        f"batch      {work.rows} x {work.length} tokens, {work.supervised} learnt, {work.images} pictures encoded"
    )
    room = "" if config.hardware == "here" else f" of {HARDWARE[config.hardware][1]:.0f}"
    process = plan.base_bytes / GIB
    console.print(f"memory     {plan.bytes / GIB:.1f}{room} GiB at the peak, {process:.1f} of them the process")
    each = f"{plan.seconds:.2f} s a batch, {plan.batches:,} batches a device, {plan.steps:,} steps"
    total = f"{plan.hours:.1f} h" if plan.hours >= 1 else f"{60 * plan.hours:.0f} min"
    console.print(f"time       {each}: {total}")
    if config.dollars is not None:
        console.print(f"price      {plan.hours * plan.devices * config.dollars:,.0f} dollars")
    if config.hardware != "here" and plan.bytes / GIB > HARDWARE[config.hardware][1]:
        console.print(
            "[yellow]does not fit[/yellow]: shard (trainer.strategy), checkpoint activations "
            "(model.paths.checkpointing) or lower data.batch_tokens"
        )


MAIN = main
