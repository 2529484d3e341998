"""`medvlm quickstart`: the whole path, from synthetic patients to a specialised model and its first report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Console

    from medvlm.evaluation.closed_loop import ClosedLoop
    from medvlm.imaging.cohort import Cohort, CohortEntry

EXPERT = "chest_ct"


def quickstart(
    out: Path = Path("runs/quickstart"),
    patients: int = 160,
    epochs: int | None = None,
    seed: int = 0,
    workers: int = 2,
    recipe: str = "quickstart.yaml",
    model: Literal["tiny", "small"] = "tiny",
) -> None:
    """Run the whole path on synthetic patients: phantom clinic, expert, fine-tuning, closed loop, report.

    Everything it shows is measured in this run, on patients that were never trained on. Run it again to continue an
    interrupted run; what is finished is not redone.

    Example:
        medvlm quickstart --out runs/quickstart

    Args:
        out: folder of the run.
        patients: size of the phantom clinic; a fifth of it is held out.
        epochs: passes over the training conversations (default: what the config says).
        seed: of the patients, the conversations and the training.
        workers: processes that make phantoms and pictures.
        recipe: training config of `tiny`, by name or path.
        model: `tiny` (from scratch, minutes) or `small` (a pretrained language model of 135 M parameters, an hour).
    """
    from rich.console import Console

    console = Console(highlight=False)
    started = time.monotonic()
    cohort = make_clinic(console, out, patients, seed, workers)
    annotate_clinic(console, out)
    build_data(console, out, cohort, seed, workers)
    if model == "small":
        from medvlm.commands.quickstart_small import train_small

        train_small(console, out, seed)
    else:
        train_model(console, "stage 4", out / "fit", recipe, out / "conversations" / "train.jsonl", epochs, seed)
    measure_closed_loop(console, out, cohort, seed)
    shown = report_one(console, out, cohort)
    console.print(f"\nthe whole path took {clock(time.monotonic() - started)}; all patients are synthetic", style="dim")
    study = out / "clinic" / shown.study
    console.print(f'next: medvlm ask {study} "How large is the largest nodule?" --model {out / "fit" / "model"}')


@contextmanager
def step(console: Console, name: str) -> Iterator[list[str]]:
    """Time one step and print its line; the caller appends what the step has to say."""
    begin = time.monotonic()
    said: list[str] = []
    yield said
    console.print(f"[bold]{name:<15}[/bold]  {'   '.join(said)}   [dim]{clock(time.monotonic() - begin)}[/dim]")


def clock(seconds: float) -> str:
    """`4:10`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def make_clinic(console: Console, out: Path, patients: int, seed: int, workers: int) -> Cohort:
    """The phantom clinic, written as DICOM."""
    from medvlm.phantom.cohort import make_cohort

    with step(console, "phantom clinic") as said:
        cohort = make_cohort(out / "clinic", patients, seed, workers=workers)
        shares = "/".join(str(len(cohort.split(split))) for split in ("train", "validation", "test"))
        said.append(f"{len(cohort.entries)} synthetic chest CT studies, one a patient ({shares})")
    return cohort


def annotate_clinic(console: Console, out: Path) -> None:
    """The expert's findings for every study."""
    from medvlm.experts.annotate import annotate_cohort

    with step(console, f"expert {EXPERT}") as said:
        done = annotate_cohort(out / "clinic", out / "findings", [EXPERT])
        said.append(f"{done.findings} findings for {done.studies} studies")
        if done.failed:
            said.append(f"[yellow]{len(done.failed)} failed[/yellow]")


def build_data(console: Console, out: Path, cohort: Cohort, seed: int, workers: int) -> None:
    """Conversations with the findings injected."""
    from medvlm.dialogue.build import Mix
    from medvlm.dialogue.dataset import build_dataset

    with step(console, "conversations") as said:
        card = build_dataset(cohort, out / "findings", EXPERT, out / "conversations", Mix(), seed, workers)
        said += [f"{count:,} {split}" for split, count in card["conversations"].items()]
        said.append(f"{card['shared_patients']} shared patients")


def train_model(
    console: Console,
    name: str,
    fit: Path,
    config: str,
    data: Path,
    epochs: int | None,
    seed: int,
    start: Path | None = None,
) -> None:
    """One training through the same command line that users call; a finished one is kept, a stopped one goes on.

    Args:
        console: where progress is printed.
        name: of the step.
        fit: folder of the run.
        config: its settings, by name or path.
        data: training conversations; `validation.jsonl` is beside them.
        epochs: passes over them (default: what the config says).
        seed: of the training.
        start: folder of the model to start from (default: what the config says).
    """
    from medvlm.content import find_content
    from medvlm.training.cli import main

    if any((fit / "model" / file).is_file() for file in ("config.json", "adapter_config.json")):
        console.print(f"[bold]{name:<15}[/bold]  the model in {fit / 'model'} is used again")
        return
    path = find_content("configs", config)
    argv = ["fit", "--config", str(path), "--seed_everything", str(seed), f"--trainer.default_root_dir={fit}"]
    argv += [f"--data.train=[{data}]", f"--data.validation=[{data.parent / 'validation.jsonl'}]"]
    if epochs is not None:
        argv.append(f"--trainer.max_epochs={epochs}")
    if start is not None:
        argv.append(f"--model.name={start}")
    if (fit / "checkpoints" / "last.ckpt").is_file():
        argv.append(f"--ckpt_path={fit / 'checkpoints' / 'last.ckpt'}")
    console.print(f"[bold]{name:<15}[/bold]  medvlm fit --config {config}")
    with step(console, "trained") as said:
        main(argv)
        said.append(f"model in {fit / 'model'}")


def measure_closed_loop(console: Console, out: Path, cohort: Cohort, seed: int) -> ClosedLoop:
    """The held-out questions with and without the expert; the model itself must call it."""
    from medvlm.dialogue.conversation import read_conversations
    from medvlm.dialogue.loop import Desk
    from medvlm.evaluation.closed_loop import run_closed_loop
    from medvlm.evaluation.table import closed_loop_table, trigger_line
    from medvlm.experts.registry import load_expert
    from medvlm.imaging.reader import load_study
    from medvlm.models.generate import Generator
    from medvlm.models.load import load_model
    from medvlm.storage import write_json, write_jsonl

    studies = {entry.id: cohort.root / entry.study for entry in cohort.split("test")}
    with step(console, "closed loop") as said:
        generate = Generator(load_model(str(out / "fit" / "model")), batch_size=64, root=out / "conversations")
        result = run_closed_loop(
            read_conversations(out / "conversations" / "test.jsonl"),
            generate,
            Desk([load_expert(EXPERT)]),
            load=lambda study: load_study(studies[study]),
            seed=seed,
        )
        write_json(out / "results.json", result.to_json())
        write_jsonl(out / "outcomes.jsonl", (outcome.to_json() for outcome in result.outcomes))
        said.append(trigger_line(result))
    title = f"answers on {len(studies)} held-out patients; without and with the expert's findings"
    console.print(closed_loop_table(result, title))
    return result


def report_one(console: Console, out: Path, cohort: Cohort) -> CohortEntry:
    """The report of the held-out patient with the most to say."""
    from medvlm.commands.report import print_summary
    from medvlm.findings.finding import read_findings
    from medvlm.imaging.reader import load_study
    from medvlm.reporting.generate import open_experts, write_report

    def richness(entry: CohortEntry) -> int:
        truth = read_findings(cohort.root / str(entry.truth))
        return sum(finding.presence == "present" for finding in truth)

    entry = max(cohort.split("test"), key=richness)
    study = load_study(cohort.root / entry.study)
    opened, untrained = open_experts([EXPERT])
    written = write_report(study, opened, out / "report", str(out / "fit" / "model"), untrained=untrained)
    console.print(f"\n[bold]{'report':<15}[/bold]  held-out study {entry.id}")
    print_summary(console, written, out / "report")
    return entry


COMMAND = quickstart
