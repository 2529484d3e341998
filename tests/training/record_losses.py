"""What the processes of a run had as losses; rewards that tell the babble of an untrained model apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch


class RecordLosses(pl.Callback):
    """Writes one line a batch to `losses-RANK.jsonl` in the folder of the run."""

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        if hasattr(pl_module, "_rewards"):
            # From length and letters, so that the turns of a group differ.
            pl_module._rewards = lambda sample: torch.tensor(
                [len(text) / 10 + sum(map(ord, text)) % 7 for text in sample.answers]
            )

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        path = Path(trainer.default_root_dir) / f"losses-{trainer.global_rank}.jsonl"
        row = {"batch": batch_idx, "loss": float(trainer.callback_metrics["train/loss"])}
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
