"""Published sets of segmented volumes: which files they have, and what their masks are of."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medvlm.dialogue.adapters.source import PublicSet
from medvlm.dialogue.adapters.sources import csv_rows, first_existing
from medvlm.errors import MedVLMError
from medvlm.findings.codes import concepts
from medvlm.imaging.cohort import Split
from medvlm.storage import read_json

SIDES = ("left", "right")


@dataclass(frozen=True)
class Case:
    """One volume with its masks: one label map, or one binary mask a label."""

    id: str
    image: Path
    masks: Mapping[int, Path]
    split: Split | None = None


@dataclass(frozen=True)
class Published:
    """What a folder says: task name, labels, cases; `expected` is the published number of cases, if known."""

    name: str
    labels: Mapping[int, str]
    cases: tuple[Case, ...]
    expected: int | None


@dataclass(frozen=True)
class VolumeSet(PublicSet):
    """A public set of segmented volumes.

    Attributes:
        read: folder → what it says.
        counts: task or version → published number of cases.
    """

    read: Callable[[Path], Published]
    counts: Mapping[str, int] = field(default_factory=dict)


# Labelled training cases of each task, as its dataset.json lists them (Antonelli et al., Nat Commun 13 (2022) 4128).
MSD_CASES = {
    "BRATS": 484,
    "BrainTumour": 484,
    "Heart": 20,
    "Liver": 131,
    "Hippocampus": 260,
    "Prostate": 32,
    "Lung": 63,
    "Pancreas": 281,
    "HepaticVessel": 303,
    "Spleen": 41,
    "Colon": 126,
}


def read_msd(root: Path) -> Published:
    """One task folder of the Decathlon; its test volumes have no masks and are left alone."""
    table = first_existing(root, ("dataset.json",), "task description of the Decathlon")
    data = read_json(table)
    try:
        labels = {int(number): str(name) for number, name in data["labels"].items() if int(number) != 0}
        cases = []
        for row in data["training"]:
            image, mask = root / row["image"], root / row["label"]
            cases.append(Case(image.name.removesuffix(".gz").removesuffix(".nii"), image, {0: mask}))
        task = re.sub(r"^Task\d+_", "", root.resolve().name)
        expected = MSD_CASES.get(task, MSD_CASES.get(str(data.get("name"))))
        return Published(task, labels, tuple(cases), expected)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MedVLMError(f"{table}: not a task description of the Decathlon ({error}).") from None


def read_total_segmentator(root: Path) -> Published:
    """TotalSegmentator CT: the structures that have a code, with the published split of `meta.csv`."""
    table = first_existing(root, ("meta.csv",), "TotalSegmentator table")
    splits: Mapping[str, Split] = {"train": "train", "val": "validation", "test": "test"}
    rows = list(csv_rows(table, ("image_id", "split"), delimiter=";"))
    names = [name for name in _structures(root, rows) if organ_of(name)]
    labels = dict(enumerate(names, start=1))
    cases = []
    for row in rows:
        folder = root / row["image_id"]
        if folder.is_dir():
            masks = {number: folder / "segmentations" / f"{name}.nii.gz" for number, name in labels.items()}
            cases.append(Case(row["image_id"], folder / "ct.nii.gz", masks, splits[row["split"]]))
    # 1,204 cases are version 1, 1,228 version 2; a table of another length is another version.
    return Published("TotalSegmentator", labels, tuple(cases), len(rows) if len(rows) in (1204, 1228) else 1228)


def _structures(root: Path, rows: Sequence[Mapping[str, str]]) -> list[str]:
    for row in rows:
        folder = root / row["image_id"] / "segmentations"
        if folder.is_dir():
            return sorted(path.name.removesuffix(".nii.gz") for path in folder.glob("*.nii.gz"))
    raise MedVLMError(f"{root}: no case with a folder 'segmentations' here.")


def organ_of(name: str) -> tuple[str, str] | None:
    """Key of `codes.csv` and side of a published structure name (`kidney_left`), or None."""
    words = re.split(r"[\s_]+", name.lower())
    side = next((word for word in words if word in SIDES), "")
    key = "_".join(word for word in words if word not in SIDES).replace("adrenal_gland", "adrenal")
    concept = concepts().get(key)
    return (key, side) if concept and concept.kind == "site" else None


MSD = VolumeSet(
    name="msd",
    title="MSD",
    source="medicaldecathlon.com; Antonelli et al., Nature Communications 13 (2022) 4128",
    licence="CC BY-SA 4.0",
    layout="one task folder with dataset.json, imagesTr/ and labelsTr/",
    patient="the volume; one a patient",
    read=read_msd,
    counts=MSD_CASES,
)
TOTAL_SEGMENTATOR = VolumeSet(
    name="total_segmentator",
    title="TotalSegmentator",
    source="Zenodo 6802613 (version 1) or 10047292 (version 2); Wasserthal et al., Radiology: AI 5 (2023) e230024",
    licence="CC BY 4.0",
    layout="meta.csv and one folder a case with ct.nii.gz and segmentations/",
    patient="the case",
    read=read_total_segmentator,
    counts={"version 1": 1204, "version 2": 1228},
)
