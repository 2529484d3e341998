"""The pathway's reward in TRL's own trainer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from medvlm.models.load import load_model
from medvlm.pathways.adapters import reward_function
from medvlm.pathways.dialogues import score_row
from medvlm.pathways.loader import load_pathway
from medvlm.pathways.reward import Scorer
from tests.training.test_alignment import rows


@pytest.mark.slow
def test_trl_trains_two_steps_with_our_reward_on_pictures(tiny, pictures: Path, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    scorer = Scorer(load_pathway("blood_smear"))
    made = rows(scorer, 4)
    data = datasets.Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": row.turns[0].text}],
                "asked": row.symbols["asked"][:1],
                "questions": row.symbols["questions"][:1],
                "truth": json.dumps(row.symbols["truth"]),
                "picture": str(pictures / row.images[0]),
            }
            for row in made
        ]
    ).with_transform(lambda batch: batch | {"image": [Image.open(path).convert("RGB") for path in batch["picture"]]})
    tiny.save(tmp_path / "start")
    loaded = load_model(tmp_path / "start")
    reward, scored = reward_function("blood_smear"), []

    def watched(prompts, completions, **columns):
        values = reward(prompts, completions, **columns)
        scored.extend(zip(completions, columns["truth"], columns["asked"], columns["questions"], values, strict=True))
        return values

    watched.__name__ = reward.__name__
    settings = trl.GRPOConfig(
        output_dir=str(tmp_path / "trl"),
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=6,
        max_steps=2,
        save_strategy="no",
        report_to=[],
        logging_steps=1,
        gradient_checkpointing=False,
        remove_unused_columns=False,
    )
    trainer = trl.GRPOTrainer(
        model=loaded.model, processing_class=loaded.processor, reward_funcs=watched, args=settings, train_dataset=data
    )
    trainer.train()
    steps = [row for row in trainer.state.log_history if "rewards/pathway_blood_smear/mean" in row]
    assert len(steps) == 2
    assert len(scored) == 8
    for completion, truth, asked, questions, value in scored:
        symbols = {"asked": asked, "questions": questions, "truth": json.loads(truth)}
        text = completion[0]["content"]
        assert value == score_row(scorer, {"id": "c", "symbols": symbols}, [text]).total
