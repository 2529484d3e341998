"""White blood cells: a cohort with masks, types and stratified splits."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvlm.dialogue.adapters.wbc import prepare_wbc, read_cells, stratify
from medvlm.errors import MedVLMError
from medvlm.findings.finding import read_findings
from medvlm.imaging.cohort import read_cohort
from medvlm.imaging.reader import load_study

REAL = Path(os.environ.get("MEDVLM_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "wbc"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """20 neutrophils, 8 lymphocytes, 1 basophil; numbers 1 and 2 are the same picture."""
    folder = tmp_path / "published"
    (folder / "images").mkdir(parents=True)
    lines = ["image ID,class label"]
    mask = np.zeros((10, 12), np.uint8)
    mask[2:8, 2:10] = 128
    # Nucleus 3 x 4 of a cell of 6 x 8 pixels: a quarter.
    mask[3:6, 3:7] = 255
    for number in range(1, 30):
        kind = 1 if number <= 20 else 2 if number <= 28 else 5
        lines.append(f"{number},{kind}")
        shade = 5 if number == 2 else 5 * number
        Image.new("RGB", (12, 10), (shade, 50, 90)).save(folder / "images" / f"{number:03d}.bmp")
        Image.fromarray(mask).convert("RGB").save(folder / "images" / f"{number:03d}.png")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_masks_lie_on_the_pictures_and_hold_nucleus_and_cytoplasm(root: Path, tmp_path: Path) -> None:
    prepare_wbc(root, tmp_path / "out")
    cohort = read_cohort(tmp_path / "out")
    assert cohort.labels == {1: "nucleus", 2: "cytoplasm"}
    entry = cohort.entries[0]
    assert entry.mask is not None
    picture = load_study(cohort.root / entry.study).series[0].volume.array
    mask = load_study(cohort.root / entry.mask).series[0].volume.array
    assert mask.shape == picture.shape[:3]
    # [i, j, k]: i runs along the width; 12 nucleus pixels, 6 * 8 - 12 = 36 of cytoplasm.
    assert Counter(mask.ravel().tolist()) == {0: 120 - 48, 1: 12, 2: 36}
    assert mask[3, 3, 0] == 1


def test_the_truth_names_the_type_and_the_share_of_the_nucleus(root: Path, tmp_path: Path) -> None:
    prepare_wbc(root, tmp_path / "out")
    cohort = read_cohort(tmp_path / "out")
    entry = cohort.entries[-1]
    assert entry.truth is not None
    kind, nucleus = read_findings(cohort.root / entry.truth)
    assert kind.grade == "basophil"
    assert nucleus.measure("Area ratio") == pytest.approx(12 / 48)


def test_each_type_is_shared_out_alike_and_a_single_picture_is_trained(root: Path) -> None:
    cells = read_cells(root)
    splits = stratify(cells, seed=3)
    count = Counter((cell.type, splits[cell.group]) for cell in cells if cell.number == cell.group)
    # 19 different neutrophils: a quarter is 4.75 → 5, 15 % is 2.85 → 3; 8 lymphocytes: 2 and 1.2 → 1.
    assert count["neutrophil", "test"] == 5
    assert count["neutrophil", "validation"] == 3
    assert count["lymphocyte", "test"] == 2
    assert count["lymphocyte", "validation"] == 1
    assert splits["029"] == "train"


def test_identical_pictures_stay_on_one_side(root: Path, tmp_path: Path) -> None:
    for seed in range(8):
        prepare_wbc(root, tmp_path / f"out{seed}", seed=seed)
        first, second = read_cohort(tmp_path / f"out{seed}").entries[:2]
        assert first.patient == second.patient
        assert first.split == second.split


def test_splits_follow_the_seed(root: Path) -> None:
    cells = read_cells(root)
    assert stratify(cells, 1) == stratify(cells, 1)
    assert any(stratify(cells, seed) != stratify(cells, 1) for seed in (2, 3, 4))


def test_the_card_counts_types_and_gives_the_majority_answer(root: Path, tmp_path: Path) -> None:
    prepare_wbc(root, tmp_path / "out")
    card = json.loads((tmp_path / "out" / "data.json").read_text())
    assert card["identical_pictures"] == 1
    assert card["types"]["train"]["basophil"] == 1
    tested = card["types"]["test"]
    assert card["majority"]["answer"] == "neutrophil"
    assert card["majority"]["accuracy"] == pytest.approx(tested["neutrophil"] / sum(tested.values()), abs=1e-4)


def test_a_mask_with_other_values_is_refused_by_name(root: Path, tmp_path: Path) -> None:
    Image.new("L", (12, 10), 77).save(root / "images" / "004.png")
    with pytest.raises(MedVLMError, match=r"004\.png: a mask holds 0, 128 and 255 only, not 77"):
        prepare_wbc(root, tmp_path / "out")
    assert not (tmp_path / "out" / "cohort.json").exists()


def test_a_broken_label_line_is_named(root: Path, tmp_path: Path) -> None:
    (root / "labels.csv").write_text("image ID,class label\n1,9\n")
    with pytest.raises(MedVLMError, match="line 2: expected a picture number and a type"):
        prepare_wbc(root, tmp_path / "out")


def test_there_is_no_published_split(root: Path, tmp_path: Path) -> None:
    with pytest.raises(MedVLMError, match="no published split"):
        prepare_wbc(root, tmp_path / "out", split="official")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real WBC pictures are not here (set MEDVLM_TEST_DATA)")
def test_the_real_data_set_has_300_pictures_of_five_types(tmp_path: Path) -> None:
    prepare_wbc(REAL, tmp_path / "out")
    card = json.loads((tmp_path / "out" / "data.json").read_text())
    assert sum(card["pictures"].values()) == 300
    assert card["types"]["train"]["basophil"] == 1
    assert len(read_cohort(tmp_path / "out").entries) == 300
