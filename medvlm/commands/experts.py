"""`medvlm experts`: list, show, train and measure experts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medvlm.errors import MedVLMError
from medvlm.experts.registry import find_expert
from medvlm.experts.settings import Batches, Loss, Optimiser

if TYPE_CHECKING:
    from medvlm.experts.card import ExpertCard

BATCHES, LOSS, OPTIMISER = Batches(), Loss(), Optimiser()


def list_() -> None:
    """List the experts that can be found: which are ready, and the command that gets what the others lack.

    Example:
        medvlm experts list
    """
    from rich.console import Console
    from rich.table import Table

    from medvlm.experts.registry import list_bundles

    table = Table(box=None, pad_edge=False)
    for heading in ("expert", "version", "reads", "task", "ready", "what it does"):
        table.add_column(heading)
    todo = []
    for bundle in list_bundles():
        card = bundle.card
        reads = " ".join((*filter(None, card.modality), *card.body_part[:1])) or "pictures"
        table.add_row(card.name, card.version, reads, card.task, "no" if bundle.missing else "yes", card.summary)
        if bundle.missing:
            todo.append((card.name, bundle.missing))
    console = Console()
    console.print(table)
    for name, command in todo:
        console.print(f"{name}: {command}", markup=False, highlight=False, soft_wrap=True)


def show(name: str) -> None:
    """Show an expert's card: what it reads, its arguments, its measured accuracy and its limits.

    Example:
        medvlm experts show chest_ct

    Args:
        name: name or path of the expert.
    """
    bundle = find_expert(name)
    print(card_text(bundle.card))
    print(f"folder      {bundle.root}")
    print(f"weights     {'not there: ' + bundle.missing if bundle.missing else 'SHA-256 ' + bundle.weights_hash()}")


def card_text(card: ExpertCard) -> str:
    """A card as lines of text."""
    lines = [
        f"{card.name} {card.version}: {card.summary}",
        f"reads       {', '.join(card.modality)}; {', '.join(card.body_part) or 'any body part'}",
        f"task        {card.task}",
        "arguments",
    ]
    lines += [f"  <{card.trigger_name}({argument})>  {meaning}" for argument, meaning in card.arguments.items()]
    lines.append("accuracy" if card.accuracy else "accuracy    not measured")
    lines += [f"  {metric} {value:.3f}" for metric, value in card.accuracy.items()]
    lines += [f"limits      {card.limits}", f"licence     {card.licence}"]
    return "\n".join(lines)


def evaluate(
    name: str,
    cohort: Path,
    split: Literal["train", "validation", "test"] = "test",
    out: Path | None = None,
    device: str = "auto",
) -> None:
    """Measure an expert on a cohort with masks and true findings.

    Example:
        medvlm experts evaluate chest_ct clinic

    Args:
        name: name or path of the expert.
        cohort: folder with cohort.json.
        split: train, validation or test.
        out: JSON file for the numbers.
        device: auto, cpu, cuda or cuda:N.
    """
    from medvlm.experts.evaluate import evaluate_expert
    from medvlm.storage import write_json

    metrics = evaluate_expert(name, cohort, split, device)
    for metric, value in metrics.items():
        print(f"{metric:<40}{value:.4g}")
    if out is not None:
        write_json(out, metrics)


def train(
    expert: str = "",
    cohort: Path | None = None,
    work: Path | None = None,
    batches: Batches = BATCHES,
    loss: Loss = LOSS,
    optimiser: Optimiser = OPTIMISER,
    trainer: dict[str, Any] | None = None,
    seed: int = 0,
    start: Path | None = None,
    measure: bool = True,
    folds: int = 0,
) -> None:
    """Train an expert's network on a cohort with masks and write its weights and metrics into its folder.

    Example:
        medvlm experts train --config experts/chest_ct/configs/train.yaml

    Args:
        expert: name or path of the bundle folder.
        cohort: folder with cohort.json; its train and validation splits are learned from, its test split is measured.
        work: folder for prepared samples, checkpoints and logs; the same folder resumes an interrupted run.
        batches: how samples reach the network.
        loss: weights of the loss.
        optimiser: learning rate and decay.
        trainer: arguments of lightning.Trainer, such as max_steps, accelerator, devices and precision.
        seed: of everything random.
        start: weights of the same network (safetensors) to start from; random if not given.
        measure: measure on the test split at the end.
        folds: cross-validate over this many folds in place of training the expert itself.
    """
    from medvlm.experts.train import measure_expert, train_expert

    if not expert or cohort is None:
        raise MedVLMError("give --expert and --cohort, or a --config with both.")
    folder = work or Path("runs") / f"expert-{Path(expert).name}"
    if folds:
        from medvlm.experts.cross_validate import cross_validate

        written = cross_validate(
            find_expert(expert).root, cohort, folder, batches, loss, optimiser, trainer or {}, seed, folds
        )
        print(f"{folds} folds, {written['studies']} studies of {written['patients']} patients")
        for metric, (low, high) in written["interval"].items():
            print(f"{metric:<40}{written['metrics'][metric]:.4g}  (95 % {low:.4g} to {high:.4g})")
        return
    bundle = train_expert(
        find_expert(expert).root, cohort, folder, batches, loss, optimiser, trainer or {}, seed, start
    )
    print(f"weights     {bundle.weights}")
    if measure:
        for metric, value in measure_expert(bundle, cohort).items():
            print(f"{metric:<40}{value:.4g}")


def calibrate(
    name: str,
    cohort: Path,
    split: Literal["train", "validation", "test"] = "validation",
    check: Literal["train", "validation", "test"] | None = None,
    device: str = "auto",
) -> None:
    """Fit an expert's probabilities and conformal thresholds on studies it did not learn from.

    Example:
        medvlm experts calibrate chest_ct clinic --check test

    Args:
        name: name or path of the expert.
        cohort: folder with cohort.json and true findings.
        split: the studies to fit on.
        check: other studies to measure calibration error and coverage on.
        device: auto, cpu, cuda or cuda:N.
    """
    from medvlm.experts.calibrate import calibrate_expert

    written = calibrate_expert(name, cohort, split, check, device)
    for rule, fitted in written["rules"].items():
        before, after = fitted["error_before"], fitted["error_after"]
        print(f"{rule:<12}{fitted['cases']} cases   calibration error {before:.3f} before, {after:.3f} after")
    for rule, value in written["tolerances"].items():
        print(f"{rule:<12}standard error {value:.4f}")
    if "class_temperature" in written:
        print(f"classes     temperature {written['class_temperature']:.2f}")
    for rule, held in ((rule, held) for rule, held in written.get("checked", {}).items() if isinstance(held, dict)):
        covered = ", ".join(f"{share:.1%} at {float(level):.0%}" for level, share in held["coverage"].items())
        error = f"calibration error {held['error']:.3f} ({held['cases']})"
        print(f"{rule:<12}on {check}: {error}, covered {covered or 'none can be promised'}")


def domain(name: str, cohort: Path, split: Literal["train", "validation", "test"] = "train") -> None:
    """Fit what an expert's studies look like, so that it refuses others; independent of its weights.

    Example:
        medvlm experts domain chest_ct clinic

    Args:
        name: name or path of the expert.
        cohort: folder with cohort.json; no truth is needed.
        split: which studies.
    """
    from medvlm.experts.domain import fit_domain

    written = fit_domain(name, cohort, split)
    print(f"domain      {written['studies']} studies, median distance {written['median']}, limit {written['limit']}")


def pull(name: str, source: str = "") -> None:
    """Get the weights of an expert that do not ship with medvlm; an interrupted download goes on where it stopped.

    Example:
        medvlm experts pull vista3d

    Args:
        name: name or path of the expert.
        source: folder or address that holds the files, in place of the published one; for machines without internet.
    """
    from medvlm.experts.pull import pull_expert

    for done in pull_expert(name, source):
        state = f"{done.fetched / 1e6:.1f} MB fetched" if done.fetched else "here already"
        print(f"{done.path}   {state}   SHA-256 {done.sha256}")


def new(name: str, cohort: Path, out: Path = Path("experts")) -> None:
    """Write a bundle folder for a cohort with masks, ready to train.

    Example:
        medvlm experts new my_cells my-cohort --out my-content/experts

    Args:
        name: snake-case name; its upper case is the trigger.
        cohort: folder with cohort.json and masks.
        out: folder of experts.
    """
    from medvlm.experts.scaffold import new_expert

    folder = new_expert(name, cohort, out)
    print(f"{folder}: edit findings.yaml if you like, then run")
    print(f"  medvlm experts train --config {folder / 'configs' / 'train.yaml'}")


COMMANDS = {
    "list": list_,
    "show": show,
    "new": new,
    "train": train,
    "evaluate": evaluate,
    "calibrate": calibrate,
    "domain": domain,
    "pull": pull,
}
