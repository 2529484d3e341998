"""BCCD: 364 pictures of blood smears with boxes around red cells, white cells and platelets (MIT licence).

GitHub Shenggan/BCCD_Dataset. For counting, a cell is learned as its core: the ellipse in the middle of its box, so that
the cores of touching cells do not touch.
"""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import medvlm
from medvlm.dialogue.adapters.sources import connected_groups, file_digest, first_existing
from medvlm.errors import MedVLMError
from medvlm.findings.codes import code
from medvlm.findings.finding import Finding, Measurement, Provenance, write_findings
from medvlm.imaging.cohort import SPLITS, Cohort, CohortEntry, Split
from medvlm.imaging.reader import load_study
from medvlm.storage import atomic_path, write_json

LABELS = {1: "red cell", 2: "white cell", 3: "platelet"}
# Name in the annotation → label, concept, and the share of the box that is the core.
KINDS: Mapping[str, tuple[int, str, float]] = {
    "RBC": (1, "red_blood_cells", 0.55),
    "WBC": (2, "white_blood_cells", 0.7),
    "Platelets": (3, "platelets", 0.9),
}
OFFICIAL: Mapping[Split, str] = {"train": "train.txt", "validation": "val.txt", "test": "test.txt"}
SOURCE = "BCCD, GitHub Shenggan/BCCD_Dataset"
# Two boxes that overlap by more are one cell that was marked twice.
SAME_CELL = 0.8


@dataclass(frozen=True)
class Box:
    """A marked cell: kind, and pixels `left, top, right, bottom`."""

    kind: str
    left: int
    top: int
    right: int
    bottom: int

    def overlap(self, other: Box) -> float:
        """Intersection over union."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        shared = max(width, 0) * max(height, 0)
        return shared / (self.area + other.area - shared) if shared else 0.0

    @property
    def area(self) -> int:
        return max(self.right - self.left, 1) * max(self.bottom - self.top, 1)


def prepare_bccd(root: Path, out: Path, split: str = "official") -> str:
    """Write a cohort with the published splits: pictures, label maps of cell cores, true counts and a data card.

    The patients are not published; the picture stands for the patient, and identical pictures stay together.

    Args:
        root: folder with `JPEGImages`, `Annotations` and `ImageSets/Main` (or their parent).
        out: folder of the cohort.
        split: `official` or `patient`, which here are the same.

    Raises:
        MedVLMError: a file is missing or broken, or another split is asked for.
    """
    if split not in ("official", "patient"):
        raise MedVLMError(f"BCCD has no split '{split}'; use official.")
    root = root / "BCCD" if (root / "BCCD").is_dir() else root
    lists = first_existing(root, ("ImageSets/Main",), "folder of splits")
    named: dict[str, Split] = {}
    for part, file in OFFICIAL.items():
        names = (lists / file).read_text(encoding="utf-8").split()
        named |= dict.fromkeys(names, part)
    groups = connected_groups((name, file_digest(root / "JPEGImages" / f"{name}.jpg")) for name in sorted(named))
    entries, counts = [], dict.fromkeys(KINDS, 0)
    for name in sorted(named):
        boxes = read_boxes(root / "Annotations" / f"{name}.xml")
        for kind in counts:
            counts[kind] += sum(box.kind == kind for box in boxes)
        _write(root, out, name, boxes)
        # A picture that occurs twice goes where its first copy is.
        entries.append(
            CohortEntry(
                id=name,
                patient=groups[name],
                split=named[groups[name]],
                study=f"images/{name}.jpg",
                mask=f"masks/{name}.png",
                truth=f"truth/{name}.jsonl",
            )
        )
    cohort = Cohort(out, "bccd", dict(LABELS), tuple(entries))
    cohort.write()
    card = {
        "schema": 1,
        "name": "bccd",
        "source": SOURCE,
        "licence": "MIT",
        "split": "as published, by picture; the patients are not published",
        "pictures": {part: len(cohort.split(part)) for part in SPLITS},
        "cells": counts,
        "identical_pictures": len(entries) - len(set(groups.values())),
    }
    write_json(out / "data.json", card)
    shares = " · ".join(f"{len(cohort.split(part)):,} {part}" for part in SPLITS)
    return f"BCCD             {shares} pictures in {out}"


def read_boxes(path: Path) -> list[Box]:
    """The cells of one annotation, each once.

    Raises:
        MedVLMError: not a Pascal VOC annotation, or an unknown kind of cell.
    """
    try:
        tree = ElementTree.parse(path)
        found = [
            Box(
                str(item.findtext("name")),
                *(int(float(str(item.findtext(f"bndbox/{edge}")))) for edge in ("xmin", "ymin", "xmax", "ymax")),
            )
            for item in tree.iter("object")
        ]
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise MedVLMError(f"{path}: not a readable annotation ({error}).") from None
    unknown = sorted({box.kind for box in found} - set(KINDS))
    if unknown:
        raise MedVLMError(f"{path}: '{unknown[0]}' is none of {', '.join(KINDS)}.")
    kept: list[Box] = []
    for box in found:
        if all(box.kind != other.kind or box.overlap(other) < SAME_CELL for other in kept):
            kept.append(box)
    return kept


def draw_cores(boxes: Sequence[Box], width: int, height: int) -> np.ndarray:
    """`[rows, columns]` uint8 labels: the ellipse in the middle of each box; where two of a kind meet, neither."""
    labels = np.zeros((height, width), np.uint8)
    rows, columns = np.ogrid[:height, :width]
    for kind, (number, _, share) in KINDS.items():
        nearest = np.full((height, width), 2.0)
        second = np.full((height, width), 2.0)
        for box in (box for box in boxes if box.kind == kind):
            across = (columns - (box.left + box.right) / 2) / max((box.right - box.left) / 2, 1)
            down = (rows - (box.top + box.bottom) / 2) / max((box.bottom - box.top) / 2, 1)
            radius = np.sqrt(across**2 + down**2) / share
            second = np.minimum(second, np.maximum(nearest, radius))
            nearest = np.minimum(nearest, radius)
        labels[(nearest <= 1) & (second - nearest > 0.25)] = number
    return labels


def _write(root: Path, out: Path, name: str, boxes: Sequence[Box]) -> None:
    source, picture = root / "JPEGImages" / f"{name}.jpg", out / "images" / f"{name}.jpg"
    with atomic_path(picture) as temporary:
        shutil.copyfile(source, temporary)
    with Image.open(source) as image:
        size = image.size
    with atomic_path(out / "masks" / f"{name}.png") as temporary:
        Image.fromarray(draw_cores(boxes, *size)).save(temporary)
    study = load_study(picture)
    findings = [
        Finding(
            id=concept,
            study=study.uid,
            concept=code(concept),
            presence="present" if (number := sum(box.kind == kind for box in boxes)) else "absent",
            probability=float(number > 0),
            measurements=(Measurement(code("count"), float(number), "{count}"),),
            provenance=Provenance("truth", medvlm.__version__),
        )
        for kind, (_, concept, _) in KINDS.items()
    ]
    write_findings(out / "truth" / f"{name}.jsonl", findings)
