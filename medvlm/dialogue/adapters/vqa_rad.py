"""VQA-RAD: clinicians' questions about radiology images (Lau et al., Scientific Data 5 (2018) 180251; CC0 1.0).

The published test split is by question: nearly every test patient also has training questions. By default medvlm keeps
the test questions and drops the training questions of their patients; `official` keeps them and counts the leak.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medvlm.dialogue.adapters.sources import connected_groups, file_digest, first_existing
from medvlm.dialogue.conversation import Conversation, Turn, write_conversations
from medvlm.dialogue.dataset import write_dataset
from medvlm.dialogue.trigger import sanitize
from medvlm.errors import MedVLMError
from medvlm.imaging.cohort import SPLITS
from medvlm.storage import atomic_path, read_json, write_json

TABLES = ("vqa_rad.json", "VQA_RAD Dataset Public.json")
FOLDERS = ("images", "VQA_RAD Image Folder")
VALIDATION_SHARE = 0.1
SOURCE = "VQA-RAD, OSF project 89kps; Lau et al., Scientific Data 5 (2018) 180251"
LICENCE = "CC0 1.0 (images from MedPix)"


@dataclass(frozen=True)
class Item:
    """One question: `patient` joins MedPix cases that share a picture; `closed` questions have a fixed answer."""

    id: str
    patient: str
    split: str
    image: str
    question: str
    answer: str
    closed: bool
    organ: str
    kind: str


def prepare_vqa_rad(root: Path, out: Path, split: str = "patient", seed: int = 0) -> str:
    """Write conversations of VQA-RAD with a data card.

    Args:
        root: folder with the JSON table and the image folder.
        out: folder for train.jsonl, validation.jsonl, test.jsonl, data.json and images/.
        split: `patient` (no patient on two sides) or `official` (the published split, leak counted in the card).
        seed: of the draw of validation patients; the official split has none.

    Returns:
        A line that says what was written, and with `official` a warning.

    Raises:
        MedVLMError: a file is missing or broken, or the split is unknown.
    """
    if split not in ("patient", "official"):
        raise MedVLMError(f"no split '{split}' of VQA-RAD; there are: patient, official.")
    published = read_items(root)
    folder = first_existing(root, FOLDERS, "image folder")
    tested = {item.patient for item in published if item.split == "test"}
    leaking = [item for item in published if item.split == "train" and item.patient in tested]
    if split == "patient":
        dropped = {item.id for item in leaking}
        items = _draw_validation([item for item in published if item.id not in dropped], seed)
    else:
        items = published
    _copy_images(folder, out, items)
    about = {
        "name": "vqa_rad",
        "source": SOURCE,
        "licence": LICENCE,
        "split": split,
        "seed": seed,
        "published": {name: sum(item.split == name for item in published) for name in ("train", "test")},
        "questions": {name: _kinds(items, name) for name in SPLITS},
        "majority": {kind: _majority(items, kind == "closed") for kind in ("closed", "open")},
    }
    conversations = [_conversation(item) for item in items]
    patients = len({item.patient for item in leaking})
    counts = " · ".join(f"{sum(c.split == name for c in conversations):,} {name}" for name in SPLITS)
    if split == "patient":
        about["dropped"] = {
            "train_questions": len(leaking),
            "reason": f"their {patients} patients are also in the published test split of {len(tested)} patients",
        }
        write_dataset(out, conversations, about)
        return (
            f"VQA-RAD          {counts} · dropped {len(leaking):,} train questions of {patients} test patients · {out}"
        )
    _write_leaking(out, conversations, about, patients, len(tested), len(leaking))
    return (
        f"VQA-RAD          {counts} · {out}\n"
        f"WARNING          {patients} of {len(tested)} test patients also have train questions ({len(leaking):,}): "
        "results on this split do not show what happens with new patients."
    )


def read_items(root: Path) -> list[Item]:
    """All questions of the table, with `split` as published (`train` or `test`).

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
        groups = connected_groups((str(row["image_case_url"]), digests[str(row["image_name"])]) for row in rows)
        return [_item(number, row, groups) for number, row in enumerate(rows)]
    except (KeyError, TypeError) as error:
        raise MedVLMError(f"{table}: a question has no field {error}.") from None


def _item(number: int, row: dict[str, Any], groups: dict[str, str]) -> Item:
    # "CLOSED " with a blank behind it occurs; yes and no are written in several ways.
    answer = _clean(str(row["answer"])).rstrip(".")
    if answer.lower() in ("yes", "no"):
        answer = answer.lower()
    return Item(
        id=f"vqa_rad-{number:04d}",
        patient=groups[str(row["image_case_url"])].rpartition("=")[2],
        split="test" if str(row["phrase_type"]).strip().lower().startswith("test") else "train",
        image=str(row["image_name"]),
        question=_clean(str(row["question"])),
        answer=answer,
        closed=str(row["answer_type"]).strip().upper() == "CLOSED",
        organ=str(row["image_organ"]).strip().lower(),
        kind=str(row["question_type"]).strip().upper(),
    )


def _clean(text: str) -> str:
    """One line, and nothing in it that could be read as a trigger or a role."""
    return sanitize(" ".join(text.split()))


def _draw_validation(items: Sequence[Item], seed: int) -> list[Item]:
    """Move a tenth of the training patients to validation."""
    tested = {item.patient for item in items if item.split == "test"}
    patients = sorted({item.patient for item in items if item.split == "train"} - tested)
    count = round(VALIDATION_SHARE * len(patients))
    chosen = set(np.random.default_rng(seed).permutation(patients)[:count].tolist())
    return [replace(item, split="validation") if item.patient in chosen else item for item in items]


def _copy_images(folder: Path, out: Path, items: Sequence[Item]) -> None:
    for name in sorted({item.image for item in items}):
        target = out / "images" / name
        if not target.is_file():
            with atomic_path(target) as temporary:
                shutil.copyfile(folder / name, temporary)


def _conversation(item: Item) -> Conversation:
    yes_no = item.closed and item.answer in ("yes", "no")
    symbols = {
        "kind": item.split,
        "study": item.image,
        "needs_expert": False,
        "closed": item.closed,
        "answer": item.answer,
        "value": item.answer == "yes" if yes_no else item.answer,
        "score": {"kind": "yes_no" if yes_no else "exact"},
        "organ": item.organ,
        "question_type": item.kind,
    }
    turns = (Turn("user", item.question, (f"images/{item.image}",)), Turn("assistant", item.answer))
    return Conversation(item.id, item.patient, item.split, turns, task="vqa", symbols=symbols)


def _kinds(items: Sequence[Item], split: str) -> dict[str, int]:
    chosen = [item for item in items if item.split == split]
    return {"closed": sum(item.closed for item in chosen), "open": sum(not item.closed for item in chosen)}


def _majority(items: Sequence[Item], closed: bool) -> dict[str, Any]:
    """What always giving the most frequent training answer scores on the test questions."""
    learnt = Counter(item.answer.lower() for item in items if item.split == "train" and item.closed == closed)
    asked = [item.answer.lower() for item in items if item.split == "test" and item.closed == closed]
    if not learnt or not asked:
        return {"answer": "", "questions": len(asked), "right": 0, "accuracy": 0.0}
    # Of equally frequent answers the first in the alphabet, so that the baseline is the same every time.
    answer = min(learnt, key=lambda text: (-learnt[text], text))
    right = asked.count(answer)
    return {"answer": answer, "questions": len(asked), "right": right, "accuracy": round(right / len(asked), 4)}


def _write_leaking(
    out: Path, conversations: Sequence[Conversation], about: dict[str, Any], patients: int, tested: int, questions: int
) -> None:
    """Write a data set that is known to leak, and say so first in its card."""
    for name in SPLITS:
        write_conversations(out / f"{name}.jsonl", (row for row in conversations if row.split == name))
    warning = (
        f"LEAK: {patients} of {tested} test patients also have training questions ({questions}). "
        "This is the published protocol; its results do not show what happens with new patients."
    )
    counts = Counter(row.split for row in conversations)
    card = {"warning": warning, **about, "schema": 1, "shared_patients": patients}
    write_json(out / "data.json", card | {"conversations": {name: counts[name] for name in SPLITS}})
