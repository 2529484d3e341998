"""Label sets: CheXpert, ChestX-ray14, and folders of classes such as OCT. Labels become questions.

A picture with several labels gives one yes-no question a label: in training every positive one and as many negative
ones (drawn by the picture's name, so that every run draws the same), in validation and test all of them. Training and
test ask in different words.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medvlm.dialogue.adapters.source import Item, SourceSet, one_line
from medvlm.dialogue.adapters.sources import csv_rows, first_existing
from medvlm.errors import MedVLMError
from medvlm.imaging.cohort import SPLITS, Split

TRAIN_WORDS = ("Is there {label}?", "Does this picture show {label}?", "Do you see {label} here?", "Any {label}?")
HELD_OUT_WORDS = ("Can you see {label}?", "Is {label} present?")
TRAIN_CLASS = ("Which of these is it: {options}?", "What does this picture show: {options}?")
HELD_OUT_CLASS = ("Please name what is seen, one of {options}.",)

CHEXPERT_LABELS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
CXR14_LABELS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
PICTURE = re.compile(r"\.(jpe?g|png|tiff?|bmp)$", re.IGNORECASE)


def label_items(
    identity: str, patient: str, split: Split, picture: Mapping[str, Path], labels: Mapping[str, bool]
) -> Iterator[Item]:
    """Yes-no questions about one picture; labels that are neither yes nor no are left out by the caller."""
    rng = np.random.default_rng(zlib.crc32(identity.encode()))
    present = [label for label, value in labels.items() if value]
    absent = [label for label, value in labels.items() if not value]
    if split == "train":
        absent = [absent[n] for n in rng.permutation(len(absent))[: max(len(present), 1)]]
    for label in [*present, *absent]:
        words = TRAIN_WORDS if split == "train" else HELD_OUT_WORDS
        value = label in present
        name = label.lower().replace("_", " ")
        yield Item(
            id=f"{identity}-{label.lower().replace(' ', '_')}",
            patient=patient,
            split=split,
            pictures=picture,
            question=words[int(rng.integers(len(words)))].format(label=name),
            answer=f"Yes, {name}." if value else f"No {name}.",
            task=label.lower().replace(" ", "_"),
            symbols={
                "study": identity,
                "needs_expert": False,
                "closed": True,
                "answer": "yes" if value else "no",
                "value": value,
                "score": {"kind": "yes_no"},
            },
        )


def class_item(
    identity: str, patient: str, split: Split, picture: Mapping[str, Path], label: str, options: Sequence[str]
) -> Item:
    """One question which class a picture belongs to."""
    rng = np.random.default_rng(zlib.crc32(identity.encode()))
    words = TRAIN_CLASS if split == "train" else HELD_OUT_CLASS
    symbols: dict[str, Any] = {"study": identity, "needs_expert": False, "closed": True, "answer": label}
    symbols |= {"value": label, "score": {"kind": "choice", "options": list(options)}}
    question = words[int(rng.integers(len(words)))].format(options=", ".join(options))
    return Item(identity, patient, split, picture, question, label, "class", symbols)


def read_chexpert(root: Path) -> Iterator[Item]:
    """CheXpert: uncertain and unmentioned labels of the training set are not asked about (U-Ignore)."""
    for split, table in _chexpert_tables(root):
        for row in csv_rows(table, ("Path", *CHEXPERT_LABELS)):
            patient, name = _chexpert_path(table, row["Path"])
            labels = {label: float(row[label]) for label in CHEXPERT_LABELS if row[label] not in ("", "-1.0", "-1")}
            identity = f"chexpert-{name.replace('/', '-')}"
            yield from label_items(
                identity, patient, split, {name: root / name}, {label: value > 0 for label, value in labels.items()}
            )


def count_chexpert(root: Path) -> dict[str, int]:
    """Pictures and patients of the published tables."""
    numbers: dict[str, int] = {}
    for split, table in _chexpert_tables(root):
        paths = [_chexpert_path(table, row["Path"]) for row in csv_rows(table, ("Path",))]
        numbers[f"{split} pictures"] = len(paths)
        numbers[f"{split} patients"] = len({patient for patient, _ in paths})
    return numbers


def _chexpert_tables(root: Path) -> Iterator[tuple[Split, Path]]:
    yield "train", first_existing(root, ("train.csv",), "CheXpert train table")
    yield "validation", first_existing(root, ("valid.csv",), "CheXpert validation table")
    for name in ("test.csv", "test_labels.csv"):
        if (root / name).is_file():
            yield "test", root / name
            return


def _chexpert_path(table: Path, text: str) -> tuple[str, str]:
    """Patient, and the path from the folder of the table (published paths begin with the folder's own name)."""
    match = re.search(r"(?:train|valid|test)/(patient\d+)/.*$", text)
    if not match:
        raise MedVLMError(f"{table}: '{text}' is not a path of CheXpert (train/patient00001/...).")
    return match[1], match[0]


def read_chest_xray14(root: Path) -> Iterator[Item]:
    """ChestX-ray14 with its published patient-wise split; what is not named is absent, as its paper has it."""
    table, tested = _cxr14(root)
    folders = {path.name: path for path in root.glob("images*/**/*.png")}
    for row in csv_rows(table, ("Image Index", "Finding Labels", "Patient ID")):
        name = row["Image Index"]
        if name not in folders:
            raise MedVLMError(f"{root}: the picture {name} is missing; expected it in images*/.")
        named = set(row["Finding Labels"].split("|"))
        labels = {label: label in named for label in CXR14_LABELS}
        split: Split = "test" if name in tested else "train"
        yield from label_items(f"cxr14-{name}", row["Patient ID"], split, {name: folders[name]}, labels)


def count_chest_xray14(root: Path) -> dict[str, int]:
    table, tested = _cxr14(root)
    rows = [(row["Image Index"], row["Patient ID"]) for row in csv_rows(table, ("Image Index", "Patient ID"))]
    inside = sum(name in tested for name, _ in rows)
    return {
        "pictures": len(rows),
        "patients": len({patient for _, patient in rows}),
        "train pictures": len(rows) - inside,
        "test pictures": inside,
    }


def _cxr14(root: Path) -> tuple[Path, set[str]]:
    table = first_existing(root, ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv"), "ChestX-ray14 table")
    listed = first_existing(root, ("test_list.txt",), "ChestX-ray14 test list")
    return table, set(listed.read_text(encoding="utf-8").split())


SPLIT_FOLDERS: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def read_classes(root: Path, patient: str = "", name: str = "folder") -> Iterator[Item]:
    """A folder of classes, with split folders above them or without.

    Args:
        root: `root/<split>/<class>/picture` or `root/<class>/picture`.
        patient: regular expression whose first group in a file name is the patient; empty: the picture.
        name: first part of the ids.
    """
    splits = {path.name.lower(): path for path in root.iterdir() if path.is_dir()} if root.is_dir() else {}
    parts = [(SPLIT_FOLDERS[key], path) for key, path in sorted(splits.items()) if key in SPLIT_FOLDERS]
    parts = parts or [("train", root)]
    classes = sorted({path.name for _, folder in parts for path in folder.iterdir() if path.is_dir()})
    options = [one_line(label).replace("_", " ") for label in classes]
    for split, folder in sorted(parts, key=lambda part: SPLITS.index(part[0])):
        for label, words in zip(classes, options):
            for file in sorted((folder / label).rglob("*")):
                if PICTURE.search(file.name):
                    match = re.search(patient, file.name) if patient else None
                    if patient and not match:
                        raise MedVLMError(f"{file}: the name holds no patient as {patient!r} describes it.")
                    where = str(file.relative_to(root))
                    key = match[1] if match else where
                    yield class_item(f"{name}-{where.replace('/', '-')}", key, split, {where: file}, words, options)


CHEXPERT = SourceSet(
    name="chexpert",
    title="CheXpert",
    source="Stanford AIMI, CheXpert-v1.0 (or -small); Irvin et al., AAAI 2019, arXiv 1901.07031",
    licence="Stanford University Dataset Research Use Agreement",
    layout="train.csv, valid.csv (test.csv where at hand) and the folders train/, valid/ (test/)",
    patient="the number in the path (patient00001)",
    read=read_chexpert,
    table=count_chexpert,
    counts={"train pictures": 223414, "train patients": 64540, "validation pictures": 234, "validation patients": 200},
)
CHEST_XRAY14 = SourceSet(
    name="chest_xray14",
    title="ChestX-ray14",
    source="NIH Clinical Center, nihcc.app.box.com/v/ChestXray-NIHCC; Wang et al., CVPR 2017, arXiv 1705.02315",
    licence="free to use with a link to the download page and the citation",
    layout="Data_Entry_2017_v2020.csv, test_list.txt and the folders images_001/ to images_012/",
    patient="Patient ID",
    read=read_chest_xray14,
    table=count_chest_xray14,
    counts={"pictures": 112120, "patients": 30805, "train pictures": 86524, "test pictures": 25596},
)
OCT = SourceSet(
    name="oct",
    title="OCT 2017",
    source="Mendeley Data rscbjbr9sj, version 3; Kermany et al., Cell 172 (2018) 1122-1131",
    licence="CC BY 4.0",
    layout="the folders train/, val/ and test/, each with CNV/, DME/, DRUSEN/, NORMAL/",
    patient="the second part of a file name (CNV-1016042-1.jpeg)",
    read=partial(read_classes, patient=r"^[A-Z]+-(\d+)-", name="oct"),
    counts={"train pictures": 83484, "validation pictures": 32, "test pictures": 968},
)
