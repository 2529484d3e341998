"""One training step and whole small runs, through the command line as a user starts them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from medvlm.training.callbacks import Announce
from medvlm.training.checkpoints import StreamedCheckpoints
from medvlm.training.cli import main

NORM = "language_model.model.norm.weight"  # as transformers names it in a saved LLaVA


def fit(data: Path, small_config: Path, out: Path, *options: str) -> dict[str, torch.Tensor]:
    """Run `medvlm fit` on the small data and return the trained weights."""
    main(
        [
            "fit",
            f"--data.train=[{data}/train.jsonl]",
            f"--model.tiny_config={small_config}",
            f"--trainer.default_root_dir={out}",
            "--trainer.enable_progress_bar=false",
            "--data.batch_tokens=400",
            *options,
        ]
    )
    from safetensors.torch import load_file

    return load_file(next((out / "model").glob("*.safetensors")))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def losses(out: Path) -> list[str]:
    rows = (out / "metrics" / "version_0" / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("train/loss")
    return [row.split(",")[column] for row in rows[1:] if row.split(",")[column]]


def test_a_run_leaves_its_settings_logs_checkpoint_and_model(data, small_config, tmp_path):
    fit(data, small_config, tmp_path, f"--data.validation=[{data}/validation.jsonl]", "--trainer.max_epochs=1")
    assert {"config.yaml", "metrics", "tensorboard", "checkpoints", "model"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]
    assert any("tfevents" in path.name for path in (tmp_path / "tensorboard").iterdir())
    assert "learning_rate: 0.002" in (tmp_path / "config.yaml").read_text()


def test_every_epoch_takes_all_of_its_batches(data, small_config, tmp_path):
    def steps(epochs: int) -> int:
        fit(
            data,
            small_config,
            tmp_path / str(epochs),
            f"--trainer.max_epochs={epochs}",
            "--trainer.log_every_n_steps=1",
        )
        return len(losses(tmp_path / str(epochs)))

    # All batches but the last hold as many conversations in every epoch; lengths may move one batch up or down.
    assert steps(3) == pytest.approx(3 * steps(1), abs=3)


def test_accumulated_batches_give_the_step_of_one_large_batch(data, small_config, tmp_path):
    """Batches of unequal numbers of learnt tokens: a mean of means would differ."""
    plain = ("--trainer.max_epochs=1", "--model.warmup=0", "--trainer.gradient_clip_val=0")
    large = fit(data, small_config, tmp_path / "large", *plain, "--data.batch_tokens=100000")
    small = fit(data, small_config, tmp_path / "small", *plain, "--trainer.accumulate_grad_batches=50")
    for name, value in large.items():
        # AdamW's first step is the sign of the gradient times the rate: compare with a tolerance far below 2e-3.
        torch.testing.assert_close(value, small[name], rtol=0, atol=2e-5)


def test_a_frozen_part_does_not_move(data, small_config, tmp_path):
    steps = ("--trainer.max_steps=2",)
    full = fit(data, small_config, tmp_path / "full", *steps)
    frozen = fit(data, small_config, tmp_path / "frozen", *steps, "--model.tuning.vision=freeze")
    start = fit(data, small_config, tmp_path / "start", *steps, "--model.learning_rate=0")
    tower = [name for name in full if "vision_tower" in name]
    assert tower
    assert all(torch.equal(frozen[name], start[name]) for name in tower)
    assert not all(torch.equal(full[name], start[name]) for name in tower)
    assert not torch.equal(frozen[NORM], start[NORM])


class Killed(Exception):
    """Stands for a kill in the middle of an epoch."""


@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
def test_a_run_that_was_killed_mid_epoch_continues_to_the_same_weights(data, small_config, tmp_path, precision):
    settings = ("--trainer.max_epochs=3", f"--trainer.precision={precision}", "--trainer.log_every_n_steps=1")
    whole = fit(data, small_config, tmp_path / "whole", *settings)
    killed = len(losses(tmp_path / "whole")) // 2  # within the second of three epochs

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == killed:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Announce, "on_train_batch_start", on_train_batch_start)
        with pytest.raises(Killed):
            fit(data, small_config, tmp_path / "part", *settings, "--checkpoint.every_n_train_steps=1")
    checkpoint = tmp_path / "part" / "checkpoints" / "last.ckpt"
    resumed = fit(data, small_config, tmp_path / "rest", *settings, f"--ckpt_path={checkpoint}")
    assert losses(tmp_path / "rest") == losses(tmp_path / "whole")[killed:]
    assert same(whole, resumed)


@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
def test_a_run_that_was_killed_after_its_last_step_still_writes_its_model(data, small_config, tmp_path, precision):
    settings = ("--trainer.max_epochs=1", f"--trainer.precision={precision}")
    whole = fit(data, small_config, tmp_path, *settings)
    shutil.rmtree(tmp_path / "model")
    again = fit(data, small_config, tmp_path, *settings, f"--ckpt_path={tmp_path}/checkpoints/last.ckpt")
    assert same(whole, again)


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    StreamedCheckpoints().save_checkpoint({"weights": torch.arange(3)}, path)
    with pytest.raises(Exception, match=r"pickle|local"):
        StreamedCheckpoints().save_checkpoint({"weights": lambda: None}, path)
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
    assert torch.load(path)["weights"].tolist() == [0, 1, 2]
