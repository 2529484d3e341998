"""What a run leaves behind: its settings, sample answers and the model as a plain folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from medvlm.errors import MedVLMError
from medvlm.models.chat import load_image
from medvlm.models.parts import table
from medvlm.storage import atomic_path, write_text
from medvlm.training.answering import answer
from medvlm.training.average import WeightAverage
from medvlm.training.checkpoints import stream_checkpoints
from medvlm.training.scoring import Answer, Question


class SaveSettings(Callback):
    """Write the full settings of the run to `config.yaml` in its folder."""

    def __init__(self, text: str) -> None:
        self.text = text

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            write_text(Path(trainer.default_root_dir) / "config.yaml", self.text)


class Announce(Callback):
    """Print what will be learnt before the first step: data, drops, what trains."""

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        stream_checkpoints(trainer.strategy)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        for line in trainer.datamodule.summary():  # type: ignore[attr-defined]
            print(line)
        for notice in pl_module.chosen.notices:
            print(notice)
        for row in table(pl_module.loaded):
            print(f"{row.part:<11}{row.total:>13,} parameters{row.trainable:>13,} train ({row.how})")


class SampleAnswers(Callback):
    """Let the model answer validation questions: to the screen and to TensorBoard, pictures included.

    The share of right answers is logged as `val/right`; a run stops early by it with Lightning's own callback:

        trainer:
          callbacks:
            - class_path: lightning.pytorch.callbacks.EarlyStopping
              init_args: {monitor: val/right, mode: max, patience: 3}
    """

    def __init__(self, count: int = 4, max_new_tokens: int = 48, measured: int = 0) -> None:
        """
        Args:
            count: how many answers are shown; 0 shows none.
            max_new_tokens: longest answer.
            measured: how many questions `val/right` is measured on; 0 measures those that are shown.
        """
        if count < 0 or measured < 0:
            raise MedVLMError("--samples.count and --samples.measured are numbers of questions: give 0 or more.")
        self.count, self.max_new_tokens, self.measured = count, max_new_tokens, measured

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        wanted = max(self.count, self.measured)
        if trainer.sanity_checking or not wanted:
            return
        right = 0.0
        # A sharded model answers only with all of its processes.
        if trainer.is_global_zero or pl_module.sharded:
            asked = self._chosen(trainer.datamodule, wanted)  # type: ignore[attr-defined]
            answers = answer(pl_module.loaded, asked, self.max_new_tokens)
            right = sum(row.right for row in answers) / max(1, len(answers))
            if trainer.is_global_zero:
                self._show(trainer, asked[: self.count], answers)
        pl_module.log("val/right", trainer.strategy.broadcast(right), batch_size=1)

    def _show(self, trainer: pl.Trainer, asked: list[tuple[Path, Question]], answers: list[Answer]) -> None:
        lines = []
        for row in answers[: len(asked)]:
            said = row.question.replace("\n", " ")
            lines.append(f"{said[-60:]!r} -> {row.answer!r} (reference {row.reference!r})")
        if lines:
            print("\n".join(["", *lines]))
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and lines:
                logger.experiment.add_text("samples", "\n\n".join(lines), trainer.global_step)
                for number, (root, question) in enumerate(asked):
                    for path in question.prompt.images[:1]:
                        pixels = np.asarray(load_image(str(root / path)))
                        logger.experiment.add_image(f"samples/{number}", pixels, trainer.global_step, dataformats="HWC")

    def _chosen(self, data: Any, wanted: int) -> list[tuple[Path, Question]]:
        """Questions spread evenly over the validation files."""
        pool = data.questions("validation")
        step = max(1, len(pool) // wanted)
        return pool[::step][:wanted]


class SaveModel(Callback):
    """At the end write `checkpoints/last.ckpt`, to go on from, and `model/`, which plain transformers and peft load."""

    def __init__(self) -> None:
        self._written = False

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt")
        self._write(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """A run that was killed after its last step has nothing left to train; Lightning then ends no training."""
        if not self._written:
            self._write(trainer, pl_module)

    def _write(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._written = True
        root = Path(trainer.default_root_dir)
        pl_module.full_precision()
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WeightAverage):
                callback.save(pl_module)
        if pl_module.sharded:
            self._save_whole(trainer, pl_module, root / "model")
        elif trainer.is_global_zero:
            pl_module.loaded.save(root / "model")

    def _save_whole(self, trainer: pl.Trainer, pl_module: Any, folder: Path) -> None:
        """Gather a sharded model on the first process and write it."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        loaded = pl_module.loaded
        whole = get_model_state_dict(loaded.model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        if trainer.is_global_zero:
            with atomic_path(folder) as temporary:
                loaded.model.save_pretrained(temporary, state_dict=whole)
                loaded.processor.save_pretrained(temporary)
