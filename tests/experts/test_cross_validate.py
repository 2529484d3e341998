"""Cross-validation: who is in which fold, and what comes out."""

from collections import Counter
from pathlib import Path

import pytest

from medvlm.errors import MedVLMError
from medvlm.experts.bundle import read_bundle
from medvlm.experts.cross_validate import cross_validate, fold_cohort, fold_groups, interval
from medvlm.experts.settings import Augment, Batches, Loss, Optimiser
from medvlm.imaging.cohort import Cohort, CohortEntry
from medvlm.storage import read_json
from tests.experts.tiny import write_bundle, write_cohort


def cohort_of(patients: int, studies: int) -> Cohort:
    entries = [
        CohortEntry(f"s{p}-{s}", f"p{p}", "train", f"s{p}-{s}.png") for p in range(patients) for s in range(studies)
    ]
    return Cohort(Path("nowhere"), "made", {}, tuple(entries))


def test_a_patients_studies_share_a_fold_and_each_is_tested_once() -> None:
    cohort = cohort_of(patients=23, studies=3)
    groups = fold_groups(cohort, (), 5, seed=1)
    assert sorted(Counter(groups.values()).values()) == [4, 4, 5, 5, 5]
    tested: Counter[str] = Counter()
    for number in range(5):
        part = fold_cohort(cohort, groups, number, 5)
        sides: dict[str, set[str]] = {}
        for entry in part.entries:
            sides.setdefault(entry.patient, set()).add(entry.split)
        assert all(len(splits) == 1 for splits in sides.values())
        assert part.split("validation")
        tested.update(entry.id for entry in part.split("test"))
    assert set(tested.values()) == {1}
    assert len(tested) == 69


def test_more_folds_than_patients_are_refused() -> None:
    for folds in (1, 4):
        with pytest.raises(MedVLMError, match="number of patients"):
            fold_groups(cohort_of(patients=3, studies=2), (), folds, seed=0)


def test_the_interval_of_equal_values_is_a_point() -> None:
    assert interval([0.5] * 10, seed=0) == [0.5, 0.5]


def test_two_folds_train_measure_and_resume(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort")
    root = write_bundle(tmp_path / "tiny")
    weights = read_bundle(root).weights_hash()
    trainer = {"max_steps": 2, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    batches = Batches(patch=(24, 24, 24), batch_size=2, augment=Augment())

    def run() -> dict[str, object]:
        return cross_validate(
            root,
            tmp_path / "cohort",
            tmp_path / "work",
            batches,
            Loss(),
            Optimiser(),
            trainer,
            0,
            folds=2,
            device="cpu",
        )

    written = run()
    # Six studies, each tested once, none of them by the bundle's own weights.
    assert written["metrics"]["n_dice_left_organ"] == 6.0
    assert len(written["folds"]) == 2
    assert read_bundle(root).weights_hash() == weights
    assert read_json(root / "cross_validation.json") == written
    assert read_bundle(root).metrics["dice_ball"] == written["metrics"]["dice_ball"]
    stamps = [path.stat().st_mtime_ns for path in sorted((tmp_path / "work").glob("fold-*/fold.json"))]
    assert run() == written
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "work").glob("fold-*/fold.json"))] == stamps
