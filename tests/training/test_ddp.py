"""Two processes learn what one learns from the same global batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from medvlm.dialogue.conversation import write_conversations
from medvlm.pathways.loader import load_pathway
from medvlm.pathways.reward import Scorer
from medvlm.training.pairs import answer_pairs
from medvlm.training.preference import write_pairs
from medvlm.training.scripts import Sample, Script
from tests.training.test_alignment import rows

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one_with_the_same_batches(data, small_config, tmp_path):
    """Two processes take batches 0 and 1 together; one process takes them by accumulation."""

    def fit(out: str, *options: str) -> dict[str, torch.Tensor]:
        command = [sys.executable, "-m", "medvlm.cli", "fit", f"--data.train=[{data}/train.jsonl]"]
        command += [f"--model.tiny_config={small_config}", f"--trainer.default_root_dir={tmp_path / out}"]
        command += ["--trainer.enable_progress_bar=false", "--data.batch_tokens=150", "--trainer.max_steps=3"]
        command += ["--trainer.accelerator=cpu", "--model.learning_rate=1e-4", *options]
        subprocess.run(command, check=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
        return load_file(tmp_path / out / "model" / "model.safetensors")

    one = fit("one", "--trainer.accumulate_grad_batches=2")
    two = fit("two", "--trainer.devices=2", "--trainer.strategy=ddp")
    # Three steps at 1e-4 move a weight by up to 3e-4. Sums in another order differ in the last bits, which AdamW
    # enlarges where a gradient is next to nothing; a batch left out or weighted wrongly moves weights by far more than
    # a twentieth of that.
    # A key bias shifts all scores of a query alike: softmax takes it out, its gradient is rounding noise and no more.
    for name, value in one.items():
        if name.endswith("k_proj.bias"):
            continue
        torch.testing.assert_close(value, two[name], rtol=0, atol=0.05 * 3e-4)


@pytest.fixture
def aligned(tiny, pictures: Path, tmp_path: Path) -> dict[str, list[str]]:
    """Objective → options; a saved model, pairs and scripts of the blood smear pathway."""
    tiny.save(tmp_path / "start")
    scorer = Scorer(load_pathway("blood_smear"))
    made = rows(scorer, 12)
    write_conversations(pictures / "ddp_scripts.jsonl", made)
    wrong = [Sample(Script.of(row), None, answers=["No idea."] * len(row.symbols["asked"])) for row in made]  # type: ignore[arg-type]
    write_pairs(pictures / "ddp_pairs.jsonl", list(answer_pairs(wrong, scorer)))
    policy = ["--model.pathway=blood_smear", "--model.max_new_tokens=5", "--data.episodes=2"]
    policy += [f"--data.train=[{pictures / 'ddp_scripts.jsonl'}]"]
    return {
        "preference": [f"--data.train=[{pictures / 'ddp_pairs.jsonl'}]", "--data.batch_tokens=900"],
        "policy": [*policy, "--model.policy={group: 3}"],
        "ppo": [*policy, "--model.policy={group: 2, variant: ppo, discount: 0.9}"],
    }


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["preference", "policy", "ppo"])
def test_two_processes_align_like_one(aligned, objective, tmp_path) -> None:
    """Losses of every batch and the weights after three steps; the conversations are sampled anew in both runs."""

    def fit(out: str, *options: str) -> tuple[list[list[float]], dict[str, torch.Tensor]]:
        command = [sys.executable, "-m", "medvlm.cli", "fit", "--objective", objective.replace("ppo", "policy")]
        command += [f"--model.name={tmp_path / 'start'}", f"--trainer.default_root_dir={tmp_path / out}"]
        command += ["--trainer.enable_progress_bar=false", "--trainer.max_steps=3", "--trainer.accelerator=cpu"]
        command += ["--trainer.callbacks+=tests.training.record_losses.RecordLosses", "--model.learning_rate=1e-4"]
        settings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        subprocess.run([*command, *aligned[objective], *options], check=True, timeout=300, env=settings)
        files = sorted((tmp_path / out).glob("losses-*.jsonl"))
        losses = [[json.loads(line)["loss"] for line in file.read_text().splitlines()] for file in files]
        return losses, load_file(tmp_path / out / "model" / "model.safetensors")

    (one,), weights = fit("one", "--trainer.accumulate_grad_batches=2")
    two, others = fit("two", "--trainer.devices=2", "--trainer.strategy=ddp")
    # Process 0 takes the batches 0, 2, 4 and process 1 the others. The first losses differ by nothing but the order of
    # sums; later ones also by what AdamW made of that.
    together = [loss for pair in zip(*two, strict=True) for loss in pair]
    assert len(one) == 6
    assert max(abs(loss) for loss in one) > 1e-3
    assert one == pytest.approx(together, rel=1e-4, abs=1e-5)
    for name, value in weights.items():
        if not name.endswith("k_proj.bias"):
            torch.testing.assert_close(value, others[name], rtol=0, atol=0.05 * 3e-4)
