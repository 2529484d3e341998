"""`medvlm evaluate answers` with a model that medvlm did not train, and from a file of predictions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from medvlm.cli import main
from medvlm.dialogue.conversation import Conversation, Turn, write_conversations
from medvlm.storage import write_jsonl


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = []
    for n in range(4):
        Image.new("RGB", (32, 32), (40 * n, 0, 0)).save(tmp_path / f"{n}.png")
        symbols = {"closed": True, "answer": "yes", "value": True, "score": {"kind": "yes_no"}}
        turns = (Turn("user", "Is it clear?", (f"{n}.png",)), Turn("assistant", "yes"))
        rows.append(Conversation(f"q{n}", f"p{n}", "test", turns, "vqa", symbols=symbols))
    write_conversations(tmp_path / "test.jsonl", rows)
    return tmp_path


def test_predictions_of_any_program_are_scored(folder, tmp_path, capsys):
    write_jsonl(folder / "said.jsonl", [{"id": f"q{n}#1", "answer": "Yes." if n else "No."} for n in range(4)])
    command = ["evaluate", "answers", str(folder), "--predictions", str(folder / "said.jsonl"), "--out"]
    main([*command, str(tmp_path / "r")])
    data = json.loads((tmp_path / "r" / "results.json").read_text())
    assert data["groups"][0]["accuracy"]["value"] == 0.75
    assert (tmp_path / "r" / "index.html").is_file()
    (folder / "said.jsonl").write_text('{"id": "q0", "answer": "x"}\n')
    with pytest.raises(SystemExit):
        main([*command, str(tmp_path / "other")])
    assert "no answer for 3 questions, such as q1" in capsys.readouterr().err


def test_a_plain_transformers_folder_is_evaluated_without_any_training(folder, tmp_path):
    """The class and the processor are transformers' own; its random weights say nothing that is right."""
    from medvlm.models.load import load_model

    saved = load_model("tiny", corpus=["Is it clear? yes no"] * 20)
    saved.model.save_pretrained(tmp_path / "model")
    saved.processor.save_pretrained(tmp_path / "model")
    arguments = ["--model", str(tmp_path / "model"), "--out", str(tmp_path / "r"), "--max_new_tokens", "4"]
    main(["evaluate", "answers", str(folder), *arguments, "--confidence", "true"])
    data = json.loads((tmp_path / "r" / "results.json").read_text())
    assert data["groups"][0]["questions"] == 4
    assert "blank" in data["groups"][0]["controls"]
    assert set(data["selective"]["accuracy"]) == {"1", "0.8", "0.6", "0.4", "0.2"}
    assert "loop:none" in data["signatures"]["accuracy"]
    assert len((tmp_path / "r" / "outcomes.jsonl").read_text().splitlines()) == 4


def test_reports_are_scored_by_words_and_findings(tmp_path):
    rows = [{"id": "1", "report": "No pleural effusion.", "reference": "Pleural effusion."}]
    rows += [{"id": "2", "report": "Pneumothorax.", "reference": "Pneumothorax."}]
    write_jsonl(tmp_path / "reports.jsonl", rows)
    main(["evaluate", "reports", str(tmp_path / "reports.jsonl"), "--out", str(tmp_path / "r")])
    data = json.loads((tmp_path / "r" / "results.json").read_text())
    # One matched, one contradicted.
    assert (data["findings"]["precision"], data["findings"]["recall"]) == (0.5, 0.5)
    assert data["words"]["rouge_l"] > 0.5
    assert "pathway:chest_xray" in data["signatures"]["findings"]


def test_duplicates_between_files_are_printed(folder, capsys):
    main(["evaluate", "duplicates", str(folder / "test.jsonl"), str(folder / "test.jsonl")])
    assert "4 of 4 test pictures" in capsys.readouterr().out
