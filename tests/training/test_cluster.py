"""The settings for clusters are the published ones and parse whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

CLUSTER = Path(__file__).parents[2] / "configs" / "cluster"
NAMES = ["vila_m3_1x8", "vila_m3_4x8", "vila_m3_4x8_deepspeed"]


@pytest.mark.parametrize("name", NAMES)
def test_a_step_takes_the_published_number_of_conversations(name):
    settings = yaml.safe_load((CLUSTER / f"{name}.yaml").read_text())
    trainer = settings["trainer"]
    processes = trainer["devices"] * trainer["num_nodes"]
    # VILA-M3's scripts: 1,024 conversations a step (32 GPUs x 16 x 2), rate 2e-5, warm-up 3 %, 2 epochs, no decay.
    assert settings["data"]["batch_size"] * processes * trainer["accumulate_grad_batches"] == 1024
    model = settings["model"]
    assert (model["learning_rate"], model["warmup"], model["weight_decay"]) == (2e-5, 0.03, 0.0)
    assert trainer["max_epochs"] == 2
    if isinstance(trainer["strategy"], dict):
        assert trainer["strategy"]["init_args"]["data_parallel_size"] == processes


@pytest.mark.parametrize("name", NAMES)
def test_the_settings_parse(medvlm_command, name):
    outcome = medvlm_command("fit", "--config", str(CLUSTER / f"{name}.yaml"), "--print_config")
    assert outcome.code == 0, outcome.err
    assert "accumulate_grad_batches" in outcome.out
