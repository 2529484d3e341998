"""An exponential moving average of what trains: validated, sampled and saved in place of the last weights."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from medvlm.errors import MedVLMError


class WeightAverage(Callback):
    """Average the trained weights over the steps, in float32 (Polyak and Juditsky, 1992).

    Only what trains is averaged, so that an adapter costs the memory of the adapter. The average takes the weights'
    place while the run validates and when it ends; a resumed run goes on with it.
    """

    def __init__(self, decay: float = 0.0) -> None:
        """
        Args:
            decay: share of the average that a step keeps, such as 0.999; 0 switches averaging off.
        """
        if not 0.0 <= decay < 1.0:
            raise MedVLMError(f"--average.decay is {decay}: give a share from 0 (off) to just below 1.")
        self.decay = decay
        self._average: dict[str, Tensor] = {}
        self._own: dict[str, Tensor] = {}
        self._steps = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.decay and not self._average:
            self._average = {name: value.detach().float().clone() for name, value in _trained(pl_module)}
        self._average = {name: value.to(pl_module.device) for name, value in self._average.items()}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if not self.decay or trainer.global_step == self._steps:
            return  # within a window of accumulated batches
        self._steps = trainer.global_step
        # Early on the average follows quickly: the first weights should not linger.
        keep = min(self.decay, (1 + self._steps) / (10 + self._steps))
        for name, value in _trained(pl_module):
            self._average[name].lerp_(value.detach().float(), 1.0 - keep)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._swap_in(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._swap_out(pl_module)

    def save(self, pl_module: pl.LightningModule) -> None:
        """Put the average into the model for good (in the dtype that the model has then)."""
        self._swap_in(pl_module)
        self._own.clear()

    @torch.no_grad()
    def _swap_in(self, pl_module: pl.LightningModule) -> None:
        if self._average:
            self._own = {name: value.detach().clone() for name, value in _trained(pl_module)}
            for name, value in _trained(pl_module):
                value.copy_(self._average[name])

    @torch.no_grad()
    def _swap_out(self, pl_module: pl.LightningModule) -> None:
        for name, value in _trained(pl_module) if self._own else ():
            value.copy_(self._own[name])
        self._own.clear()

    def state_dict(self) -> dict[str, Any]:
        return {"average": self._average, "steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._average, self._steps = dict(state_dict["average"]), int(state_dict["steps"])


def _trained(pl_module: pl.LightningModule) -> list[tuple[str, Tensor]]:
    return [(name, value) for name, value in pl_module.named_parameters() if value.requires_grad]
