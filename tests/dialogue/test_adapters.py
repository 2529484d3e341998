"""Every adapter on a few rows of the published layout: splits, patients, counts, scoring, and what is refused."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from medvlm.cli import main
from medvlm.dialogue.adapters import ADAPTERS, SOURCES, prepare_named
from medvlm.dialogue.adapters.labels import CHEXPERT_LABELS
from medvlm.dialogue.adapters.mimic import sections
from medvlm.dialogue.conversation import Conversation, read_conversations
from medvlm.dialogue.score import Score
from medvlm.errors import MedVLMError
from medvlm.imaging.cohort import SPLITS


def picture(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), shade).save(path)
    return path


def table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def slake(root: Path) -> None:
    """Two English and one Chinese question in training; picture 2 is tested."""
    base = {"location": "Lung", "modality": "CT", "content_type": "Organ", "base_type": "vqa", "triple": []}
    rows = {
        "train.json": [(1, "en", "Is it CT?", "Yes", "CLOSED"), (1, "en", "Which organ?", "Lung.", "OPEN")],
        "validate.json": [(3, "en", "Is it MRI?", "No", "CLOSED")],
        "test.json": [(2, "en", "Is it CT?", "No", "CLOSED")],
    }
    rows["train.json"].append((1, "zh", "这是CT吗?", "是", "CLOSED"))
    for name, entries in rows.items():
        data = [
            {**base, "img_id": n, "img_name": f"xmlab{n}/source.jpg", "q_lang": lang, "question": q, "answer": a}
            | {"answer_type": kind, "qid": number}
            for number, (n, lang, q, a, kind) in enumerate(entries)
        ]
        (root / name).write_text(json.dumps(data))
    for n in (1, 2, 3):
        picture(root / "imgs" / f"xmlab{n}" / "source.jpg", n)


def path_vqa(root: Path) -> None:
    """The picture of the first training question is also tested."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    def image(shade: int) -> dict[str, object]:
        buffer = BytesIO()
        Image.new("L", (8, 8), shade).save(buffer, "JPEG")
        return {"bytes": buffer.getvalue(), "path": None}

    rows = {"train": [(1, "yes"), (2, "liver")], "validation": [(3, "no")], "test": [(1, "kidney")]}
    (root / "data").mkdir()
    for split, entries in rows.items():
        data = [{"image": image(shade * 40), "question": "what?", "answer": answer} for shade, answer in entries]
        pq.write_table(pa.Table.from_pylist(data), root / "data" / f"{split}-00000-of-00001.parquet")


def pmc_vqa(root: Path) -> None:
    """The second training figure is from a tested article."""

    def row(figure: str, label: str) -> dict[str, object]:
        options = {f"Choice {letter}": f"{letter}:option {letter}" for letter in "ABCD"}
        return {"Figure_path": figure, "Question": "Which?", "Answer": "x", **options, "Answer_label": label}

    table(root / "train.csv", [row("PMC1_F1.jpg", "B"), row("PMC2_F2.jpg", "A")])
    table(root / "test_clean.csv", [row("PMC2_F1.jpg", "D")])
    for name in ("PMC1_F1.jpg", "PMC2_F1.jpg", "PMC2_F2.jpg"):
        picture(root / "images" / name)


def omni_med_vqa(root: Path) -> None:
    row = {"dataset": "X", "question_id": "x_1", "question_type": "Modality Recognition", "question": "Modality?"}
    row |= {"gt_answer": "MR", "image_path": "Images/x/1.png", "modality_type": "MR"}
    row |= {"option_A": "CT", "option_B": "MR", "option_C": None, "option_D": None}
    (root / "QA_information" / "Open-access").mkdir(parents=True)
    (root / "QA_information" / "Open-access" / "x.json").write_text(json.dumps([row]))
    picture(root / "Images" / "x" / "1.png")


REPORT = """                 FINAL REPORT
 INDICATION: Cough.

 FINDINGS: The lungs are
 clear.

 IMPRESSION: Normal chest.
"""


def mimic(root: Path) -> None:
    """Two frontal pictures and a lateral one; study 3 has no findings."""
    rows = [("d1", 10000001, 1, "train", "PA"), ("d2", 10000001, 1, "train", "LATERAL")]
    rows += [("d3", 10000002, 2, "test", "AP"), ("d4", 10000003, 3, "validate", "PA")]
    keys = ("dicom_id", "subject_id", "study_id")
    table(root / "mimic-cxr-2.0.0-split.csv.gz", [dict(zip((*keys, "split"), row[:4])) for row in rows])
    table(root / "mimic-cxr-2.0.0-metadata.csv.gz", [dict(zip(keys, r[:3])) | {"ViewPosition": r[4]} for r in rows])
    for dicom, subject, study, _, _ in rows:
        folder = root / "files" / "p10" / f"p{subject}" / f"s{study}"
        picture(folder / f"{dicom}.jpg", study)
        folder.with_suffix(".txt").write_text("Wet read only." if study == 3 else REPORT)


def diff_vqa(root: Path) -> None:
    mimic(root)
    columns = ("subject_id", "study_id", "ref_id", "question_type", "question", "answer", "split")
    rows = [
        (10000001, 1, 3, "difference", "what has changed?", "nothing has changed.", "train"),
        (10000002, 2, 1, "presence", "is there edema?", "yes", "test"),
    ]
    table(root / "mimic_pair_questions.csv", [dict(zip(columns, row)) for row in rows])


def chexpert(root: Path) -> None:
    """One training picture (two positive, one negative, one uncertain label) and one for validation."""
    blank = dict.fromkeys(CHEXPERT_LABELS, "")
    train = {"Path": "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg", **blank}
    train |= {"Edema": "1.0", "Fracture": "1.0", "Cardiomegaly": "0.0", "Pneumonia": "-1.0", "Lung Lesion": "0.0"}
    valid = {"Path": "CheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg", **blank, "Edema": "0.0"}
    valid["Atelectasis"] = "1.0"
    table(root / "train.csv", [train])
    table(root / "valid.csv", [valid])
    for row in (train, valid):
        picture(root / row["Path"].partition("/")[2])


def chest_xray14(root: Path) -> None:
    """Patient 1 is in training with two pictures, patient 2 is tested."""
    rows = [("00000001_000.png", "Mass|Nodule", 1), ("00000001_001.png", "No Finding", 1)]
    rows += [("00000002_000.png", "Hernia", 2)]
    keys = ("Image Index", "Finding Labels", "Patient ID")
    table(root / "Data_Entry_2017_v2020.csv", [dict(zip(keys, row)) for row in rows])
    (root / "test_list.txt").write_text("00000002_000.png\n")
    for name, _, _ in rows:
        picture(root / "images_001" / "images" / name)


def oct_folder(root: Path) -> None:
    """Patient 11 is in training and in test."""
    names = ["train/CNV/CNV-11-1.jpeg", "train/DME/DME-12-1.jpeg", "train/NORMAL/NORMAL-13-1.jpeg"]
    for name in [*names, "val/DME/DME-14-1.jpeg", "test/CNV/CNV-11-2.jpeg"]:
        picture(root / name)


# name → layout, conversations by split with patients kept apart
CASES: dict[str, tuple[Callable[[Path], None], tuple[int, int, int]]] = {
    "slake": (slake, (2, 1, 1)),
    "slake_bilingual": (slake, (3, 1, 1)),
    # One training question goes: its picture is tested.
    "path_vqa": (path_vqa, (1, 1, 1)),
    # One goes; of the one patient left a tenth is none for validation.
    "pmc_vqa": (pmc_vqa, (1, 0, 1)),
    "omni_med_vqa": (omni_med_vqa, (0, 0, 1)),
    # The lateral picture and the study without findings give nothing.
    "mimic_cxr": (mimic, (1, 0, 1)),
    "mimic_diff_vqa": (diff_vqa, (1, 0, 1)),
    # Two positive labels and as many negative ones; both labels that are known in validation.
    "chexpert": (chexpert, (4, 2, 0)),
    # Mass, nodule and two negatives; one negative of the picture without findings; all 14 in test.
    "chest_xray14": (chest_xray14, (5, 0, 14)),
    "oct": (oct_folder, (2, 1, 1)),
}


@pytest.fixture(params=sorted(CASES))
def prepared(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path, dict[str, list[Conversation]]]:
    root, out = tmp_path / "published", tmp_path / "out"
    root.mkdir()
    CASES[request.param][0](root)
    prepare_named(request.param, root, out, subset=True)
    return request.param, out, {split: read_conversations(out / f"{split}.jsonl") for split in SPLITS}


def test_published_splits_are_kept_and_leaking_patients_dropped(prepared) -> None:
    name, out, rows = prepared
    assert tuple(len(rows[split]) for split in SPLITS) == CASES[name][1]
    patients = [{row.patient for row in rows[split]} for split in SPLITS]
    assert len(set().union(*patients)) == sum(map(len, patients))
    card = json.loads((out / "data.json").read_text())
    assert card["shared_patients"] == 0
    assert all(card[key] for key in ("licence", "source", "patient"))
    everything = [row for split in SPLITS for row in rows[split]]
    assert len({row.id for row in everything}) == len(everything)


def test_pictures_are_there_and_the_taught_answer_scores_as_right(prepared) -> None:
    _, out, rows = prepared
    for row in (row for split in SPLITS for row in rows[split]):
        assert row.images
        assert all((out / image).is_file() for image in row.images)
        if row.symbols.get("score"):
            assert Score.from_json(row.symbols["score"]).correct(row.turns[-1].text, row.symbols["value"])


@pytest.mark.parametrize("name", sorted(set(CASES) - {"slake_bilingual"}))
def test_another_number_than_published_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    root = tmp_path / "published"
    root.mkdir()
    CASES[name][0](root)
    with pytest.raises(MedVLMError, match=r"where .* has [\d,]+ as published.*--subset"):
        prepare_named(name, root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_official_split_keeps_the_leak_and_says_so(tmp_path: Path) -> None:
    root = tmp_path / "published"
    root.mkdir()
    oct_folder(root)
    line = prepare_named("oct", root, tmp_path / "out", split="official", subset=True)
    assert "WARNING" in line
    assert "1 of 1 test patients also have training questions (1)" in line
    assert len(read_conversations(tmp_path / "out" / "train.jsonl")) == 3


def test_difference_questions_show_the_earlier_picture_first(tmp_path: Path) -> None:
    root = tmp_path / "published"
    root.mkdir()
    diff_vqa(root)
    prepare_named("mimic_diff_vqa", root, tmp_path / "out", subset=True)
    (row,) = read_conversations(tmp_path / "out" / "train.jsonl")
    assert [Path(image).stem for image in row.images] == ["d4", "d1"]


def test_reports_keep_findings_and_impression_only() -> None:
    assert sections(REPORT) == {"findings": "The lungs are clear.", "impression": "Normal chest."}
    assert sections("no sections") == {}


def test_pictures_can_stay_where_they_are(tmp_path: Path) -> None:
    root = tmp_path / "published"
    root.mkdir()
    slake(root)
    prepare_named("slake", root, tmp_path / "out", subset=True, pictures="keep")
    (row,) = read_conversations(tmp_path / "out" / "test.jsonl")
    assert row.images == (str((root / "imgs" / "xmlab2" / "source.jpg").resolve()),)
    assert not (tmp_path / "out" / "images").exists()


def test_an_own_table_is_split_by_its_patients(tmp_path: Path) -> None:
    root = tmp_path / "own"
    rows = [{"image": f"{n}.png", "question": "Is it?", "answer": "Yes", "case": f"p{n // 2}"} for n in range(40)]
    table(root / "table.csv", rows)
    for n in range(40):
        picture(root / f"{n}.png")
    prepare_named("csv", root, tmp_path / "out", patient="case")
    # 20 patients of two rows each: 4 for test, 2 for validation.
    assert [len(read_conversations(tmp_path / "out" / f"{split}.jsonl")) for split in SPLITS] == [28, 4, 8]
    (root / "table.csv").write_text("image,question,answer\n0.png,q,a\n")
    with pytest.raises(MedVLMError, match="no column 'patient'"):
        prepare_named("csv", root, tmp_path / "other")


def test_an_own_folder_of_classes_becomes_questions(tmp_path: Path) -> None:
    root = tmp_path / "own"
    for n in range(10):
        picture(root / ("benign" if n % 2 else "malignant") / f"case{n}-a.png", n)
    prepare_named("folder", root, tmp_path / "out", patient=r"(case\d+)-")
    rows = [row for split in SPLITS for row in read_conversations(tmp_path / "out" / f"{split}.jsonl")]
    assert len(rows) == 10
    assert {row.turns[-1].text for row in rows} == {"benign", "malignant"}
    with pytest.raises(MedVLMError, match="holds no patient"):
        prepare_named("folder", root, tmp_path / "other", patient=r"(id\d+)")


def test_the_sets_are_listed_with_licence_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "sets"])
    said = capsys.readouterr().out
    assert all(name in said for name in ADAPTERS)
    main(["data", "sets", "--name", "slake"])
    assert "7,033" in capsys.readouterr().out
    assert all(source.counts for source in SOURCES.values())


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("(b)", "B"),
        ("B. focal", "B"),
        ("The answer is C.", "C"),
        ("Answer: B", "B"),
        ("diffuse", "A"),
        ("A focal one", "B"),
        ("A", "A"),
        ("E", None),
        ("focal or diffuse", None),
        ("", None),
    ],
)
def test_options_are_read_from_letters_and_words(text: str, letter: str | None) -> None:
    assert Score("option", options=("diffuse", "focal", "none")).read(text) == letter
