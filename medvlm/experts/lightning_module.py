"""One training step of an expert: image in, structure (and class) logits out, loss, Dice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning
import torch
from monai.losses import DiceCELoss
from torch import nn

from medvlm.experts.data import IGNORE
from medvlm.experts.output import split_output
from medvlm.experts.settings import Loss, Optimiser


class ExpertModule(lightning.LightningModule):
    """A MONAI network, its loss and its optimiser under Lightning.

    The first `len(labels)` channels of the network are structure logits; the channels after them, if any, are class
    evidence maps that `split_output` pools into one logit a class.
    """

    def __init__(self, network: nn.Module, labels: Mapping[int, str], loss: Loss, optimiser: Optimiser) -> None:
        super().__init__()
        self.network = network
        self.labels = dict(labels)
        self.settings = loss
        self.optimiser = optimiser
        given = loss.weights or {}
        weight = torch.tensor([float(given.get(labels[number], 1.0)) for number in sorted(labels)])
        self.segmentation_loss = DiceCELoss(
            softmax=True, to_onehot_y=True, include_background=False, batch=True, weight=weight, lambda_dice=loss.dice
        )
        self.class_loss = nn.CrossEntropyLoss(ignore_index=IGNORE)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`[B, C, ...]` → structure logits `[B, L, ...]` and class logits `[B, K]` (None without classes)."""
        return split_output(self.network(image), len(self.labels))

    def on_train_epoch_start(self) -> None:
        if self.optimiser.freeze_norm:
            for part in self.network.modules():
                if isinstance(part, nn.modules.batchnorm._BatchNorm):
                    part.eval()

    def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        logits, classes = self(self._layout(batch["image"]))
        loss = self.segmentation_loss(logits.float(), batch["label"])
        if classes is not None:
            loss = loss + self.settings.classes * self.class_loss(classes.float(), batch["target"])
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, torch.Tensor], index: int) -> None:
        logits, classes = self(self._layout(batch["image"]))
        predicted = logits.argmax(dim=1, keepdim=True)
        scores = []
        for number, name in self.labels.items():
            ours, theirs = predicted == number, batch["label"] == number
            if number and bool(theirs.any()):
                dice = 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum())
                self.log(f"dice/{name}", dice, on_epoch=True, batch_size=1)
                scores.append(dice)
        self.log("dice/mean", torch.stack(scores).mean(), prog_bar=True, on_epoch=True, batch_size=1)
        if classes is not None:
            right = (classes.argmax(dim=1) == batch["target"]).float().mean()
            self.log("accuracy", right, prog_bar=True, on_epoch=True, batch_size=len(batch["target"]))

    def configure_optimizers(self) -> Any:
        settings = self.optimiser
        adam = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            adam,
            max_lr=settings.learning_rate,
            total_steps=int(self.trainer.estimated_stepping_batches) + 1,
            pct_start=settings.warmup,
        )
        return {"optimizer": adam, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _layout(self, image: torch.Tensor) -> torch.Tensor:
        # Channels last is what oneDNN and cuDNN convolve fastest.
        layout = torch.channels_last_3d if image.ndim == 5 else torch.channels_last
        return image.contiguous(memory_format=layout)
