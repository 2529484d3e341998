"""Cohorts on disk: the same bytes however they are made, nobody else's folder touched."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medvlm.cli import main
from medvlm.errors import MedVLMError
from medvlm.findings.finding import read_findings
from medvlm.imaging.cohort import read_cohort
from medvlm.imaging.reader import load_study
from medvlm.phantom import generate_case
from medvlm.phantom.cohort import make_cohort, split_of


def digest(folder: Path) -> dict[str, str]:
    """Relative path → SHA-256 of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clinic") / "three"
    make_cohort(out, patients=3, seed=11, workers=1, show_progress=False)
    return out


def test_two_workers_write_the_same_bytes_as_one(three: Path, tmp_path: Path) -> None:
    make_cohort(tmp_path / "again", patients=3, seed=11, workers=2, show_progress=False)
    assert digest(tmp_path / "again") == digest(three)


def test_an_interrupted_run_is_completed_with_the_same_bytes(three: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(three, broken)
    shutil.rmtree(broken / "CT-0002")
    (broken / "cohort.json").unlink()
    half = broken / ".0123abcd.CT-0002"
    half.mkdir()
    (half / "mask.nii.gz").write_bytes(b"half")
    untouched = (broken / "CT-0001" / "truth.jsonl").stat().st_mtime_ns
    make_cohort(broken, patients=3, seed=11, show_progress=False)
    assert digest(broken) == digest(three)
    assert (broken / "CT-0001" / "truth.jsonl").stat().st_mtime_ns == untouched


def test_a_cohort_can_grow(three: Path, tmp_path: Path) -> None:
    make_cohort(tmp_path / "growing", patients=1, seed=11, show_progress=False)
    make_cohort(tmp_path / "growing", patients=3, seed=11, show_progress=False)
    assert digest(tmp_path / "growing") == digest(three)


def test_entries_lead_to_image_mask_truth_and_report(three: Path) -> None:
    cohort = read_cohort(three)
    assert cohort.labels[7] == "lung nodule"
    for number, entry in enumerate(cohort.entries):
        case = generate_case(11, number)
        volume = load_study(three / entry.study).series[0].volume
        assert entry.mask is not None
        assert entry.truth is not None
        assert entry.report is not None
        mask = nibabel.load(three / entry.mask)
        assert mask.get_data_dtype() == np.uint8
        assert mask.shape == volume.array.shape
        assert np.abs(mask.affine - volume.affine).max() < 1e-3
        assert np.array_equal(np.asarray(mask.dataobj), case.labels)
        assert tuple(read_findings(three / entry.truth)) == case.findings
        assert "IMPRESSION" in (three / entry.report).read_text()


def test_splits_are_seven_one_two_of_every_ten() -> None:
    assert Counter(split_of(0, index) for index in range(160)) == {"train": 112, "validation": 16, "test": 32}
    assert Counter(split_of(4, index) for index in range(30, 40)) == {"train": 7, "validation": 1, "test": 2}


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(MedVLMError, match="is not empty and not a phantom cohort"):
        make_cohort(tmp_path, patients=1, show_progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_cohort_of_another_seed_is_left_alone(three: Path) -> None:
    before = digest(three)
    with pytest.raises(MedVLMError, match="another seed"):
        make_cohort(three, patients=3, seed=12, show_progress=False)
    assert digest(three) == before


def test_the_command_refuses_nonsense_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["phantom", "chest-ct", "--out", str(tmp_path / "x"), "--patients", "0"])
    assert stop.value.code == 2
    assert "at least 1" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_the_command_writes_a_cohort(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["phantom", "chest-ct", "--out", str(tmp_path / "c"), "--patients", "1", "--workers", "1"])
    assert "1 studies" in capsys.readouterr().out
    assert len(read_cohort(tmp_path / "c").entries) == 1
