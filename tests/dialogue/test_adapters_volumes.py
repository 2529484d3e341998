"""Segmented volumes: cohort, Findings measured from masks, and conversations in which the masks are the expert."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medvlm.dialogue.adapters import prepare_named
from medvlm.dialogue.conversation import read_conversations
from medvlm.errors import MedVLMError
from medvlm.findings.finding import read_findings
from medvlm.imaging.cohort import SPLITS, read_cohort

# 2 mm voxels: a liver of 10 x 10 x 10 voxels is 8 mL.
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def volume(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, AFFINE), path)


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """Ten cases of a liver task; every second has one lesion of 4 x 4 x 4 voxels (0.512 mL)."""
    root = tmp_path / "Task03_Liver"
    rows = []
    for number in range(10):
        labels = np.zeros((24, 24, 24), np.uint8)
        labels[4:14, 4:14, 4:14] = 1
        if number % 2:
            labels[16:20, 16:20, 16:20] = 2
        volume(root / "imagesTr" / f"liver_{number}.nii.gz", (labels * 50).astype(np.int16))
        volume(root / "labelsTr" / f"liver_{number}.nii.gz", labels)
        rows.append({"image": f"./imagesTr/liver_{number}.nii.gz", "label": f"./labelsTr/liver_{number}.nii.gz"})
    description = {"name": "Liver", "labels": {"0": "background", "1": "liver", "2": "cancer"}, "training": rows}
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def test_organs_and_lesions_are_measured_from_the_masks(task: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = prepare_named("msd", task, out, subset=True)
    assert "10 volumes (7/1/2)" in line
    cohort = read_cohort(out)
    assert len(cohort.entries) == 10
    found = {finding.id: finding for finding in read_findings(out / "truth" / "liver_1.jsonl")}
    assert found["liver"].measure("Volume") == pytest.approx(8.0)
    assert found["lesion-1"].measure("Volume") == pytest.approx(0.512)
    assert found["lesion-1"].site == found["liver"].concept
    assert [f.presence for f in read_findings(out / "truth" / "liver_0.jsonl")] == ["present", "absent"]


def test_the_masks_answer_in_the_part_of_an_expert(task: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_named("msd", task, out, subset=True)
    rows = [c for s in SPLITS for c in read_conversations(out / "conversations" / f"{s}.jsonl")]
    assert all((out / "conversations" / image).is_file() for row in rows for image in row.images)
    said = [turn.text for row in rows for turn in row.turns if turn.role == "expert"]
    assert any("liver: 8.0 mL" in text for text in said)
    assert any("lesions: none" in text for text in said)
    triggers = {turn.text for row in rows for turn in row.turns if turn.text.startswith("<")}
    assert triggers == {"<MSD_LIVER(structures)>"}
    card = json.loads((out / "data.json").read_text())
    assert card["shared_patients"] == 0
    assert "lesion_count" in card["tasks"]["test"]


def test_another_number_of_cases_is_refused(task: Path, tmp_path: Path) -> None:
    with pytest.raises(MedVLMError, match=r"10 cases where MSD Liver has 131 as published.*--subset"):
        prepare_named("msd", task, tmp_path / "out")
    (task / "labelsTr" / "liver_3.nii.gz").write_text("no image")
    with pytest.raises(MedVLMError, match=r"liver_3.nii.gz: not a readable mask"):
        prepare_named("msd", task, tmp_path / "out", subset=True)


def test_total_segmentator_keeps_its_split_and_sides(tmp_path: Path) -> None:
    root, out = tmp_path / "ts", tmp_path / "out"
    lines = ["image_id;age;split"]
    for number, split in enumerate(("train", "train", "val", "test")):
        name = f"s{number:04d}"
        lines.append(f"{name};60;{split}")
        empty = np.zeros((20, 20, 20), np.uint8)
        volume(root / name / "ct.nii.gz", np.indices((20, 20, 20))[0].astype(np.int16))
        for index, organ in enumerate(("kidney_left", "kidney_right", "liver", "face")):
            mask = empty.copy()
            mask[4 * index : 4 * index + 3, 2:12, 2:12] = 1
            volume(root / name / "segmentations" / f"{organ}.nii.gz", mask)
    (root / "meta.csv").write_text("\n".join(lines) + "\n")
    prepare_named("total_segmentator", root, out, subset=True)
    cohort = read_cohort(out)
    assert [entry.split for entry in cohort.entries] == ["train", "train", "validation", "test"]
    # "face" has no code and is left out.
    assert set(cohort.labels.values()) == {"kidney_left", "kidney_right", "liver"}
    found = read_findings(out / "truth" / "s0000.jsonl")
    assert {(f.concept.meaning, f.laterality.meaning if f.laterality else "") for f in found} == {
        ("Kidney", "Left"),
        ("Kidney", "Right"),
        ("Liver", ""),
    }
    # 3 x 10 x 10 voxels of 8 mm3.
    assert found[2].measure("Volume") == pytest.approx(2.4)
