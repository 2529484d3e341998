"""What a run leaves behind: its settings, sample answers and the model as a plain folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from medvlm.models.generate import Generator
from medvlm.models.parts import table
from medvlm.storage import write_text
from medvlm.training.scoring import Question


class SaveSettings(Callback):
    """Write the full settings of the run to `config.yaml` in its folder."""

    def __init__(self, text: str) -> None:
        self.text = text

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            write_text(Path(trainer.default_root_dir) / "config.yaml", self.text)


class Announce(Callback):
    """Print what will be learnt before the first step: data, drops, what trains."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        for split, rows in data.sets.items():
            shown = f"{split:<11}{len(rows.rows):>7,} conversations{sum(rows.lengths):>11,} tokens"
            print(f"{shown}{rows.supervised_tokens:>10,} learnt")
            for reason, ids in rows.dropped.items():
                print(f"{'':<11}{len(ids):>7,} left out: {reason} (for example {ids[0]})")
        if data.stream:
            rows, share = data.stream, data.stream.supervised_share()
            tokens = int(rows.lengths.sum())
            shown = f"{'train':<11}{len(rows):>7,} conversations{tokens:>11,} tokens"
            print(f"{shown}{int(tokens * share):>10,} learnt (by a sample)")
            for reason, count in rows.dropped.items():
                print(f"{'':<11}{count:>7,} left out: {reason}")
        for notice in pl_module.chosen.notices:
            print(notice)
        for row in table(pl_module.loaded):
            print(f"{row.part:<11}{row.total:>13,} parameters{row.trainable:>13,} train ({row.how})")


class SampleAnswers(Callback):
    """Write the model's own answers to a few validation questions to the screen and to TensorBoard."""

    def __init__(self, count: int = 4, max_new_tokens: int = 48) -> None:
        """
        Args:
            count: how many questions; 0 switches this off.
            max_new_tokens: longest answer.
        """
        self.count, self.max_new_tokens = count, max_new_tokens

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.sanity_checking or not self.count or not trainer.is_global_zero:
            return
        asked = self._chosen(trainer.datamodule)  # type: ignore[attr-defined]
        lines = []
        for root, question in asked:
            generator = Generator(pl_module.loaded, self.max_new_tokens, root=root)
            answer = generator.answer(question.prompt)
            said = question.prompt.turns[-1].text.replace("\n", " ")
            lines.append(f"{said[-60:]!r} -> {answer!r} (reference {question.accepted[0]!r})")
        print("\n".join(["", *lines]))
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("samples", "\n\n".join(lines), trainer.global_step)

    def _chosen(self, data: Any) -> list[tuple[Path, Question]]:
        """Questions spread evenly over the validation files."""
        pool = data.questions("validation")
        step = max(1, len(pool) // self.count)
        return pool[::step][: self.count]


class SaveModel(Callback):
    """At the end write `checkpoints/last.ckpt`, to go on from, and `model/`, which plain transformers and peft load."""

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        root = Path(trainer.default_root_dir)
        trainer.save_checkpoint(root / "checkpoints" / "last.ckpt")
        pl_module.full_precision()
        if trainer.is_global_zero:
            pl_module.loaded.save(root / "model")
