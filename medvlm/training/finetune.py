"""Fine-tuning a VLM on conversations: the story of one training step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import Tensor

from medvlm.dialogue.conversation import iterate_conversations
from medvlm.errors import MedVLMError
from medvlm.models.load import load_model
from medvlm.models.parts import Part, Tuning, part_of, prepare
from medvlm.training.answering import answer, gather, write_test
from medvlm.training.files import as_files
from medvlm.training.loss import supervised_loss
from medvlm.training.memory import bound_kernel_caches
from medvlm.training.optimizer import MasterOptimizer
from medvlm.training.paths import Chosen, Paths, choose
from medvlm.training.schedule import parameter_groups, warmup_cosine
from medvlm.training.scoring import Answer
from medvlm.training.shard import shard

# Conversations of a file that the words of `tiny` are learnt from: more teach a small vocabulary nothing.
CORPUS = 20_000


class FineTune(pl.LightningModule):
    """A VLM, what of it trains, and how."""

    # An adapter's checkpoint holds the trained weights only.
    strict_loading = False

    def __init__(
        self,
        name: str = "tiny",
        tiny_config: str = "models/tiny.yaml",
        tuning: Tuning = Tuning(),  # noqa: B008 - frozen
        optimizer: Literal["adamw", "muon"] = "adamw",
        learning_rate: float = 2e-3,
        vision_rate: float = 1.0,
        projector_rate: float = 1.0,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.95),
        warmup: float = 0.05,
        floor: float = 0.05,
        max_new_tokens: int = 64,
        corpus: Path | list[Path] | None = None,
        dtype: str = "auto",
        attention: str | None = None,
        paths: Paths = Paths(),  # noqa: B008 - frozen
        layer_decay: float = 1.0,
        trust_remote_code: bool = False,
    ) -> None:
        """
        Args:
            name: `tiny`, a folder, an adapter folder or a hub id.
            tiny_config: sizes of `tiny`.
            tuning: what of vision, projector and language trains, and the LoRA settings.
            optimizer: `adamw`, or `muon` for the inner matrices: better from scratch, untried on pretrained models.
            learning_rate: peak, for the language part.
            vision_rate: factor on it for the vision part.
            projector_rate: factor on it for the projector.
            weight_decay: of matrices.
            betas: of AdamW.
            warmup: share of the steps that the rate rises.
            floor: last rate as a share of the peak.
            max_new_tokens: longest answer of `medvlm test` and `medvlm predict`.
            corpus: conversation files that the tokenizer of `tiny` learns words from (the first 20,000 of each); the
                training data by default.
            dtype: of the weights when loaded and when saved (`float32`, `bfloat16`, `auto`: as the model was saved).
                What is computed with is `trainer.precision`; `bf16-true` is the fast one where the processor has it.
            attention: transformers' attention implementation while training (`eager`, `sdpa`, `flash_attention_2`);
                short rows in bf16 on a CPU are faster with `eager`.
            paths: quick ways through a step; each is tested on the first conversations and changes no gradient.
            layer_decay: factor on the learning rate from each layer of tower and language part to the one below it.
            trust_remote_code: run Python that comes with the model.
        """
        super().__init__()
        bound_kernel_caches()
        self.name, self.tiny_config, self.tuning = name, tiny_config, tuning
        self.optimizer = optimizer
        self.rates: dict[Part, float] = {
            "vision": learning_rate * vision_rate,
            "projector": learning_rate * projector_rate,
            "language": learning_rate,
        }
        self.weight_decay, self.betas = weight_decay, betas
        self.warmup, self.floor = warmup, floor
        self.max_new_tokens = max_new_tokens
        if not 0.0 < layer_decay <= 1.0:
            raise MedVLMError(f"--model.layer_decay is {layer_decay}: give a factor above 0 and up to 1.")
        self.paths, self.chosen, self.layer_decay = paths, Chosen(), layer_decay
        self.loaded = prepare(
            load_model(
                name,
                corpus=_texts(as_files(corpus)) if name == "tiny" else (),
                tiny_config=tiny_config,
                dtype=dtype,
                trainable=True,
                trust_remote_code=trust_remote_code,
                quantize=tuning.quantize,
            ),
            tuning,
        )
        self.model: Any = self.loaded.model
        if attention:
            self.model.set_attn_implementation(attention)
        self.loaded_dtype: torch.dtype = self.model.dtype
        self.sharded = False
        self._window: list[Tensor] = []
        self._answers: list[Answer] = []

    def setup(self, stage: str) -> None:
        """Choose the quick paths that this model and these conversations allow."""
        if stage != "fit":
            return
        strategy, data = self.trainer.strategy, self.trainer.datamodule  # type: ignore[attr-defined]
        # Features, tests and references are of the model as it will train: in its precision, and on its device unless
        # sharded.
        strategy.precision_plugin.convert_module(self)
        if not hasattr(strategy, "device_mesh"):
            self.model.to(strategy.root_device)
        plain = type(self).training_step is FineTune.training_step
        if plain:  # other objectives make their batches themselves
            self.chosen = choose(
                self.paths, self.loaded, data.sample(), data.pad_id, Path(self.trainer.default_root_dir)
            )
            data.take(self.chosen)
        if plain or self.paths.checkpointing:
            self._mind_dropout()
        if self.paths.checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
            self.model.enable_input_require_grads()
        if self.paths.compile:
            for layer in self.model.get_decoder().layers:
                layer.compile(dynamic=True)

    def _mind_dropout(self) -> None:
        """Training mode for what trains: dropout (of adapters, too) is not for what is frozen."""
        base = self.model.get_base_model() if self.loaded.is_adapter else self.model
        self.model.train()
        for module in (base.get_encoder(modality="image"), base.get_decoder()):
            if not any(parameter.requires_grad for parameter in module.parameters()):
                module.eval()

    def configure_model(self) -> None:
        """Shard the weights, where the strategy (`configs/cluster`) shares them between processes."""
        if hasattr(self.trainer.strategy, "device_mesh") and not self.sharded:
            shard(self.model, self.trainer.strategy.device_mesh["data_parallel"])
            self.sharded = True

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Summed loss and number of learnt tokens of a batch, on the chosen paths."""
        cache = self.chosen.features
        with cache.replayed(batch) if cache else nullcontext(batch) as inputs:
            return supervised_loss(self.model, inputs, self.chosen.fused)

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        loss, tokens = self.loss(batch)
        self._window.append(tokens)
        self.log("train/loss", loss.detach() / tokens.clamp(min=1), prog_bar=True, batch_size=1)
        self.log("train/tokens", tokens.float(), batch_size=1)
        if self.sharded and "pixel_values" not in batch and self.tuning.vision != "freeze":
            raise MedVLMError("a batch without a picture cannot train a sharded tower: freeze it or use strategy ddp.")
        # Lightning divides by the number of accumulated batches; `on_before_optimizer_step` divides by tokens.
        return self.everywhere(loss) * self.trainer.accumulate_grad_batches

    def everywhere(self, loss: Tensor) -> Tensor:
        """The same loss with all that trains in its graph.

        A process whose batch has no picture must still take part in averaging the tower's gradients.
        """
        if loss.requires_grad and (self.trainer.world_size == 1 or self.sharded):
            return loss
        return loss + sum(parameter.sum() * 0.0 for parameter in self.parameters() if parameter.requires_grad)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Make the gradient the mean over the supervised tokens of the whole window and of all processes.

        Summed losses divided by one count give exactly the gradient of one large batch; Lightning's default, a mean
        of means, does not. DDP has averaged the gradients over the processes, so their number is put back.
        """
        tokens = torch.stack(self._window).sum().to(self.device)
        self._window.clear()
        total = self.trainer.strategy.reduce(tokens, reduce_op="sum")
        scale = self.trainer.world_size / max(1.0, float(total))
        trained = [parameter for parameter in self.parameters() if parameter.grad is not None]
        gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
        for gradient in gradients:
            gradient.mul_(scale)
        if self.trainer.world_size > 1 and not self.sharded:
            # Where no process had a picture, one process would leave the tower alone; a gradient of zeros would not.
            touched = torch.stack([gradient.any() for gradient in gradients]).tolist()
            for parameter, moved in zip(trained, touched, strict=True):
                if not moved:
                    parameter.grad = None

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        loss, tokens = self.loss(batch)
        self.log("val/loss", loss / tokens, batch_size=int(tokens), prog_bar=True, sync_dist=True)

    def test_step(self, batch: list[int], batch_index: int) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self._answers += answer(self.loaded, [data.asked[number] for number in batch], self.max_new_tokens)

    def on_test_epoch_end(self) -> None:
        answers = gather(self.trainer, self._answers)
        self._answers = []
        if self.trainer.is_global_zero:
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            learnt = [question for _, question in data.questions("train")] if data.train else []
            write_test(Path(self.trainer.default_root_dir), answers, [question for _, question in data.asked], learnt)

    def predict_step(self, batch: list[int], batch_index: int) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        data.write_answers(answer(self.loaded, [data.asked[number] for number in batch], self.max_new_tokens))

    def configure_optimizers(self) -> Any:
        half = self.model.dtype in (torch.bfloat16, torch.float16)
        kind = MasterOptimizer if half or self.optimizer == "muon" else torch.optim.AdamW
        optimizer = kind(self.parameter_groups(), lr=self.rates["language"], betas=self.betas)
        steps = self.total_steps()
        schedule = warmup_cosine(steps, int(self.warmup * steps), self.floor)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What trains, and how fast.

        Raises:
            MedVLMError: nothing trains.
        """
        base = self.model.get_base_model() if self.loaded.is_adapter else self.model
        muon = self.optimizer == "muon"
        groups = parameter_groups(base, part_of(base), self.rates, self.weight_decay, muon, self.layer_decay)
        if not groups:
            raise MedVLMError("nothing trains: set at least one of --model.tuning.* to lora or full.")
        return groups

    def total_steps(self) -> int:
        """Optimiser steps of the run, counted from the batches themselves.

        Lightning's own estimate would build the loader early and lose its position when a run resumes.
        """
        trainer = self.trainer
        limits = [trainer.max_steps] if trainer.max_steps > 0 else []
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            batches = trainer.datamodule.train_batches().steps(trainer.max_epochs)  # type: ignore[attr-defined]
            limits.append(-(-batches // trainer.accumulate_grad_batches))
        if not limits:
            raise MedVLMError("the run has no end: set --trainer.max_epochs or --trainer.max_steps.")
        return min(limits)

    def full_precision(self) -> None:
        """Undo `trainer.precision: bf16-true`: the weights as the optimiser knows them, in the dtype they came in."""
        self.loaded.model.to(self.loaded_dtype)
        for optimizer in self.trainer.optimizers:
            if isinstance(optimizer, MasterOptimizer):
                optimizer.restore()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep only what trains: the rest is found again by the model's name."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: value for name, value in state.items() if name in trained}


def _texts(files: list[Path]) -> Iterator[str]:
    """What is said in the first conversations of each file."""
    for path in files:
        for row in islice(iterate_conversations(path), CORPUS):
            yield from (turn.text for turn in row.turns)
