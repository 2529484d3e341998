"""Folders of conversations: building, the card, plain cohorts, export, and the commands."""

import json

import numpy as np
import pytest
from PIL import Image

from medvlm.dialogue.build import Mix
from medvlm.dialogue.conversation import Conversation, Turn, read_conversations
from medvlm.dialogue.dataset import build_dataset, write_dataset
from medvlm.dialogue.plain_cohort import index_folder
from medvlm.errors import MedVLMError
from medvlm.findings.finding import write_findings
from medvlm.imaging.cohort import Cohort, CohortEntry, read_cohort
from medvlm.storage import write_json
from tests.dialogue.sample import absent, heart, nodule

SPLIT = {"a": "train", "b": "train", "c": "validation", "d": "test"}
TRUTH = (nodule(1, 14.2), absent("pleural_effusion"), heart(0.56))


@pytest.fixture
def clinic(tmp_path):
    """Four studies of one small picture each, with truth and annotations."""
    root, notes = tmp_path / "clinic", tmp_path / "findings"
    entries = []
    for number, (name, split) in enumerate(SPLIT.items()):
        (root / name).mkdir(parents=True)
        Image.fromarray(np.full((40, 50), 60 * number, np.uint8)).save(root / name / "film.png")
        write_findings(root / name / "truth.jsonl", TRUTH)
        (notes / "findings").mkdir(parents=True, exist_ok=True)
        write_findings(notes / "findings" / f"{name}.jsonl", TRUTH)
        entries.append(CohortEntry(name, f"p-{name}", split, f"{name}/film.png", truth=f"{name}/truth.jsonl"))
    write_json(notes / "annotation.json", {"schema": 1, "cohort": "small", "experts": []})
    cohort = Cohort(root, "small", {}, tuple(entries))
    cohort.write()
    return cohort, notes


def test_folder_holds_splits_pictures_and_a_card(clinic, tmp_path):
    cohort, notes = clinic
    out = tmp_path / "data"
    mix = Mix(expert=3, plain=2, practice=4, validation=1)
    card = build_dataset(cohort, notes, "chest_ct", out, mix, seed=5, workers=1, progress=False)
    # Two training studies with 3 + 2 + 4 conversations, one for validation with 1 + 1.
    assert card["conversations"]["train"] == 18
    assert card["conversations"]["validation"] == 2
    assert card["patients"] == {"train": 2, "validation": 1, "test": 1}
    assert card == json.loads((out / "data.json").read_text())
    assert (card["expert"]["expert"], card["seed"], card["shared_patients"]) == ("chest_ct", 5, 0)
    for split in ("train", "validation", "test"):
        for conversation in read_conversations(out / f"{split}.jsonl"):
            assert conversation.split == split
            assert all((out / image).is_file() for image in conversation.images)
    assert sorted(path.name for path in (out / "images").iterdir()) == ["a.png", "b.png", "c.png", "d.png"]


def test_pictures_that_are_there_are_kept(clinic, tmp_path):
    cohort, notes = clinic
    out = tmp_path / "data"
    build_dataset(cohort, notes, "chest_ct", out, workers=1, progress=False)
    before = (out / "images" / "a.png").stat().st_mtime_ns
    build_dataset(cohort, notes, "chest_ct", out, workers=1, progress=False)
    assert (out / "images" / "a.png").stat().st_mtime_ns == before


def test_study_without_annotation_or_truth_is_named(clinic, tmp_path):
    cohort, notes = clinic
    (notes / "findings" / "c.jsonl").unlink()
    with pytest.raises(MedVLMError, match="no findings for study c"):
        build_dataset(cohort, notes, "chest_ct", tmp_path / "data", workers=1, progress=False)
    bare = Cohort(cohort.root, "bare", {}, (CohortEntry("a", "p", "train", "a/film.png"),))
    with pytest.raises(MedVLMError, match="study a has no true findings"):
        build_dataset(bare, notes, "chest_ct", tmp_path / "data", workers=1, progress=False)
    assert not (tmp_path / "data").exists()


def test_study_that_the_expert_could_not_read_teaches_the_honest_answer(clinic, tmp_path):
    cohort, notes = clinic
    for name in ("a", "d"):
        (notes / "findings" / f"{name}.jsonl").unlink()
        write_json(notes / "failed" / f"{name}.json", {"chest_ct": "no series applies"})
    build_dataset(cohort, notes, "chest_ct", tmp_path / "data", workers=1, progress=False)
    for split, patient in (("train", "p-a"), ("test", "p-d")):
        rows = [row for row in read_conversations(tmp_path / "data" / f"{split}.jsonl") if row.patient == patient]
        seen = [row for row in rows if row.symbols["kind"] != "practice"]
        experts = [turn.text for row in seen for turn in row.turns if turn.role == "expert"]
        assert experts
        assert all("error" in text for text in experts)


def test_a_patient_in_two_splits_fails_the_build(tmp_path):
    turns = (Turn("user", "a"), Turn("assistant", "b"))
    rows = [Conversation("1", "same", "train", turns), Conversation("2", "same", "test", turns)]
    with pytest.raises(MedVLMError, match="more than one split"):
        write_dataset(tmp_path / "data", rows, {})
    assert not (tmp_path / "data").exists()


def test_command_builds_and_says_what(clinic, tmp_path, medvlm_command):
    cohort, notes = clinic
    out = tmp_path / "data"
    options = ["--out", out, "--workers", 1, "--practice", 1]
    done = medvlm_command("data", "build", cohort.root, "--findings", notes, *options)
    assert done.code == 0, done.err
    # 2 x (8 + 4 + 1) training conversations.
    assert "26 train" in done.out
    assert "0 shared patients" in done.out


def test_plain_folder_becomes_a_cohort(tmp_path):
    for name in ("one", "two"):
        (tmp_path / "studies" / name).mkdir(parents=True)
    table = tmp_path / "splits.csv"
    table.write_text("\ufeffstudy,patient,split\none,p1,train\ntwo,p2,test\n", encoding="utf-8")
    index_folder(tmp_path / "studies", table)
    cohort = read_cohort(tmp_path / "studies")
    assert [(entry.id, entry.patient, entry.split) for entry in cohort.entries] == [
        ("one", "p1", "train"),
        ("two", "p2", "test"),
    ]


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("study,patient,split\n", "no rows"),
        ("study,split\none,train\n", "no column 'patient'"),
        ("study,patient,split\none,p,dev\n", "line 2: split is one of"),
        ("study,patient,split\none,,train\n", "line 2: 'patient' is empty"),
        ("study,patient,split\nthree,p,train\n", "line 2: .*three does not exist"),
        ("study,patient,split\none,p,train\none,p,train\n", "more than one line for study one"),
        ("study,patient,split\none,p,train\ntwo,p,test\n", "more than one split"),
    ],
)
def test_broken_tables_are_one_sentence_and_write_nothing(tmp_path, table, reason):
    for name in ("one", "two"):
        (tmp_path / "studies" / name).mkdir(parents=True)
    (tmp_path / "splits.csv").write_text(table)
    with pytest.raises(MedVLMError, match=reason):
        index_folder(tmp_path / "studies", tmp_path / "splits.csv")
    assert not (tmp_path / "studies" / "cohort.json").exists()


def test_export_command_writes_llava_and_parquet(tmp_path, medvlm_command):
    turns = (Turn("user", "a", ("x.png",)), Turn("assistant", "b"))
    write_dataset(tmp_path, [Conversation("1", "p", "train", turns)], {})
    source = tmp_path / "train.jsonl"
    assert medvlm_command("data", "export", source, "--out", tmp_path / "a.json").code == 0
    assert json.loads((tmp_path / "a.json").read_text())[0]["conversations"][0]["value"] == "<image>\na"
    assert medvlm_command("data", "export", source, "--out", tmp_path / "a.parquet", "--format", "parquet").code == 0
    assert read_conversations(tmp_path / "a.parquet")[0].turns == turns
    wrong = medvlm_command("data", "export", source, "--out", tmp_path / "a.txt")
    assert (wrong.code, "ends in .json" in wrong.err) == (2, True)


def test_import_command_reads_llava_with_the_patient_key(tmp_path, medvlm_command):
    talk = [{"from": "human", "value": "<image>\na"}, {"from": "gpt", "value": "b"}]
    rows = [{"id": str(n), "image": f"{n}.png", "subject": "s1", "conversations": talk} for n in range(2)]
    source = tmp_path / "llava.json"
    source.write_text(json.dumps(rows))
    done = medvlm_command("data", "import", source, "--out", tmp_path / "a.jsonl", "--patient", "subject")
    assert done.code == 0, done.err
    assert {row.patient for row in read_conversations(tmp_path / "a.jsonl")} == {"s1"}
    missing = medvlm_command("data", "import", source, "--out", tmp_path / "b.jsonl", "--patient", "nobody")
    assert (missing.code, "'nobody' is missing" in missing.err) == (2, True)
    assert not (tmp_path / "b.jsonl").exists()


def test_unknown_adapter_lists_the_known_ones(tmp_path, medvlm_command):
    done = medvlm_command("data", "prepare", "nope", "--root", tmp_path, "--out", tmp_path / "out")
    assert done.code == 2
    assert "vqa_rad" in done.err
