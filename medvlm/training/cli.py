"""`medvlm fit|validate|test|predict`: Lightning's own command line over our modules and their data.

`objective` says which: `finetune` (the default), `contrastive` on pictures and descriptions, `preference` on pairs, or
`policy` on the model's own conversations.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from medvlm.errors import MedVLMError
from medvlm.training.average import WeightAverage
from medvlm.training.callbacks import Announce, SampleAnswers, SaveModel, SaveSettings

TRAINER_DEFAULTS: dict[str, Any] = {
    "default_root_dir": "runs/fit",
    "max_epochs": 1,
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
    "num_sanity_val_steps": 0,
    # Our batch sampler deals batches to the processes itself; a new loader an epoch counts that epoch's batches.
    "use_distributed_sampler": False,
    "reload_dataloaders_every_n_epochs": 1,
    "enable_model_summary": False,
}
CHECKPOINT_DEFAULTS: dict[str, Any] = {
    "checkpoint.filename": "last",
    "checkpoint.every_n_train_steps": 500,
    # One file, always the newest: it is for resuming; the model for use is the folder `model/`.
    "checkpoint.enable_version_counter": False,
}

Objective = Literal["finetune", "contrastive", "preference", "policy"]
OBJECTIVES: dict[str, tuple[str, str, str]] = {
    "finetune": ("finetune", "FineTune", "data.ConversationData"),
    "contrastive": ("contrastive", "Contrastive", "contrastive.PictureData"),
    "preference": ("preference", "Preference", "preference.PairData"),
    "policy": ("policy", "Policy", "episodes.EpisodeData"),
}

EXAMPLE = "Example:  medvlm fit --config configs/quickstart.yaml --data.train '[train.jsonl]'"


class SentenceParser(LightningArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise MedVLMError(f"{_sentence(message)} See '{self.prog} --help'.")


class MedVLMCLI(LightningCLI):
    """LightningCLI with our parser, our defaults and our refusals."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        parser = SentenceParser(**{"epilog": EXAMPLE} | kwargs)
        parser.add_argument("-c", "--config", action="config", help="YAML file with any of the options below.")
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--objective", type=Objective, default="finetune", help="what is learnt from")
        parser.link_arguments("data.train", "model.corpus")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(SampleAnswers, "samples")
        parser.add_lightning_class_args(WeightAverage, "average")
        parser.set_defaults(CHECKPOINT_DEFAULTS)

    def _parse_ckpt_path(self) -> None:
        """Settings come from the command line and the config only, never from inside a checkpoint."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer that keeps everything of a run in its `default_root_dir`."""
        settings = self._get(self.config_init, "trainer", default={})
        root = Path(settings["default_root_dir"])
        if settings["logger"] in (None, True):
            # A resumed run goes on in the same TensorBoard curve; each start has a CSV file of its own.
            kwargs["logger"] = [TensorBoardLogger(root, name="", version="tensorboard"), CSVLogger(root, "metrics")]
        trainer: Trainer = super().instantiate_trainer(**kwargs)
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(root / "checkpoints")
        return trainer

    def before_fit(self) -> None:
        text = self._parser("fit").dump(self.config["fit"], skip_none=False, skip_check=True)
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
        callbacks[:] = [SaveSettings(text), Announce(), *callbacks, SaveModel()]


def main(argv: Sequence[str]) -> None:
    """Run one of the four subcommands.

    Raises:
        MedVLMError: anything the user can put right: missing data, an unknown model, hardware that is not there.
    """
    _quieten()
    try:
        MedVLMCLI(
            *objective_classes(argv),
            args=list(argv),
            seed_everything_default=0,
            save_config_callback=None,
            trainer_class=Trainer,
            trainer_defaults=TRAINER_DEFAULTS,
            parser_kwargs={"prog": "medvlm"},
        )
    except MisconfigurationException as error:
        advice = " Set --trainer.accelerator to cpu or auto." if "backend" in str(error) else ""
        raise MedVLMError(f"trainer: {_sentence(str(error).rstrip('!.'))}{advice}") from error


def objective_classes(argv: Sequence[str]) -> tuple[type[Any], type[Any]]:
    """Module and data module of the objective that a command line or its config files name.

    The options that LightningCLI knows are those of the classes, so they must be chosen before it parses.

    Raises:
        MedVLMError: an unknown objective.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-c", "--config", action="append", default=[])
    parser.add_argument("--objective")
    known, _ = parser.parse_known_args(list(argv))
    chosen = known.objective
    for path in reversed(known.config):
        if chosen is None and Path(path).is_file():
            chosen = _named_objective(Path(path))
    chosen = chosen or "finetune"
    if chosen not in OBJECTIVES:
        raise MedVLMError(f"there is no objective '{chosen}'; choose {', '.join(OBJECTIVES)}.")
    module, name, data = OBJECTIVES[chosen]
    data_module, data_name = data.split(".")
    return (
        getattr(import_module(f"medvlm.training.{module}"), name),
        getattr(import_module(f"medvlm.training.{data_module}"), data_name),
    )


def _named_objective(path: Path) -> str | None:
    """What a config says; one that is not YAML is left to the parser, which names the line."""
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return None
    named = settings.get("objective") if isinstance(settings, dict) else None
    return str(named) if named else None


def _quieten() -> None:
    """Silence what is no news to the user: advertisements, and advice that does not fit rows that are in memory."""
    for message in (".*does not have many workers.*", ".*LightningCLI's args parameter.*", ".*isinstance.treespec.*"):
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: "Tip:" not in record.getMessage()
    )


def _sentence(message: str) -> str:
    """One line that ends in a full stop."""
    return " ".join(message.split()).rstrip(".") + "."
