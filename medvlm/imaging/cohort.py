"""A cohort: many studies in one folder, with splits by patient.

`cohort.json` beside the studies is the index: phantoms write it, data adapters write it, and a plain folder of
studies gets one from `medvlm data cohort`. Paths in it are relative to the cohort folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from medvlm.errors import MedVLMError
from medvlm.storage import read_json, write_json

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class CohortEntry:
    """One study of a cohort.

    Attributes:
        id: unique in the cohort; used in file names.
        patient: patient key; never in two splits.
        split: `train`, `validation` or `test`.
        study: path of the DICOM folder, NIfTI file or image, relative to the cohort.
        mask: label map (NIfTI or PNG on the study's grid), or None.
        truth: JSON Lines of true Findings, or None.
        report: reference report text, or None.
    """

    id: str
    patient: str
    split: Split
    study: str
    mask: str | None = None
    truth: str | None = None
    report: str | None = None


@dataclass(frozen=True)
class Cohort:
    """A cohort's folder, name, label names (`{1: "heart"}`) and entries."""

    root: Path
    name: str
    labels: dict[int, str]
    entries: tuple[CohortEntry, ...]

    def split(self, split: Split) -> tuple[CohortEntry, ...]:
        return tuple(entry for entry in self.entries if entry.split == split)

    def write(self) -> None:
        """Write `cohort.json`, after the leak check."""
        check_patient_splits((entry.patient, entry.split) for entry in self.entries)
        write_json(
            self.root / "cohort.json",
            {
                "schema": 1,
                "name": self.name,
                "labels": {str(number): name for number, name in self.labels.items()},
                "studies": [asdict(entry) for entry in self.entries],
            },
        )


def read_cohort(root: Path | str) -> Cohort:
    """Read a cohort's index and check it for patients in two splits.

    Raises:
        MedVLMError: no or a broken `cohort.json`, or a leak between splits.
    """
    root = Path(root)
    index = root / "cohort.json"
    if not index.is_file():
        raise MedVLMError(f"{root}: no cohort.json here; write a cohort with 'medvlm phantom' or 'medvlm data'.")
    data = read_json(index)
    try:
        entries = tuple(CohortEntry(**row) for row in data["studies"])
        labels = {int(number): name for number, name in data["labels"].items()}
        cohort = Cohort(root, data["name"], labels, entries)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MedVLMError(f"{index}: not a cohort index ({error}).") from None
    check_patient_splits((entry.patient, entry.split) for entry in entries)
    return cohort


def check_patient_splits(pairs: Iterable[tuple[str, str]]) -> None:
    """The leak check: no patient may be in more than one split.

    Raises:
        MedVLMError: names the number of leaking patients and one example.
    """
    seen: dict[str, str] = {}
    leaks: dict[str, tuple[str, str]] = {}
    for patient, split in pairs:
        first = seen.setdefault(patient, split)
        if first != split:
            leaks[patient] = (first, split)
    if leaks:
        patient, (first, second) = next(iter(leaks.items()))
        raise MedVLMError(
            f"{len(leaks)} patients are in more than one split (for example {patient} in {first} and {second}): "
            "split by patient."
        )
