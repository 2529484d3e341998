"""VQA-RAD: clinicians' questions about radiology images (Lau et al., Scientific Data 5 (2018) 180251; CC0 1.0).

The published test split is by question: nearly every test patient also has training questions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medvlm.dialogue.adapters.source import Item, SourceSet, one_line, plain_answer, vqa_symbols
from medvlm.dialogue.adapters.sources import connected_groups, file_digest, first_existing
from medvlm.errors import MedVLMError
from medvlm.storage import read_json

TABLES = ("vqa_rad.json", "VQA_RAD Dataset Public.json")
FOLDERS = ("images", "VQA_RAD Image Folder")


def read_vqa_rad(root: Path) -> Iterator[Item]:
    """All questions of the table, with `split` as published.

    Raises:
        MedVLMError: the table or an image is missing, or a row lacks a field.
    """
    table = first_existing(root, TABLES, "VQA-RAD table")
    folder = first_existing(root, FOLDERS, "image folder")
    rows = read_json(table)
    if not isinstance(rows, list) or not rows:
        raise MedVLMError(f"{table}: expected a list of questions.")
    try:
        digests = {name: file_digest(folder / name) for name in sorted({str(row["image_name"]) for row in rows})}
        # A patient is what shares a MedPix case or a picture: some pictures belong to several cases.
        groups = connected_groups((str(row["image_case_url"]), digests[str(row["image_name"])]) for row in rows)
        for number, row in enumerate(rows):
            yield _item(number, row, groups, folder)
    except (KeyError, TypeError) as error:
        raise MedVLMError(f"{table}: a question has no field {error}.") from None


def _item(number: int, row: dict[str, Any], groups: dict[str, str], folder: Path) -> Item:
    answer, image = plain_answer(row["answer"]), str(row["image_name"])
    # "CLOSED " with a blank behind it occurs.
    closed = str(row["answer_type"]).strip().upper() == "CLOSED"
    organ, kind = str(row["image_organ"]).strip().lower(), str(row["question_type"]).strip().upper()
    # A question and its paraphrase, by clinicians: a group for the worst case over wordings.
    linked = str(row.get("qid_linked_id") or "")
    return Item(
        id=f"vqa_rad-{number:04d}",
        patient=groups[str(row["image_case_url"])].rpartition("=")[2],
        split="test" if str(row["phrase_type"]).strip().lower().startswith("test") else "train",
        pictures={image: folder / image},
        question=one_line(row["question"]),
        answer=answer,
        symbols=vqa_symbols(image, answer, closed, organ=organ, question_type=kind, group=linked),
    )


VQA_RAD = SourceSet(
    name="vqa_rad",
    title="VQA-RAD",
    source="OSF project 89kps; Lau et al., Scientific Data 5 (2018) 180251",
    licence="CC0 1.0 (images from MedPix)",
    layout="'VQA_RAD Dataset Public.json' and the folder 'VQA_RAD Image Folder'",
    patient="a MedPix case, or cases that share a picture",
    read=read_vqa_rad,
    counts={"questions": 2248, "train questions": 1797, "test questions": 451, "pictures": 314},
)
