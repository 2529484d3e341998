"""Sources, mixtures, controls and a whole small run that is stopped and continued."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from medvlm.curricula import load_curriculum
from medvlm.curricula.run import Run
from medvlm.curricula.spec import Curriculum
from medvlm.errors import MedVLMError
from medvlm.storage import read_json


def small(patients: int = 20) -> Curriculum:
    """The marrow curriculum on few patients, one epoch a stage, without gates."""
    curriculum = load_curriculum("bone_marrow")
    stages = tuple(
        replace(stage, gate={}, settings=dict(stage.settings) | {"trainer.max_epochs": 1})
        for stage in curriculum.stages
    )
    return replace(curriculum, cases=replace(curriculum.cases, patients=patients), stages=stages)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(small(), tmp_path_factory.mktemp("run"), Console(quiet=True), workers=1)
    run.prepare()
    return run


def test_conversations_ask_only_the_slots_of_their_source(prepared: Run) -> None:
    rows = prepared.rows("look", "train")
    # 20 patients are two blocks of ten: 14 for training, three conversations each.
    assert len(rows) == 14 * 3
    asked = {slot for row in rows for slot in row.symbols["asked"]}
    assert asked == {"quality", "cells", "abnormality", "proliferation"}
    assert all(Path(row.images[0]).is_file() for row in rows)


def test_the_truth_of_a_class_is_completed_by_the_rules(prepared: Run) -> None:
    for row in prepared.rows("reason", "train"):
        truth = row.symbols["truth"]
        if truth.get("diagnosis") == "aml":
            assert truth.get("proliferation", "blasts") == "blasts"
            assert truth.get("quality", True) is True


def test_weights_and_replay_set_what_a_stage_shows(prepared: Run) -> None:
    look, reason, prefer, _ = prepared.curriculum.stages
    assert len(prepared.mixture(look, (), "train")) == 42
    # 28 of its own and 0.3 x 42 of the stage before.
    assert len(prepared.mixture(reason, (look,), "train")) == 28 + 13
    assert len(prepared.mixture(prefer, (look, reason), "train")) == 14
    twice = replace(look, sources={"look": 2})
    rows = prepared.mixture(twice, (), "train")
    assert len(rows) == 84
    assert len({row.id for row in rows}) == 84


def test_an_exchanged_picture_is_of_another_patient_with_another_truth(prepared: Run) -> None:
    rows = prepared.rows("reason", "train")
    truth = {row.images[0]: row.symbols["truth"] for row in rows}
    for row, other in zip(rows, prepared.other_pictures(rows, "shuffled"), strict=True):
        assert other != row.images[0]
        if "diagnosis" in row.symbols["truth"] and "diagnosis" in truth[other]:
            assert truth[other]["diagnosis"] != row.symbols["truth"]["diagnosis"]


def test_a_folder_of_other_settings_is_refused(prepared: Run) -> None:
    with pytest.raises(MedVLMError, match="other settings"):
        Run(replace(prepared.curriculum, seed=5), prepared.out, Console(quiet=True))


@pytest.mark.slow
def test_all_objectives_run_and_a_finished_stage_is_not_done_again(tmp_path: Path) -> None:
    curriculum = small()
    first = replace(curriculum, stages=curriculum.stages)
    card = Run(first, tmp_path, Console(quiet=True), workers=1)()
    assert [stage["objective"] for stage in card["stages"]] == ["finetune", "finetune", "preference", "policy"]
    assert set(card["forgetting"]["cells"]) == {"look", "reason", "prefer", "align"}
    for test in card["stages"][-1]["tests"].values():
        assert {"answers", "whole", "inconsistent", "blank", "shuffled"} <= set(test)
    begun = (tmp_path / "01-look" / "stage.json").stat().st_mtime_ns
    again = Run(first, tmp_path, Console(quiet=True), workers=1)()
    assert (tmp_path / "01-look" / "stage.json").stat().st_mtime_ns == begun
    assert again == card == read_json(tmp_path / "card.json")
