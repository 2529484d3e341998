"""Visual question answering sets: SLAKE, PathVQA, PMC-VQA and OmniMedVQA."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from medvlm.dialogue.adapters.source import (
    YES_NO,
    Item,
    SourceSet,
    choice_question,
    choice_symbols,
    one_line,
    plain_answer,
    vqa_symbols,
)
from medvlm.dialogue.adapters.sources import csv_rows, first_existing
from medvlm.errors import MedVLMError
from medvlm.imaging.cohort import Split
from medvlm.storage import read_json

SLAKE_FILES: tuple[tuple[Split, tuple[str, ...]], ...] = (
    ("train", ("train.json",)),
    ("validation", ("validate.json", "validation.json")),
    ("test", ("test.json",)),
)


def read_slake(root: Path, languages: tuple[str, ...] = ("en",)) -> Iterator[Item]:
    """The questions of the three published files in some languages; a picture folder is a patient."""
    folder = first_existing(root, ("imgs",), "SLAKE picture folder")
    for split, names in SLAKE_FILES:
        table = first_existing(root, names, f"SLAKE {split} table")
        for row in _rows(table, read_json(table)):
            try:
                if row["q_lang"] not in languages:
                    continue
                answer, name = plain_answer(row["answer"]), str(row["img_name"])
                closed = str(row["answer_type"]).strip().upper() == "CLOSED"
                yield Item(
                    id=f"slake-{row['q_lang']}-{row['qid']}-{split}",
                    patient=str(row["img_id"]),
                    split=split,
                    pictures={name: folder / name},
                    question=one_line(row["question"]),
                    answer=answer,
                    symbols=vqa_symbols(
                        name,
                        answer,
                        closed,
                        organ=str(row.get("location", "")),
                        modality=str(row.get("modality", "")),
                        question_type=str(row.get("content_type", "")),
                    ),
                )
            except KeyError as error:
                raise MedVLMError(f"{table}: a question has no field {error}.") from None


def read_path_vqa(root: Path) -> Iterator[Item]:
    """The Parquet files of the hub's copy (flaviagiammarino/path-vqa): pictures are inside, patients unknown."""
    import pyarrow.parquet as pq

    for split in ("train", "validation", "test"):
        files = sorted([*root.glob(f"{split}-*.parquet"), *root.glob(f"data/{split}-*.parquet")])
        if not files:
            raise MedVLMError(f"{root}: no {split} table of PathVQA here; expected data/{split}-*.parquet.")
        number = 0
        for file in files:
            for batch in pq.ParquetFile(file).iter_batches(256):
                for row in batch.to_pylist():
                    yield _path_vqa(row, split, number)
                    number += 1


def _path_vqa(row: Mapping[str, Any], split: Split, number: int) -> Item:
    picture = row["image"]["bytes"]
    name = f"{hashlib.sha256(picture).hexdigest()[:16]}.jpg"
    answer = plain_answer(row["answer"])
    return Item(
        id=f"path_vqa-{split}-{number:05d}",
        patient=name,
        split=split,
        pictures={name: picture},
        question=one_line(row["question"]),
        answer=answer,
        symbols=vqa_symbols(name, answer, answer in YES_NO),
    )


def read_pmc_vqa(root: Path) -> Iterator[Item]:
    """Version 1: four options; the test questions are the manually checked ones. An article is a patient."""
    folder = first_existing(root, ("images", "figures"), "PMC-VQA picture folder")
    tables: tuple[tuple[Split, str], ...] = (("train", "train.csv"), ("test", "test_clean.csv"))
    for split, name in tables:
        table = first_existing(root, (name,), f"PMC-VQA {split} table")
        for number, row in enumerate(csv_rows(table, ("Figure_path", "Question", "Choice A", "Answer_label"))):
            figure = row["Figure_path"]
            options = {letter: _option(row.get(f"Choice {letter}") or "") for letter in "ABCD"}
            letter = row["Answer_label"].strip()[:1].upper()
            if letter not in options:
                raise MedVLMError(f"{table}, line {number + 2}: the answer is one of A to D, not '{letter}'.")
            yield Item(
                id=f"pmc_vqa-{split}-{number:06d}",
                patient=figure.partition("_")[0],
                split=split,
                pictures={figure: folder / figure},
                question=choice_question(one_line(row["Question"]), options),
                answer=f"{letter}. {options[letter]}",
                symbols=choice_symbols(figure, letter, options),
            )


def _option(text: str) -> str:
    """`A:Focal uptake` → `Focal uptake`."""
    text = one_line(text)
    return text[2:].strip() if text[1:2] == ":" else text


def read_omni_med_vqa(root: Path) -> Iterator[Item]:
    """The open-access part of OmniMedVQA: test questions only, two to four options."""
    folder = first_existing(root, ("QA_information/Open-access", "Open-access"), "question folder of OmniMedVQA")
    for table in sorted(folder.glob("*.json")):
        for row in _rows(table, read_json(table)):
            try:
                given = [one_line(row.get(f"option_{letter}") or "") for letter in "ABCD"]
                options = dict(zip(string.ascii_uppercase, [text for text in given if text]))
                right = one_line(row["gt_answer"])
                letter = next((letter for letter, text in options.items() if text == right), "")
                if not letter:
                    raise MedVLMError(f"{table}: the answer of {row['question_id']} is not among its options.")
                name = str(row["image_path"])
                yield Item(
                    id=f"omni-{row['question_id']}",
                    patient=name,
                    split="test",
                    pictures={name: root / name},
                    question=choice_question(one_line(row["question"]), options),
                    answer=f"{letter}. {options[letter]}",
                    task=one_line(row.get("question_type") or "vqa").lower().replace(" ", "_"),
                    symbols=choice_symbols(
                        name,
                        letter,
                        options,
                        modality=str(row.get("modality_type") or ""),
                        dataset=str(row.get("dataset") or ""),
                    ),
                )
            except KeyError as error:
                raise MedVLMError(f"{table}: a question has no field {error}.") from None


def _rows(table: Path, data: Any) -> list[dict[str, Any]]:
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise MedVLMError(f"{table}: expected a list of questions.")
    return data


_SLAKE: dict[str, Any] = {
    "source": "med-vqa.com/slake; Liu et al., ISBI 2021, arXiv 2102.09542",
    "licence": "CC BY 4.0 as its page states",
    "layout": "train.json, validate.json, test.json and the folder imgs/",
    "patient": "the picture; patients are not published",
}
SLAKE = SourceSet(
    name="slake",
    title="SLAKE (English)",
    read=read_slake,
    counts={"questions": 7033, "train questions": 4919, "validation questions": 1053, "test questions": 1061},
    **_SLAKE,
)
SLAKE_BILINGUAL = SourceSet(
    name="slake_bilingual",
    title="SLAKE (en + zh)",
    read=partial(read_slake, languages=("en", "zh")),
    counts={"questions": 14028, "train questions": 9835, "validation questions": 2099, "test questions": 2094},
    **_SLAKE,
)
PATH_VQA = SourceSet(
    name="path_vqa",
    title="PathVQA",
    source="GitHub UCSD-AI4H/PathVQA, hub flaviagiammarino/path-vqa; He et al., arXiv 2003.10286",
    licence="MIT for the questions; the pictures belong to the publishers of the textbooks",
    layout="data/train-*.parquet, data/validation-*.parquet, data/test-*.parquet",
    patient="the picture; patients are not published",
    read=read_path_vqa,
    counts={
        "questions": 32632,
        "train questions": 19654,
        "validation questions": 6259,
        "test questions": 6719,
        "pictures": 4289,
    },
)
PMC_VQA = SourceSet(
    name="pmc_vqa",
    title="PMC-VQA",
    source="hub xmcmic/PMC-VQA, version 1; Zhang et al., arXiv 2305.10415",
    licence="CC BY-SA (figures of the commercial part of the PMC Open Access Subset, CC0 or CC BY)",
    layout="train.csv, test_clean.csv and the folder images/",
    patient="the article that the figure is from",
    read=read_pmc_vqa,
    counts={"train questions": 176948, "test questions": 2000},
)
OMNI_MED_VQA = SourceSet(
    name="omni_med_vqa",
    title="OmniMedVQA",
    source="hub foreverbeliever/OmniMedVQA, open-access part; Hu et al., CVPR 2024, arXiv 2402.09181",
    licence="that of each of its source sets; see its page",
    layout="QA_information/Open-access/*.json and the folder Images/",
    patient="the picture; patients are not published",
    read=read_omni_med_vqa,
    counts={"test questions": 88996, "test pictures": 82059},
)
