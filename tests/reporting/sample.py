"""A small hand-made report: one nodule, no effusion, a sentence that was removed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from medvlm.findings.finding import Code, Evidence, Finding, Measurement, Provenance
from medvlm.reporting.report import (
    Doubt,
    ExpertUse,
    KeyImage,
    Method,
    Report,
    Section,
    Sentence,
    SeriesUse,
)

SERIES = "1.2.3.4"
MADE_BY = Provenance("chest_ct", "0.1.0", "ab" * 32)


def nodule(identifier: str = "nodule-1", long_axis: float = 14.2, volume: float = 1.23) -> Finding:
    return Finding(
        id=identifier,
        study="1.2.3",
        concept=Code("RID50149", "RADLEX", "Pulmonary nodule"),
        presence="present",
        provenance=MADE_BY,
        probability=0.94,
        laterality=Code("24028007", "SCT", "Right"),
        site=Code("45653009", "SCT", "Upper lobe of right lung"),
        grade="solid",
        measurements=(
            Measurement(Code("103339001", "SCT", "Long axis"), long_axis, "mm"),
            Measurement(Code("118565006", "SCT", "Volume"), volume, "mL"),
        ),
        evidence=(Evidence(SERIES, label=3, component=1, slice=12, centroid=(40.0, 10.0, 30.0)),),
    )


def no_effusion() -> Finding:
    return Finding(
        id="effusion-1",
        study="1.2.3",
        concept=Code("60046008", "SCT", "Pleural effusion"),
        presence="absent",
        provenance=MADE_BY,
        probability=0.02,
    )


def report() -> Report:
    return Report(
        study="1.2.3",
        title="CT chest",
        sections=(
            Section(
                "impression",
                "Impression",
                (
                    Sentence("Solid nodule, right upper lobe, 14 mm (long axis), 1.2 mL.", ("nodule-1",)),
                    Sentence("No pleural effusion.", ("effusion-1",)),
                ),
            ),
            Section(
                "findings",
                "Findings",
                (
                    Sentence("There is a 14 mm solid nodule in the right upper lobe.", ("nodule-1",), "model"),
                    Sentence("No pleural effusion is seen.", ("effusion-1",), "model"),
                ),
            ),
            Section("technique", "Technique", (Sentence("CT, 24 slices of 2.5 mm.", source="notice"),)),
        ),
        method=Method("0.1.0", "2026-01-01T00:00:00Z", "model", "tiny", "cd" * 32),
        findings=(nodule(), no_effusion()),
        doubts=(Doubt("removed", "'The heart is enlarged.' No finding supports it."),),
        images=(
            KeyImage("key/overview.png", "Overview of the series", SERIES),
            KeyImage(
                "key/nodule-1.png", "Slice 12", SERIES, "key/nodule-1-overlay.png", ("nodule-1",), 12, (-600, 1500)
            ),
        ),
        experts=(
            ExpertUse(
                "chest_ct", "0.1.0", "Finds nodules.", True, "CT of the chest", "ab" * 32, SERIES, 2.1, "synthetic"
            ),
        ),
        series=(SeriesUse(SERIES, "CT", "Chest 2.5 mm", "chest", True, (128, 128, 24), (2.5, 2.5, 2.5)),),
    )


def write_images(folder: Path) -> None:
    """The pictures that `report()` names: grey noise, and the same with a coloured square."""
    (folder / "key").mkdir(parents=True)
    grey = np.random.default_rng(0).integers(20, 90, (128, 128, 1), dtype=np.uint8).repeat(3, axis=2)
    marked = grey.copy()
    marked[50:70, 50:70] = (255, 140, 0)
    for name, picture in (("overview", grey), ("nodule-1", grey), ("nodule-1-overlay", marked)):
        Image.fromarray(picture).save(folder / "key" / f"{name}.png")
