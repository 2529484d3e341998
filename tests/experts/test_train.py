"""Training, export, annotation and measuring, end to end with a network of a few hundred weights."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medvlm.errors import MedVLMError
from medvlm.experts.annotate import annotate_cohort, read_annotations
from medvlm.experts.bundle import read_bundle
from medvlm.experts.evaluate import evaluate_expert
from medvlm.experts.settings import Augment, Batches, Loss, Optimiser
from medvlm.experts.train import make_trainer, train_expert
from medvlm.storage import read_json
from tests.experts.tiny import write_bundle, write_cohort

TRAINER = {
    "max_steps": 60,
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "limit_val_batches": 1,
}
BATCHES = Batches(patch=(24, 24, 24), batch_size=2, focus={"ball": 4.0}, augment=Augment(flip=0.0))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A trained bundle and the cohort it was trained on."""
    folder = tmp_path_factory.mktemp("trained")
    write_cohort(folder / "cohort")
    root = write_bundle(folder / "tiny", weights=False)
    train_expert(
        root, folder / "cohort", folder / "work", BATCHES, Loss(weights={"ball": 3.0}), Optimiser(0.02), TRAINER, seed=0
    )
    return root, folder / "cohort"


def test_a_few_steps_learn_the_scenes_and_the_measures_say_so(trained: tuple[Path, Path]) -> None:
    metrics = evaluate_expert(*trained)
    # Four plain intensities: sixty steps separate them well, where a random network would give a Dice near 0.2.
    assert metrics["dice_left_organ"] > 0.85
    assert metrics["dice_ball"] > 0.6
    assert metrics["ball_sensitivity"] == 1.0
    assert metrics["n_ball_sensitivity"] == 1.0
    assert metrics["ball_place"] == 1.0


def test_training_again_from_the_same_seed_gives_the_same_weights(trained: tuple[Path, Path], tmp_path: Path) -> None:
    hashes = set()
    for run in ("a", "b"):
        root = write_bundle(tmp_path / run, weights=False)
        settings = TRAINER | {"max_steps": 3}
        train_expert(root, trained[1], tmp_path / f"work-{run}", BATCHES, Loss(), Optimiser(), settings, seed=5)
        hashes.add(read_bundle(root).weights_hash())
    assert len(hashes) == 1


def test_a_cohort_without_the_structures_is_refused(trained: tuple[Path, Path], tmp_path: Path) -> None:
    root = write_bundle(tmp_path / "tiny", weights=False)
    config = read_json(root / "configs" / "metadata.json")
    config["network_data_format"]["outputs"]["pred"]["channel_def"]["3"] = "spleen"
    from medvlm.storage import write_json

    write_json(root / "configs" / "metadata.json", config)
    with pytest.raises(MedVLMError, match="have no 'spleen'"):
        train_expert(root, trained[1], tmp_path / "work", BATCHES, Loss(), Optimiser(), TRAINER, seed=0)


def test_a_trainer_that_asks_for_a_missing_gpu_is_one_sentence() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(MedVLMError, match="trainer settings do not work here"):
        make_trainer({"accelerator": "gpu"})


@pytest.mark.parametrize("workers", [0, 1])
def test_annotating_writes_findings_and_isolates_the_study_that_fails(
    workers: int, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    root, source = trained
    cohort = tmp_path / "cohort"
    shutil.copytree(source, cohort)
    (cohort / "s1" / "ct.nii.gz").write_bytes(b"torn")
    done = annotate_cohort(cohort, tmp_path / "out", [str(root)], masks=True, device="cpu", workers=workers)
    assert (done.studies, done.resumed) == (5, 0)
    assert list(done.failed) == ["s1"]
    assert "ct.nii.gz" in done.failed["s1"]
    found = read_annotations(tmp_path / "out")
    assert sorted(found) == ["s0", "s2", "s3", "s4", "s5"]
    assert all(finding.provenance.expert == "tiny" for findings in found.values() for finding in findings)
    assert (tmp_path / "out" / "masks" / "s0.nii.gz").is_file()


def test_annotating_again_runs_only_what_is_missing(trained: tuple[Path, Path], tmp_path: Path) -> None:
    root, cohort = trained
    annotate_cohort(cohort, tmp_path / "out", [str(root)], device="cpu", workers=0)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "findings").iterdir()}
    gone = tmp_path / "out" / "findings" / "s2.jsonl"
    text = gone.read_text()
    gone.unlink()
    done = annotate_cohort(cohort, tmp_path / "out", [str(root)], device="cpu", workers=0)
    assert (done.studies, done.resumed) == (6, 5)
    assert gone.read_text() == text
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items() if path != gone)


def test_a_folder_of_other_experts_findings_is_not_mixed_with_new_ones(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    root, cohort = trained
    annotate_cohort(cohort, tmp_path / "out", [str(root)], splits=["test"], device="cpu", workers=0)
    other = write_bundle(tmp_path / "other")
    with pytest.raises(MedVLMError, match="choose another --out"):
        annotate_cohort(cohort, tmp_path / "out", [str(other)], device="cpu", workers=0)
    with pytest.raises(MedVLMError, match=r"no annotation\.json"):
        read_annotations(tmp_path)


def test_the_commands_list_show_annotate_and_measure(
    trained: tuple[Path, Path], tmp_path: Path, medvlm_command: Callable[..., object]
) -> None:
    root, cohort = trained
    listed = medvlm_command("experts", "list")
    assert "chest_ct" in listed.out  # type: ignore[attr-defined]
    shown = medvlm_command("experts", "show", root)
    assert "<TINY(balls)>" in shown.out  # type: ignore[attr-defined]
    done = medvlm_command("annotate", cohort, "--out", tmp_path / "out", "--experts", root, "--device", "cpu")
    assert "for 6 studies" in done.out  # type: ignore[attr-defined]
    measured = medvlm_command("experts", "evaluate", root, cohort)
    assert "ball_sensitivity" in measured.out  # type: ignore[attr-defined]


def test_commands_answer_bad_input_in_one_sentence(tmp_path: Path, medvlm_command: Callable[..., object]) -> None:
    for arguments in (
        ("annotate", tmp_path, "--experts", "chest_ct"),
        ("annotate", tmp_path),
        ("experts", "show", "no_such_expert"),
        ("experts", "train"),
    ):
        outcome = medvlm_command(*arguments)
        assert outcome.code == 2  # type: ignore[attr-defined]
        assert outcome.err.count("\n") == 1  # type: ignore[attr-defined]
