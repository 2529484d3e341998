"""White blood cells: 300 pictures of single cells with masks and types (Zheng et al., Micron 107 (2018) 55-71).

Data set 1 of the GitHub repository zxaoyou/segmentation_WBC, which states GPL-3. In its masks the nucleus is white and
the cytoplasm grey; the types are numbered 1-5.
"""

from __future__ import annotations

import csv
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import medvlm
from medvlm.dialogue.adapters.sources import connected_groups, file_digest, first_existing
from medvlm.errors import MedVLMError
from medvlm.findings.codes import code
from medvlm.findings.finding import Evidence, Finding, Measurement, Provenance, write_findings
from medvlm.imaging.cohort import SPLITS, Cohort, CohortEntry, Split
from medvlm.imaging.reader import load_study
from medvlm.storage import atomic_path, write_json

TABLES = ("labels.csv", "Class Labels of Dataset 1.csv")
FOLDERS = ("images", "Dataset 1")
TYPES = {1: "neutrophil", 2: "lymphocyte", 3: "monocyte", 4: "eosinophil", 5: "basophil"}
LABELS = {1: "nucleus", 2: "cytoplasm"}
GREY_TO_LABEL = {0: 0, 255: 1, 128: 2}
# Shares of each type; what is left over goes to training.
SHARES: tuple[tuple[Split, float], ...] = (("test", 0.25), ("validation", 0.15))
SOURCE = "WBC data set 1, GitHub zxaoyou/segmentation_WBC; Zheng et al., Micron 107 (2018) 55-71"
LICENCE = "GPL-3 as its repository states; weights trained on it are yours to judge, medvlm ships none"


@dataclass(frozen=True)
class Cell:
    """One picture: its number as text, type, and the group of identical pictures it belongs to."""

    number: str
    type: str
    group: str


def prepare_wbc(root: Path, out: Path, split: str = "patient", seed: int = 0) -> str:
    """Write a cohort: pictures, label maps (1 nucleus, 2 cytoplasm), true types, stratified splits and a data card.

    The patients are not published; the picture stands for the patient, and identical pictures stay together.

    Args:
        root: folder with the label table and the pictures.
        out: folder of the cohort.
        split: `patient`; there is no published split.
        seed: of the splits.

    Raises:
        MedVLMError: a file is missing or broken, or another split is asked for.
    """
    if split != "patient":
        raise MedVLMError(f"WBC has no published split '{split}'; leave --split out.")
    folder = first_existing(root, FOLDERS, "picture folder")
    cells = read_cells(root)
    splits = stratify(cells, seed)
    entries = []
    for cell in cells:
        _write_cell(folder, out, cell)
        identity = f"W-{cell.number}"
        entries.append(
            CohortEntry(
                id=identity,
                patient=f"W-{cell.group}",
                split=splits[cell.group],
                study=f"images/{identity}.bmp",
                mask=f"masks/{identity}.png",
                truth=f"truth/{identity}.jsonl",
            )
        )
    cohort = Cohort(out, "wbc", dict(LABELS), tuple(entries))
    cohort.write()
    types = {name: dict(sorted(_types(cells, splits, name).items())) for name in SPLITS}
    frequent = max(TYPES.values(), key=lambda kind: types["train"].get(kind, 0))
    tested = sum(types["test"].values())
    card = {
        "schema": 1,
        "name": "wbc",
        "source": SOURCE,
        "licence": LICENCE,
        "split": "by picture, stratified by type; the patients are not published",
        "seed": seed,
        "pictures": {name: sum(types[name].values()) for name in SPLITS},
        "types": types,
        "identical_pictures": len(cells) - len({cell.group for cell in cells}),
        "shared_patients": 0,
        "majority": {"answer": frequent, "accuracy": round(types["test"].get(frequent, 0) / max(tested, 1), 4)},
    }
    write_json(out / "data.json", card)
    counts = " · ".join(f"{sum(types[name].values()):,} {name}" for name in SPLITS)
    return f"WBC              {counts} pictures in {out}"


def read_cells(root: Path) -> list[Cell]:
    """The cells of the label table, in its order.

    Raises:
        MedVLMError: the table is broken, or a picture is missing (names it).
    """
    table = first_existing(root, TABLES, "label table")
    folder = first_existing(root, FOLDERS, "picture folder")
    rows: list[tuple[str, str]] = []
    with table.open(encoding="utf-8-sig", newline="") as file:
        for line, row in enumerate(csv.reader(file), start=1):
            if line == 1 or not any(cell.strip() for cell in row):
                continue
            try:
                rows.append((f"{int(row[0]):03d}", TYPES[int(row[1])]))
            except (ValueError, KeyError, IndexError):
                raise MedVLMError(f"{table}, line {line}: expected a picture number and a type from 1 to 5.") from None
    groups = connected_groups((number, file_digest(folder / f"{number}.bmp")) for number, _ in rows)
    return [Cell(number, kind, groups[number]) for number, kind in rows]


def stratify(cells: Sequence[Cell], seed: int) -> dict[str, Split]:
    """Group → split: of each type the same shares; a type with a single picture is for training only."""
    members: dict[str, list[str]] = defaultdict(list)
    for cell in cells:
        # Identical pictures count once, under the type of the first.
        if cell.number == cell.group:
            members[cell.type].append(cell.group)
    splits: dict[str, Split] = {}
    rng = np.random.default_rng(seed)
    for kind in sorted(members):
        waiting = rng.permutation(sorted(members[kind])).tolist()
        for name, share in SHARES:
            count = round(share * len(members[kind]))
            splits |= dict.fromkeys(waiting[:count], name)
            waiting = waiting[count:]
        splits |= dict.fromkeys(waiting, "train")
    return splits


def _types(cells: Sequence[Cell], splits: Mapping[str, Split], name: str) -> Counter[str]:
    return Counter(cell.type for cell in cells if splits[cell.group] == name)


def _write_cell(folder: Path, out: Path, cell: Cell) -> None:
    identity = f"W-{cell.number}"
    picture = out / "images" / f"{identity}.bmp"
    with atomic_path(picture) as temporary:
        shutil.copyfile(folder / f"{cell.number}.bmp", temporary)
    mask = _label_map(folder / f"{cell.number}.png")
    with atomic_path(out / "masks" / f"{identity}.png") as temporary:
        Image.fromarray(mask).save(temporary)
    write_findings(out / "truth" / f"{identity}.jsonl", _truth(picture, mask, cell))


def _label_map(path: Path) -> np.ndarray:
    """`[rows, columns]` uint8 labels from white, grey and black."""
    try:
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L"))
    except OSError as error:
        raise MedVLMError(f"{path}: not a readable mask ({type(error).__name__}).") from None
    strange = set(np.unique(grey).tolist()) - set(GREY_TO_LABEL)
    if strange:
        raise MedVLMError(f"{path}: a mask holds 0, 128 and 255 only, not {min(strange)}.")
    labels = np.zeros_like(grey)
    for value, label in GREY_TO_LABEL.items():
        labels[grey == value] = label
    return labels


def _truth(picture: Path, mask: np.ndarray, cell: Cell) -> tuple[Finding, Finding]:
    study = load_study(picture)
    series = study.series[0].uid
    provenance = Provenance("truth", medvlm.__version__)
    share = float((mask == 1).sum() / max((mask > 0).sum(), 1))
    kind = Finding(
        id="cell-type",
        study=study.uid,
        concept=code("cell_type"),
        presence="present",
        probability=1.0,
        grade=cell.type,
        evidence=(Evidence(series),),
        provenance=provenance,
    )
    nucleus = Finding(
        id="nucleus",
        study=study.uid,
        concept=code("cell_nucleus"),
        presence="present",
        probability=1.0,
        measurements=(Measurement(code("area_ratio"), round(share, 4), "1"),),
        evidence=(Evidence(series, label=1),),
        provenance=provenance,
    )
    return kind, nucleus
