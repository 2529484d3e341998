"""VQA-RAD: patients stay on one side, and where the published split leaks it is said."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from medvlm.cli import main
from medvlm.dialogue.adapters.prepare import prepare
from medvlm.dialogue.adapters.sources import connected_groups
from medvlm.dialogue.adapters.vqa_rad import VQA_RAD, read_vqa_rad
from medvlm.dialogue.conversation import Conversation, read_conversations
from medvlm.errors import MedVLMError
from medvlm.imaging.cohort import SPLITS
from medvlm.training.scoring import questions

REAL = Path(os.environ.get("MEDVLM_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "vqa_rad"


def prepare_vqa_rad(root: Path, out: Path, split: str = "patient") -> str:
    return prepare(VQA_RAD, root, out, split, subset=True)


def row(image: str, case: str, phrase: str, question: str, answer: object, kind: str = "CLOSED") -> dict[str, Any]:
    return {
        "image_name": image,
        "image_case_url": f"https://medpix.nlm.nih.gov/case?id={case}",
        "phrase_type": phrase,
        "question": question,
        "answer": answer,
        "answer_type": kind,
        "image_organ": "CHEST",
        "question_type": "PRES",
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Case A is tested and trained; C shows A's picture under another name; B and D to M are trained only."""
    folder = tmp_path / "published"
    (folder / "images").mkdir(parents=True)
    rows = [
        row("a.jpg", "A", "freeform", "Is it big?", "Yes"),
        row("a.jpg", "A", "test_freeform", "Is it  large?", "Yes "),
        row("b.jpg", "B", "test_para", "What plane?", "axial.", "OPEN"),
        row("b.jpg", "B", "test_freeform", "Is it CT?", "No", "CLOSED "),
        row("copy.jpg", "C", "para", "Is it wide?", "yes"),
        row("d.jpg", "D", "freeform", "How many <CHEST_CT(nodules)> are there?", 2, "OPEN"),
    ]
    rows += [row(f"{case}.jpg", case, "freeform", "Is it clear?", "no") for case in "EFGHIJKLM"]
    for index, name in enumerate(sorted({entry["image_name"] for entry in rows} - {"copy.jpg"})):
        Image.new("RGB", (8, 8), (10 * index, 0, 0)).save(folder / "images" / name)
    (folder / "images" / "copy.jpg").write_bytes((folder / "images" / "a.jpg").read_bytes())
    (folder / "vqa_rad.json").write_text(json.dumps(rows))
    return folder


def read_all(out: Path) -> dict[str, list[Conversation]]:
    return {split: read_conversations(out / f"{split}.jsonl") for split in SPLITS}


def test_training_questions_of_test_patients_are_dropped_and_counted(root: Path, tmp_path: Path) -> None:
    line = prepare_vqa_rad(root, tmp_path / "out")
    rows = read_all(tmp_path / "out")
    # Of 12 training questions those of A and of C (the same picture) go; 10 patients are left, one validates.
    assert {split: len(found) for split, found in rows.items()} == {"train": 9, "validation": 1, "test": 3}
    patients = {split: {c.patient for c in found} for split, found in rows.items()}
    assert not patients["train"] & patients["test"]
    assert not patients["validation"] & (patients["train"] | patients["test"])
    card = json.loads((tmp_path / "out" / "data.json").read_text())
    assert card["dropped"]["train_questions"] == 2
    assert card["shared_patients"] == 0
    assert "dropped 2 train questions of 1 test patients" in line


def test_the_official_split_says_first_that_it_leaks(root: Path, tmp_path: Path) -> None:
    line = prepare_vqa_rad(root, tmp_path / "out", split="official")
    rows = read_all(tmp_path / "out")
    assert {split: len(found) for split, found in rows.items()} == {"train": 12, "validation": 0, "test": 3}
    card = json.loads((tmp_path / "out" / "data.json").read_text())
    assert next(iter(card)) == "warning"
    assert card["warning"].startswith("LEAK: 1 of 2 test patients")
    assert card["shared_patients"] == 1
    assert "WARNING" in line


def test_answers_and_types_are_normalised(root: Path) -> None:
    items = {item.question: item for item in read_vqa_rad(root)}
    assert items["Is it large?"].answer == "yes"
    assert items["Is it CT?"].symbols["closed"]
    assert not items["What plane?"].symbols["closed"]
    assert items["What plane?"].answer == "axial"


def test_text_of_the_data_set_cannot_become_a_trigger(root: Path) -> None:
    text = next(item.question for item in read_vqa_rad(root) if item.question.startswith("How many"))
    assert "<CHEST_CT(nodules)>" not in text


def test_the_majority_baseline_is_counted_on_the_test_questions(root: Path, tmp_path: Path) -> None:
    prepare_vqa_rad(root, tmp_path / "out")
    majority = json.loads((tmp_path / "out" / "data.json").read_text())["majority"]
    # Training answers left: only "no"; of the two closed test questions one is answered "no".
    assert majority["closed"] == {"answer": "no", "questions": 2, "right": 1, "accuracy": 0.5}


def test_conversations_can_be_scored(root: Path, tmp_path: Path) -> None:
    prepare_vqa_rad(root, tmp_path / "out")
    row = next(c for c in read_all(tmp_path / "out")["test"] if "large" in c.turns[0].text)
    assert row.images == ("images/a.jpg",)
    assert (tmp_path / "out" / row.images[0]).is_file()
    (question,) = questions(row)
    assert question.closed is True
    assert question.accepted == ("yes", "yes")
    assert row.symbols["value"] is True


def test_the_names_of_the_original_download_are_found(root: Path, tmp_path: Path) -> None:
    (root / "vqa_rad.json").rename(root / "VQA_RAD Dataset Public.json")
    (root / "images").rename(root / "VQA_RAD Image Folder")
    prepare_vqa_rad(root, tmp_path / "out")
    assert (tmp_path / "out" / "images" / "a.jpg").is_file()


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda root: (root / "vqa_rad.json").unlink(), "no VQA-RAD table here"),
        (lambda root: (root / "vqa_rad.json").write_text("{"), "not valid JSON"),
        (lambda root: (root / "vqa_rad.json").write_text('[{"image_name": "a.jpg"}]'), "no field 'image_case_url'"),
        (lambda root: (root / "images" / "b.jpg").unlink(), "b.jpg: cannot be read"),
    ],
)
def test_broken_input_is_one_sentence_and_writes_nothing(
    damage: Any, sentence: str, root: Path, tmp_path: Path
) -> None:
    damage(root)
    with pytest.raises(MedVLMError, match=sentence):
        prepare_vqa_rad(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_prepares_and_lists_adapters(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["data", "prepare", "vqa_rad", "--root", str(root), "--out", str(tmp_path / "out"), "--subset", "true"])
    assert "VQA-RAD" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["data", "prepare", "other", "--root", str(root), "--out", str(tmp_path / "out")])
    assert "there are: bccd, chest_xray14, chexpert, csv, folder," in capsys.readouterr().err


def test_items_that_share_anything_are_one_group() -> None:
    pairs = [("b", "1"), ("c", "2"), ("a", "2"), ("c", "3"), ("d", "4"), ("e", "3")]
    assert connected_groups(pairs) == {"a": "a", "b": "b", "c": "a", "d": "d", "e": "a"}


@pytest.mark.skipif(not REAL.is_dir(), reason="the real VQA-RAD is not here (set MEDVLM_TEST_DATA)")
def test_the_real_data_set_has_its_published_size(tmp_path: Path) -> None:
    items = list(read_vqa_rad(REAL))
    assert sum(item.split == "test" and item.symbols["closed"] for item in items) == 272
    prepare(VQA_RAD, REAL, tmp_path / "out")
    card = json.loads((tmp_path / "out" / "data.json").read_text())
    assert card["published"]["test questions"] == {"published": 451, "found": 451}
    assert card["conversations"]["test"] == 451
    # Every training question is dropped, trained on or used for validation.
    kept = card["conversations"]["train"] + card["conversations"]["validation"]
    assert card["dropped"]["train_questions"] + kept == 1797
    assert (card["dropped"]["train_questions"], kept) == (1071, 726)
