"""Read the settings of a training run as `medvlm fit` would, without loading a model."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from lightning.pytorch import Trainer

from medvlm.training.cli import TRAINER_DEFAULTS, MedVLMCLI
from medvlm.training.data import ConversationData
from medvlm.training.finetune import FineTune

AddOptions = Callable[[Any], None]


class RunCLI(MedVLMCLI):
    """The command line of `medvlm fit` with further options, and no subcommand."""

    further: ClassVar[list[AddOptions]] = []

    def add_arguments_to_parser(self, parser: Any) -> None:
        super().add_arguments_to_parser(parser)
        for add in self.further:
            add(parser)


class SettingsCLI(RunCLI):
    """Parses only."""

    def instantiate_classes(self) -> None:
        """Nothing is built: a planner must not load eight billion weights."""


def parse_run(kind: type[RunCLI], prog: str, example: str, argv: Sequence[str], options: AddOptions) -> RunCLI:
    """Parse (and, for `RunCLI`, build) a run.

    Args:
        kind: `SettingsCLI` or `RunCLI`.
        prog: name of the command.
        example: shown at the end of its help.
        argv: its arguments.
        options: adds what the command takes beside the options of `medvlm fit`.
    """
    warnings.filterwarnings("ignore", message=".*LightningCLI's args parameter.*")
    logging.getLogger("lightning.fabric.utilities.seed").setLevel(logging.WARNING)
    made = type(kind.__name__, (kind,), {"further": [options]})
    cli: RunCLI = made(
        FineTune,
        ConversationData,
        args=list(argv),
        run=False,
        seed_everything_default=0,
        save_config_callback=None,
        trainer_class=Trainer,
        trainer_defaults=TRAINER_DEFAULTS,
        parser_kwargs={"prog": prog, "epilog": example},
    )
    return cli
