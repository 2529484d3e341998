"""The average of the weights, and answers during validation."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch

from medvlm.errors import MedVLMError
from medvlm.training.average import WeightAverage
from tests.training.test_finetune import NORM, fit


class Weight(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.0]))
        self.frozen = torch.nn.Parameter(torch.tensor([5.0]), requires_grad=False)


class Steps:
    """Stands for a trainer."""

    global_step = 0


def test_the_average_follows_the_weights_and_gives_them_back_after_validation():
    module, trainer, average = Weight(), Steps(), WeightAverage(0.5)
    average.on_train_start(trainer, module)
    for step, value in ((1, 1.0), (2, 3.0)):
        module.weight.data.fill_(value)
        trainer.global_step = step
        average.on_train_batch_end(trainer, module)
    # keep = min(0.5, (1 + step) / (10 + step)): 2/11, then 3/12
    expected = (1.0 * 9 / 11) * 3 / 12 + 3.0 * 9 / 12
    average.on_validation_start(trainer, module)
    assert float(module.weight) == pytest.approx(expected)
    average.on_validation_end(trainer, module)
    assert float(module.weight) == 3.0
    assert set(average.state_dict()["average"]) == {"weight"}


def test_a_run_saves_its_average_and_logs_the_share_of_right_answers(data, small_config, tmp_path):
    validated = (f"--data.validation=[{data}/validation.jsonl]", "--trainer.max_epochs=1", "--samples.max_new_tokens=2")
    last = fit(data, small_config, tmp_path / "last", *validated)
    averaged = fit(data, small_config, tmp_path / "average", *validated, "--average.decay=0.9")
    assert not torch.equal(last[NORM], averaged[NORM])
    assert "val/right" in (tmp_path / "last" / "metrics" / "version_0" / "metrics.csv").read_text().splitlines()[0]


def test_an_impossible_decay_is_refused():
    with pytest.raises(MedVLMError, match="from 0"):
        WeightAverage(1.0)
