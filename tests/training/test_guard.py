"""What can be earned without the picture is learnt without the guard, and not learnt with it."""

from __future__ import annotations

import pytest
import torch

from medvlm.dialogue.conversation import write_conversations
from medvlm.pathways.loader import load_pathway
from medvlm.pathways.reward import Scorer
from medvlm.training.policy import Policy
from medvlm.training.scripts import Sample
from tests.training.test_alignment import fit, logged, rows


@pytest.mark.slow
@pytest.mark.parametrize("guard", ["none", "blank", "shuffled"])
def test_words_that_pay_beside_any_picture(tiny, pictures, small_config, tmp_path, monkeypatch, guard) -> None:
    """The reward is the share of vowels in an answer: nothing of it is in the picture."""

    def vowels(_: Policy, sample: Sample) -> torch.Tensor:
        return torch.tensor([sum(one in "aeiou" for one in text) / max(1, len(text)) for text in sample.answers])

    monkeypatch.setattr(Policy, "_rewards", vowels)
    write_conversations(pictures / f"guard-{guard}.jsonl", rows(Scorer(load_pathway("blood_smear")), 8))
    tiny.save(tmp_path / "start")
    fit(
        tmp_path / "run",
        small_config,
        "--objective=policy",
        "--model.pathway=blood_smear",
        f"--model.name={tmp_path / 'start'}",
        f"--model.policy={{group: 6, guard: {guard}, kl: 0.0}}",
        "--model.max_new_tokens=6",
        "--model.learning_rate=3e-3",
        f"--data.train=[{pictures / f'guard-{guard}.jsonl'}]",
        "--data.episodes=8",
        "--trainer.max_epochs=25",
        "--trainer.log_every_n_steps=1",
    )
    earned = logged(tmp_path / "run", "train/reward")
    gain = sum(earned[-5:]) / 5 - sum(earned[:5]) / 5
    # From 0.6 to about 0.9 in twenty-five steps; what is left with the guard is noise of the sampling.
    if guard == "none":
        assert gain > 0.15
    else:
        assert gain < 0.1
