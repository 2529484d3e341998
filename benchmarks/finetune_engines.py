"""The engines that `finetune.py` compares, each trained as its own documentation says."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BATCH, RATE, WARMUP = 16, 1e-3, 0.05
ADAMW = {"betas": (0.9, 0.95), "weight_decay": 0.01}
TRAIN = 512


@dataclass(frozen=True)
class Row:
    """What trains, how large the vocabulary is, and the peers' variants that could be the quickest or the leanest."""

    tuning: dict[str, str]
    peers: tuple[str, ...]
    vocabulary: int | None = None
    batch: int = BATCH
    epochs: int = 2
    limit: int = TRAIN
    seeds: bool = True


class Clock:
    """Seconds at each optimiser step."""

    def __init__(self) -> None:
        self.steps: list[float] = []

    def tick(self) -> None:
        self.steps.append(time.perf_counter())


def with_medvlm(
    start: Path, data: Path, row: Row, options: dict[str, Any], seed: int, epochs: int, clock: Clock
) -> Any:
    import lightning.pytorch as pl

    from medvlm.models.parts import Tuning
    from medvlm.training.data import ConversationData
    from medvlm.training.finetune import FineTune

    class Ticks(pl.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step > len(clock.steps):
                clock.tick()

    rows = row.limit // row.batch
    conversations = ConversationData(
        train=[data / "train.jsonl"], batch_tokens=10**6, batch_size=row.batch, limit=row.limit, seed=seed
    )
    module = FineTune(str(start), tuning=Tuning(**row.tuning), learning_rate=RATE, warmup=WARMUP, floor=0.0, **options)
    trainer = pl.Trainer(
        max_epochs=epochs,
        precision="bf16-true",
        accelerator="cpu",
        gradient_clip_val=1.0,
        callbacks=[Ticks()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        default_root_dir=start,  # features are those of this start
    )
    trainer.fit(module, conversations)
    assert abs(len(clock.steps) / epochs - rows) <= 0.1 * rows, f"{len(clock.steps) / epochs} steps an epoch"
    module.full_precision()
    return module.loaded.model


def peer(start: Path, row: Row) -> tuple[Any, Any]:
    """Model (float32 masters, computed in bf16 by autocast) and processor, frozen as `row` says."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(start, dtype="float32")
    processor = AutoProcessor.from_pretrained(start)
    if row.tuning.get("vision") == "freeze":
        model.model.vision_tower.requires_grad_(False)
    if row.tuning.get("language") == "lora":
        from peft import LoraConfig, get_peft_model

        targets = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
        saved = ["multi_modal_projector"]
        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=targets, modules_to_save=saved))
    return model, processor


def messages(data: Path, limit: int) -> Any:
    """The conversations as a `datasets.Dataset` with `messages` and decoded-on-access `images`."""
    from datasets import Dataset, Features, Image, List, Value

    rows = [json.loads(line) for line in (data / "train.jsonl").read_text().splitlines()[:limit]]
    part = {"type": Value("string"), "text": Value("string")}
    features = Features(
        {"messages": List({"role": Value("string"), "content": List(part)}), "images": List(Image())}
        | {"length": Value("int64")}
    )

    def given(row: dict[str, Any]) -> dict[str, Any]:
        content = [
            {"role": m["role"], "content": [{"type": p["type"], "text": p.get("text")} for p in m["content"]]}
            for m in row["messages"]
        ]
        length = sum(len(p["text"] or "") for m in content for p in m["content"])
        return {"messages": content, "images": [str(data / name) for name in row["images"]], "length": length}

    return Dataset.from_list([given(row) for row in rows], features=features)


def settings(out: Path, seed: int, epochs: int, batch: int) -> dict[str, Any]:
    return {
        "output_dir": str(out),
        "seed": seed,
        "num_train_epochs": epochs,
        "per_device_train_batch_size": batch,
        "learning_rate": RATE,
        "lr_scheduler_type": "cosine",
        "warmup_steps": WARMUP,
        "adam_beta2": ADAMW["betas"][1],
        "weight_decay": ADAMW["weight_decay"],
        "bf16": True,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 10,
        "disable_tqdm": True,
    }


def ticking(clock: Clock) -> Any:
    from transformers import TrainerCallback

    class Ticks(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

    return Ticks()


def with_trl(start: Path, data: Path, row: Row, options: dict[str, Any], seed: int, epochs: int, clock: Clock) -> Any:
    from trl import SFTConfig, SFTTrainer

    model, processor = peer(start, row)
    given = settings(data, seed, epochs, row.batch) | options
    config = SFTConfig(**given, max_length=None, assistant_only_loss=True)
    dataset = messages(data, row.limit).remove_columns("length")
    trainer = SFTTrainer(model, config, train_dataset=dataset, processing_class=processor, callbacks=[ticking(clock)])
    trainer.train()
    return trainer.model


def with_trainer(
    start: Path, data: Path, row: Row, options: dict[str, Any], seed: int, epochs: int, clock: Clock
) -> Any:
    from transformers import Trainer, TrainingArguments

    model, processor = peer(start, row)

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        chats = []
        for one in rows:
            pictures = iter(one["images"])
            chats.append(
                [{"role": m["role"], "content": [_part(p, pictures) for p in m["content"]]} for m in one["messages"]]
            )
        batch = processor.apply_chat_template(
            chats,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            return_assistant_tokens_mask=True,
            processor_kwargs={"padding": True, "padding_side": "right", "add_special_tokens": False},
        )
        labels = batch["input_ids"].clone()
        labels[batch.pop("assistant_masks") == 0] = -100
        batch["labels"] = labels
        return dict(batch)

    def _part(part: dict[str, Any], pictures: Any) -> dict[str, Any]:
        return {"type": "image", "image": next(pictures)} if part["type"] == "image" else part

    given = settings(data, seed, epochs, row.batch) | options | {"remove_unused_columns": False}
    arguments = TrainingArguments(**given)
    trainer = Trainer(
        model, arguments, train_dataset=messages(data, row.limit), data_collator=collate, callbacks=[ticking(clock)]
    )
    trainer.train()
    return trainer.model
