"""The four subcommands as a user meets them: results, and one sentence for what cannot work."""

from __future__ import annotations

import json

import pytest

from medvlm.dialogue.conversation import read_conversations
from medvlm.models.generate import Generator
from medvlm.models.load import load_model


@pytest.fixture(scope="module")
def trained(data, small_config, tmp_path_factory):
    """A folder with a model of two steps."""
    from tests.training.test_finetune import fit

    out = tmp_path_factory.mktemp("trained")
    fit(data, small_config, out, "--trainer.max_steps=2")
    return out / "model"


def test_test_writes_scores_beside_the_majority_answer(medvlm_command, data, trained, tmp_path):
    outcome = medvlm_command(
        "test",
        f"--model.name={trained}",
        f"--data.test=[{data}/test.jsonl]",
        f"--data.train=[{data}/train.jsonl]",
        f"--trainer.default_root_dir={tmp_path}",
        "--model.max_new_tokens=4",
    )
    assert outcome.code == 0, outcome.err
    scores = {row["task"]: row for row in json.loads((tmp_path / "test.json").read_text())["scores"]}
    # Every conversation calls the expert with the same words: always giving them is right every time.
    assert scores["call"]["majority"] == 1.0
    assert scores["call"]["questions"] == scores["nodule_size"]["questions"] == 4
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 8
    assert "majority answer" in outcome.out


def test_predict_answers_only_what_is_not_answered_yet(medvlm_command, data, trained, tmp_path):
    command = ("predict", f"--model.name={trained}", f"--data.test=[{data}/test.jsonl]", "--model.max_new_tokens=2")
    command = (*command, f"--trainer.default_root_dir={tmp_path}")
    assert medvlm_command(*command).code == 0
    rows = (tmp_path / "predictions.jsonl").read_text().splitlines()
    (tmp_path / "predictions.jsonl").write_text("\n".join(rows[:3]) + "\n")
    assert medvlm_command(*command).code == 0
    again = [json.loads(row)["id"] for row in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert sorted(again) == sorted(json.loads(row)["id"] for row in rows)


def test_validate_prints_the_loss(medvlm_command, data, trained, tmp_path):
    options = (f"--model.name={trained}", f"--data.validation=[{data}/validation.jsonl]")
    outcome = medvlm_command("validate", *options, f"--trainer.default_root_dir={tmp_path}")
    assert outcome.code == 0, outcome.err
    assert "val/loss" in outcome.out


def test_plain_transformers_give_the_same_tokens_as_the_generator(data, trained):
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(trained)
    processor = AutoProcessor.from_pretrained(trained)
    generator = Generator(load_model(str(trained)), max_new_tokens=8, root=data)
    for conversation in read_conversations(data / "test.jsonl"):
        messages = conversation.to_messages()[:1]
        for part in messages[0]["content"]:
            if part["type"] == "image":
                part["path"] = str(data / conversation.images[0])
        inputs = processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        with torch.inference_mode():
            plain = model.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        prompt = type(conversation)("q", "p", "test", conversation.turns[:1])
        assert generator.answer(prompt) == processor.decode(plain, skip_special_tokens=True).strip()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--data.train=[missing.jsonl]"], "missing.jsonl: no such file"),
        (["--model.name=no_such_model"], "unknown model 'no_such_model'"),
        (["--trainer.accelerator=gpu"], "accelerator"),
        (["--model.learning_rate=fast"], "learning_rate"),
        (["--no.such.option=1"], "no.such.option"),
        (["--config=lost.yaml"], "lost.yaml"),
        (["--model.tuning.vision=sometimes"], "vision"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(medvlm_command, data, small_config, tmp_path, options, says):
    common = [f"--data.train=[{data}/train.jsonl]", f"--model.tiny_config={small_config}"]
    outcome = medvlm_command("fit", *common, f"--trainer.default_root_dir={tmp_path / 'run'}", *options)
    assert outcome.code == 2
    (sentence,) = [line for line in outcome.err.splitlines() if line.startswith("medvlm: ")]
    assert says in sentence
    assert not (tmp_path / "run").exists()


def test_nothing_to_train_is_refused(medvlm_command, data, small_config, tmp_path):
    parts = [f"--model.tuning.{part}=freeze" for part in ("vision", "projector", "language")]
    common = [f"--data.train=[{data}/train.jsonl]", f"--model.tiny_config={small_config}"]
    outcome = medvlm_command("fit", *common, *parts, f"--trainer.default_root_dir={tmp_path}")
    assert (outcome.code, "nothing trains" in outcome.err) == (2, True)
