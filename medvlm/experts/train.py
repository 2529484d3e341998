"""Training an expert from a cohort, start to end: prepare, fit, export into the bundle, measure on held-out studies."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from monai.data import DataLoader  # seeds the random transforms of every worker

from medvlm.errors import MedVLMError
from medvlm.experts.bundle import Bundle, read_bundle
from medvlm.experts.data import ExpertDataset, build_transform, prepare_split
from medvlm.experts.evaluate import evaluate_expert
from medvlm.experts.export import export_weights
from medvlm.experts.lightning_module import ExpertModule
from medvlm.experts.settings import Batches, Loss, Optimiser
from medvlm.imaging.cohort import Cohort, read_cohort
from medvlm.storage import write_json


def train_expert(
    root: Path,
    cohort: Path | Cohort,
    work: Path,
    batches: Batches,
    loss: Loss,
    optimiser: Optimiser,
    trainer: dict[str, Any],
    seed: int,
    start: Path | None = None,
    prepared: Path | None = None,
) -> Bundle:
    """Train the network of the bundle at `root` and write its weights there.

    Args:
        root: the bundle folder; its `network_def` and `input` are used as they stand.
        cohort: studies with masks, split by patient, or their folder; `train` and `validation` are used.
        work: folder of prepared samples, checkpoints and logs; a run that was interrupted resumes from it.
        batches, loss, optimiser: see their classes.
        trainer: arguments of `lightning.Trainer` (`max_steps`, `accelerator`, `devices`, `precision`, ...).
        seed: of everything random.
        start: weights of the same network to start from; random weights if not given.
        prepared: folder of the prepared samples; one in `work` if not given.

    Returns:
        The bundle with its new weights.

    Raises:
        MedVLMError: the cohort does not fit the bundle, or the trainer asks for hardware that is not there.
    """
    import lightning
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger

    bundle = read_bundle(root)
    _check_patch(bundle, batches)
    lightning.seed_everything(seed, workers=True, verbose=False)
    studies = cohort if isinstance(cohort, Cohort) else read_cohort(cohort)
    train_paths, validation_paths = _prepare(bundle, studies, prepared or work / "prepared")
    network = bundle.build_network() if start is None else bundle.load_network(start)
    module = ExpertModule(network.train(), bundle.labels, loss, optimiser)
    module.network.to(memory_format=_layout(bundle.input.dims))  # type: ignore[call-overload]
    last = work / "checkpoints" / "last.ckpt"
    checkpoints = ModelCheckpoint(
        dirpath=last.parent,
        filename=last.stem,
        every_n_train_steps=200,
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    transform = build_transform(batches, bundle.labels, seed)
    engine = make_trainer(
        {
            "logger": CSVLogger(work, name="logs", version=0),
            "callbacks": [checkpoints],
            "num_sanity_val_steps": 0,
            "default_root_dir": work,
            "log_every_n_steps": 20,
        }
        | trainer
    )
    with warnings.catch_warnings():
        # Lightning advises more workers than a small machine has cores.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        engine.fit(
            module,
            _loader(ExpertDataset(train_paths, transform), batches, batches.batch_size),
            # Whole studies of any size, so one at a time.
            _loader(ExpertDataset(validation_paths), batches, 0),
            ckpt_path=str(last) if last.is_file() else None,
        )
    export_weights(module.network, bundle.root)
    return read_bundle(root)


def measure_expert(bundle: Bundle, cohort: Path, device: str = "auto") -> dict[str, float]:
    """Measure a trained bundle on the cohort's test split and write `metrics.json` into its folder."""
    metrics = evaluate_expert(bundle.root, cohort, "test", device)
    write_json(
        bundle.root / "metrics.json",
        {
            "made_by": f"medvlm experts train --config {bundle.root.name}/configs/train.yaml",
            "cohort": read_cohort(cohort).name,
            "split": "test",
            "weights": bundle.weights_hash(),
            "metrics": metrics,
        },
    )
    return metrics


def make_trainer(settings: dict[str, Any]) -> Any:
    """A `lightning.Trainer`, with its complaints about missing hardware as one sentence.

    Raises:
        MedVLMError: an accelerator that this machine does not have, or an unknown setting.
    """
    import lightning
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    # What Lightning says about devices and tips is no news to a user of this package.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    try:
        return lightning.Trainer(**settings)
    except (MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
        first = " ".join(str(error).split())
        raise MedVLMError(f"trainer settings do not work here: {first[:200].rstrip('.')}.") from None


def _check_patch(bundle: Bundle, batches: Batches) -> None:
    """A patch has the dimensions of the input and fits the network's strides."""
    wanted = bundle.input.multiple[: bundle.input.dims]
    if len(batches.patch) != bundle.input.dims or any(size % n for size, n in zip(batches.patch, wanted, strict=False)):
        needed = " x ".join(str(multiple) for multiple in wanted)
        raise MedVLMError(f"batches.patch {list(batches.patch)}: the sizes must be multiples of {needed}.")


def _prepare(bundle: Bundle, cohort: Cohort, folder: Path) -> tuple[list[Path], list[Path]]:
    """Working-grid samples of the train and validation splits, behind a progress bar."""
    from rich.progress import Progress

    with Progress(transient=True) as progress:
        bar = progress.add_task("preparing", total=len(cohort.split("train")) + len(cohort.split("validation")))

        def advance() -> None:
            progress.advance(bar)

        return (
            prepare_split(bundle, cohort, "train", folder, advance),
            prepare_split(bundle, cohort, "validation", folder, advance),
        )


def _loader(dataset: ExpertDataset, batches: Batches, batch_size: int) -> DataLoader:
    """Shuffled batches of `batch_size`, or (0) every sample in order on its own."""
    return DataLoader(
        dataset,
        batch_size=batch_size or 1,
        shuffle=batch_size > 0,
        drop_last=batch_size > 0,
        num_workers=batches.workers,
        persistent_workers=batches.workers > 0,
    )


def _layout(dims: int) -> torch.memory_format:
    return torch.channels_last_3d if dims == 3 else torch.channels_last
