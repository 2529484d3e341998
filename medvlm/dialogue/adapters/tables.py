"""Data of one's own: a CSV of questions about pictures, or a folder of classes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from medvlm.dialogue.adapters.labels import SPLIT_FOLDERS, read_classes
from medvlm.dialogue.adapters.source import YES_NO, Item, SourceSet, one_line, plain_answer, vqa_symbols
from medvlm.dialogue.adapters.sources import csv_rows, first_existing
from medvlm.errors import MedVLMError

REQUIRED = ("image", "question", "answer", "patient")
TABLE = "table.csv"


def read_table(root: Path, column: str = "patient") -> Iterator[Item]:
    """`table.csv` with the columns image (path below the folder, several with `;`), question, answer, patient.

    A column `split` is the published split; `task` and `closed` (yes or no) may follow.
    """
    table = first_existing(root, (TABLE,), "table of questions")
    for number, row in enumerate(csv_rows(table, (*REQUIRED[:3], column))):
        where = f"{table}, line {number + 2}"
        names = [name.strip() for name in row["image"].split(";") if name.strip()]
        missing = [name for name in names if not (root / name).is_file()]
        if missing:
            raise MedVLMError(f"{where}: {missing[0]} does not exist.")
        if not row[column].strip():
            raise MedVLMError(f"{where}: '{column}' is empty; without patients there is no honest split.")
        given = (row.get("split") or "train").strip().lower()
        if given not in SPLIT_FOLDERS:
            raise MedVLMError(f"{where}: split is train, validation or test, not '{given}'.")
        answer = plain_answer(row["answer"])
        said = (row.get("closed") or "").strip().lower()
        closed = said == "yes" or (not said and answer in YES_NO)
        yield Item(
            id=f"table-{number:06d}",
            patient=row[column].strip(),
            split=SPLIT_FOLDERS[given],
            pictures={name: root / name for name in names},
            question=one_line(row["question"]),
            answer=answer,
            task=(row.get("task") or "vqa").strip(),
            symbols=vqa_symbols(names[0] if names else "", answer, closed),
        )


def own_table(root: Path, patient: str) -> SourceSet:
    """The adapter `csv`; `patient` names the column of the patient."""
    with_split = "split" in next(iter(csv_rows(root / TABLE, REQUIRED[:3])), {}) if (root / TABLE).is_file() else False
    return SourceSet(
        name="csv",
        title="Own table",
        source=str(root.name),
        licence="yours to say",
        layout=f"{TABLE} with the columns {', '.join(REQUIRED)} (split, task, closed) and the pictures",
        patient=f"the column {patient or 'patient'}",
        read=partial(read_table, column=patient or "patient"),
        has_split=with_split,
    )


def own_folder(root: Path, patient: str) -> SourceSet:
    """The adapter `folder`; `patient` is a regular expression for file names."""
    names = {path.name.lower() for path in root.iterdir() if path.is_dir()}
    return SourceSet(
        name="folder",
        title="Own folder",
        source=str(root.name),
        licence="yours to say",
        layout="one folder a class, with train/, validation/ and test/ above them or without",
        patient=f"{patient} in the file name" if patient else "the picture",
        read=partial(read_classes, patient=patient),
        has_split=bool(names & set(SPLIT_FOLDERS)),
    )
