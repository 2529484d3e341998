"""`medvlm fit|validate|test|predict`: Lightning's own command line over `FineTune` and `ConversationData`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from medvlm.errors import MedVLMError
from medvlm.training.callbacks import Announce, SaveModel, SaveSettings
from medvlm.training.data import ConversationData
from medvlm.training.finetune import FineTune

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


class SentenceParser(LightningArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise MedVLMError(f"{_sentence(message)} See '{self.prog} --help'.")


class MedVLMCLI(LightningCLI):
    """LightningCLI with our parser, our defaults and our refusals."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        parser = SentenceParser(**kwargs)
        parser.add_argument("-c", "--config", action="config", help="YAML file with any of the options below.")
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("data.train", "model.corpus")

    def _parse_ckpt_path(self) -> None:
        """Settings come from the command line and the config only, never from inside a checkpoint."""

    def before_fit(self) -> None:
        text = self.parser.dump(self.config, skip_none=False)
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
        callbacks[:] = [SaveSettings(text), Announce(), *callbacks, SaveModel()]


def main(argv: Sequence[str]) -> None:
    """Run one of the four subcommands.

    Raises:
        MedVLMError: anything the user can put right: missing data, an unknown model, hardware that is not there.
    """
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
    try:
        MedVLMCLI(
            FineTune,
            ConversationData,
            args=list(argv),
            seed_everything_default=0,
            save_config_callback=None,
            trainer_class=Trainer,
            trainer_defaults=TRAINER_DEFAULTS,
            parser_kwargs={"prog": "medvlm"},
        )
    except MisconfigurationException as error:
        raise MedVLMError(_sentence(str(error))) from error


def _sentence(message: str) -> str:
    """One line that ends in a full stop."""
    return " ".join(message.split()).rstrip(".") + "."
