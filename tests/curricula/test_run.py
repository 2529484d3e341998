"""Sources, mixtures, controls and whole small runs that are stopped and continued."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console

from medvlm.curricula import load_curriculum
from medvlm.curricula.run import Run
from medvlm.curricula.spec import Curriculum, Source, Stage, Stop
from medvlm.errors import MedVLMError
from medvlm.storage import read_json


def stage_of(curriculum: Curriculum, name: str) -> Stage:
    return next(stage for stage in curriculum.stages if stage.id == name)


def small(patients: int = 20) -> Curriculum:
    """The marrow curriculum on few patients, one epoch a stage, without gates; sources of known sizes."""
    curriculum = load_curriculum("bone_marrow")
    sources = dict(curriculum.sources) | {
        "look": Source(slots=("cells", "proliferation"), order="subset", per_study=4, wordings=1),
        "reason": replace(curriculum.sources["reason"], share=1.0),
        "corrected": replace(curriculum.sources["corrected"], share=1.0),
        "single": Source(questions=1, per_study=3),
    }
    stages = tuple(
        replace(stage, gate={}, stop=None, settings=dict(stage.settings) | {"trainer.max_epochs": 1})
        for stage in curriculum.stages
    )
    return replace(curriculum, cases=replace(curriculum.cases, patients=patients), sources=sources, stages=stages)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(small(), tmp_path_factory.mktemp("run"), Console(quiet=True), workers=1)
    run.prepare()
    return run


def test_conversations_ask_only_the_slots_of_their_source(prepared: Run) -> None:
    rows = prepared.shelf.rows("look", "train")
    # 20 patients are two blocks of ten: 14 for training, four conversations each.
    assert len(rows) == 14 * prepared.curriculum.sources["look"].per_study
    asked = {slot for row in rows for slot in row.symbols["asked"]}
    assert asked == {"cells", "proliferation"}
    assert all(Path(row.images[0]).is_file() for row in rows)


def test_a_source_asks_at_most_so_many_questions(prepared: Run) -> None:
    rows = prepared.shelf.rows("single", "train")
    assert {len(row.symbols["asked"]) for row in rows} == {1}
    assert {row.symbols["asked"][0] for row in rows} == set(prepared.scorer.pathway.slots)


def test_the_truth_of_a_class_is_completed_by_the_rules(prepared: Run) -> None:
    for row in prepared.shelf.rows("reason", "train"):
        truth = row.symbols["truth"]
        if truth.get("diagnosis") == "aml":
            assert truth.get("proliferation", "blasts") == "blasts"
            assert truth.get("quality", True) is True


def test_one_wording_gives_one_question_and_one_answer_a_symbol(prepared: Run) -> None:
    said: dict[tuple[str, str], set[str]] = {}
    for row in prepared.shelf.rows("look", "train"):
        answers = [turn.text for turn in row.turns if turn.role == "assistant"]
        for slot, answer in zip(row.symbols["asked"], answers, strict=True):
            said.setdefault((slot, str(row.symbols["truth"][slot])), set()).add(answer)
    assert {len(texts) for texts in said.values()} == {1}


def test_heldout_tests_ask_in_words_that_training_does_not_have(prepared: Run) -> None:
    def asked(rows: list) -> set[str]:
        return {question for row in rows for question in row.symbols["questions"]}

    trained = asked([row for name in prepared.curriculum.sources for row in prepared.shelf.rows(name, "train")])
    skill = prepared.curriculum.skills["rephrased"]
    assert skill.heldout
    assert not asked(prepared.shelf.tests(skill)) & trained


def test_weights_and_replay_set_what_a_stage_shows(prepared: Run) -> None:
    curriculum, shelf = prepared.curriculum, prepared.shelf
    look, reason, prefer = (stage_of(curriculum, name) for name in ("look", "reason", "prefer"))
    looked, reasoned = 14 * curriculum.sources["look"].per_study, 14 * curriculum.sources["reason"].per_study
    assert len(shelf.mixture(look, (), "train")) == looked
    assert len(shelf.mixture(reason, (look,), "train")) == reasoned + round(reason.replay * looked)
    prefer = replace(prefer, sources={"corrected": 0.5})
    assert len(shelf.mixture(prefer, (look, reason), "train")) == 14 * curriculum.sources["corrected"].per_study // 2
    rows = shelf.mixture(replace(look, sources={"look": 2}), (), "train")
    assert len(rows) == len({row.id for row in rows}) == 2 * looked


def test_a_side_branch_builds_on_the_stage_it_starts_from(prepared: Run) -> None:
    curriculum = prepared.curriculum
    branch = replace(stage_of(curriculum, "reason"), id="branch", start="look")
    fresh = replace(stage_of(curriculum, "reason"), id="fresh", start="new")
    curriculum = replace(curriculum, stages=(*curriculum.stages, branch, fresh))
    assert [stage.id for stage in curriculum.before(branch)] == ["see", "look"]
    assert curriculum.before(fresh) == ()
    last = stage_of(curriculum, "align")
    assert [stage.id for stage in curriculum.before(last)] == ["see", "look", "reason", "prefer"]


def test_an_exchanged_picture_is_of_another_patient_with_another_truth(prepared: Run) -> None:
    rows = prepared.shelf.rows("reason", "train")
    truth = {row.images[0]: row.symbols["truth"] for row in rows}
    for row, other in zip(rows, prepared.shelf.other_pictures(rows, "shuffled"), strict=True):
        assert other != row.images[0]
        if "diagnosis" in row.symbols["truth"] and "diagnosis" in truth[other]:
            assert truth[other]["diagnosis"] != row.symbols["truth"]["diagnosis"]


@pytest.mark.parametrize("cases", [{"phantom": "", "cohort": "nowhere"}, {"phantom": "unicorn"}])
def test_a_run_without_cases_leaves_nothing_behind(tmp_path: Path, cases: dict) -> None:
    """Otherwise the same folder would be refused when the cohort is named rightly."""
    curriculum = small()
    curriculum = replace(curriculum, cases=replace(curriculum.cases, **cases))
    with pytest.raises(MedVLMError, match=r"nowhere|unicorn"):
        Run(curriculum, tmp_path / "run", Console(quiet=True))
    assert not (tmp_path / "run").exists()


def test_the_wrong_window_is_a_changed_copy_of_the_own_picture(prepared: Run) -> None:
    rows = prepared.shelf.rows("reason", "train")[:3]
    for row, other in zip(rows, prepared.shelf.other_pictures(rows, "wrong_window"), strict=True):
        assert Path(other).stem == f"{Path(row.images[0]).stem}-wrong_window"
        own, changed = (np.asarray(Image.open(path).convert("RGB")) for path in (row.images[0], other))
        assert own.shape == changed.shape
        assert (own != changed).mean() > 0.5


def test_a_folder_of_other_settings_is_refused(prepared: Run) -> None:
    with pytest.raises(MedVLMError, match="other settings"):
        Run(replace(prepared.curriculum, seed=5), prepared.out, Console(quiet=True))


@pytest.mark.slow
def test_all_objectives_run_and_a_finished_stage_is_not_done_again(tmp_path: Path) -> None:
    first = small()
    card = Run(first, tmp_path, Console(quiet=True), workers=1)()
    objectives = ["contrastive", "finetune", "finetune", "preference", "policy"]
    assert [stage["objective"] for stage in card["stages"]] == objectives
    assert set(card["forgetting"]["signs"]) == {"look", "reason", "prefer", "align"}
    for test in card["stages"][-1]["tests"].values():
        assert {"answers", "whole", "inconsistent", "blank", "shuffled"} <= set(test)
    begun = (tmp_path / "02-look" / "stage.json").stat().st_mtime_ns
    again = Run(first, tmp_path, Console(quiet=True), workers=1)()
    assert (tmp_path / "02-look" / "stage.json").stat().st_mtime_ns == begun
    assert again == card == read_json(tmp_path / "card.json")


@pytest.mark.slow
def test_a_stage_ends_when_its_skill_is_reached(tmp_path: Path) -> None:
    """Right answers are at least 0 %, so the first epoch of four is enough."""
    curriculum = small()
    look = stage_of(curriculum, "look")
    longer = {"trainer.max_epochs": 4, "trainer.log_every_n_steps": 1}
    look = replace(look, stop=Stop("signs", reached=0.0), settings=dict(look.settings) | longer)
    curriculum = replace(curriculum, stages=(look,), skills={"signs": curriculum.skills["signs"]})
    run = Run(curriculum, tmp_path, Console(quiet=True), workers=1)
    run()
    (metrics,) = (tmp_path / "01-look" / "fit").rglob("metrics.csv")
    text = metrics.read_text()
    assert "val/signs" in text
    epochs = {line.split(",")[0] for line in text.splitlines()[1:]}
    assert epochs == {"0"}


@pytest.mark.slow
def test_a_run_that_is_killed_twice_ends_with_the_same_tests(tmp_path: Path) -> None:
    curriculum = tmp_path / "curriculum.yaml"
    shipped = yaml.safe_load((load_curriculum("bone_marrow").path).read_text())
    shipped["cases"]["patients"] = 20
    shipped["settings"]["checkpoint.every_n_train_steps"] = 1
    shipped["skills"] = {"standard": {"source": "standard"}}
    for stage in shipped["stages"]:
        stage.pop("gate", None)
        stage.pop("stop", None)
        stage["settings"]["trainer.max_epochs"] = 1
    curriculum.write_text(yaml.safe_dump(shipped))
    whole = _run(curriculum, tmp_path / "whole", kills=())
    # Killed in a fine-tuning and in a policy stage, each time after the first checkpoint.
    stopped = _run(curriculum, tmp_path / "stopped", kills=("02-look", "05-align"))
    assert [stage["tests"] for stage in whole["stages"]] == [stage["tests"] for stage in stopped["stages"]]


def _run(curriculum: Path, out: Path, kills: tuple[str, ...]) -> dict:
    """The card of a run in a process of its own that is killed in these stages."""
    begin = [sys.executable, "-c", "import sys; from medvlm.cli import main; main(sys.argv[1:])"]
    command = [*begin, "curriculum", "run", str(curriculum), "--out", str(out), "--workers=1"]
    for stage in kills:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        waited = out / stage / "fit" / "checkpoints" / "last.ckpt"
        while process.poll() is None and not waited.is_file():
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (out / stage / "stage.json").is_file()
    subprocess.run(command, check=True, capture_output=True)
    return read_json(out / "card.json")
