"""Checkpoints that go to disk piece by piece."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from medvlm.storage import atomic_path


class StreamedCheckpoints(TorchCheckpointIO):
    """Lightning builds a checkpoint in memory before it writes it: as much again as weights and optimiser take."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a local checkpoint to its file, complete or not at all; others (`s3://…`) as Lightning does."""
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            torch.save(checkpoint, temporary)


def stream_checkpoints(strategy: Any) -> None:
    """Let a strategy that writes plain checkpoints stream them; sharded ones have their own way."""
    from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

    if type(strategy) in (SingleDeviceStrategy, DDPStrategy) and type(strategy.checkpoint_io) is TorchCheckpointIO:
        strategy.checkpoint_io = StreamedCheckpoints()
