"""A plain folder of studies as a cohort: paths, patients and splits come from a CSV file."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from medvlm.errors import MedVLMError
from medvlm.imaging.cohort import SPLITS, Cohort, CohortEntry

REQUIRED = ("study", "patient", "split")
OPTIONAL = ("mask", "truth", "report")


def index_folder(folder: Path, splits: Path, name: str = "") -> Cohort:
    """Write `cohort.json` into a folder of studies.

    Args:
        folder: the studies.
        splits: CSV with the columns `study` (path in the folder), `patient`, `split`; `mask`, `truth` and `report`
            (paths in the folder) may follow.
        name: name of the cohort; the folder's own by default.

    Raises:
        MedVLMError: a missing file or column, an unknown split, or a patient in two splits (names the line).
    """
    if not folder.is_dir():
        raise MedVLMError(f"{folder}: no such folder.")
    try:
        with splits.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MedVLMError(f"{splits}: not a readable CSV file ({error}).") from None
    if not rows:
        raise MedVLMError(f"{splits}: no rows; one line a study with {', '.join(REQUIRED)} is expected.")
    missing = [column for column in REQUIRED if column not in rows[0]]
    if missing:
        raise MedVLMError(f"{splits}: no column '{missing[0]}' (expected: {', '.join(REQUIRED)}).")
    # Line 1 is the header.
    entries = [_entry(folder, row, f"{splits}, line {number}") for number, row in enumerate(rows, start=2)]
    repeated = [key for key, count in Counter(entry.id for entry in entries).items() if count > 1]
    if repeated:
        raise MedVLMError(f"{splits}: more than one line for study {repeated[0]}.")
    cohort = Cohort(folder, name or folder.resolve().name, {}, tuple(entries))
    cohort.write()
    return cohort


def _entry(folder: Path, row: dict[str, str], where: str) -> CohortEntry:
    values = {column: (row.get(column) or "").strip() for column in (*REQUIRED, *OPTIONAL)}
    for column in REQUIRED:
        if not values[column]:
            raise MedVLMError(f"{where}: '{column}' is empty.")
    split = next((known for known in SPLITS if known == values["split"]), None)
    if split is None:
        raise MedVLMError(f"{where}: split is one of {', '.join(SPLITS)}, not '{values['split']}'.")
    for column in ("study", *OPTIONAL):
        if values[column] and not (folder / values[column]).exists():
            raise MedVLMError(f"{where}: {folder / values[column]} does not exist.")
    return CohortEntry(
        id=values["study"].strip("/").replace("/", "-"),
        patient=values["patient"],
        split=split,
        study=values["study"],
        **{column: values[column] or None for column in OPTIONAL},
    )
