"""Models that medvlm did not train: folders that plain transformers wrote are evaluated as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medvlm.cli import main
from medvlm.dialogue.build import Mix
from medvlm.dialogue.dataset import build_dataset
from medvlm.phantom.cohort import make_cohort
from tests.models.families import build_family

FAMILIES = ("smolvlm", "qwen2_5_vl")


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three synthetic patients, the first held out, and conversations about them."""
    root = tmp_path_factory.mktemp("foreign")
    cohort = make_cohort(root / "clinic", 3, 0, show_progress=False)
    build_dataset(cohort, None, "chest_ct", root / "data", Mix(1, 1, 1), workers=1, progress=False)
    return root


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature of a published family, with random weights, saved by transformers alone."""
    folder = tmp_path_factory.mktemp(request.param)
    loaded = build_family(request.param)
    loaded.model.save_pretrained(folder)
    loaded.processor.save_pretrained(folder)
    assert not (folder / "medvlm.json").exists()
    return folder


def results(out: Path) -> dict:
    assert (out / "index.html").is_file()
    assert (out / "outcomes.jsonl").read_text().strip()
    return json.loads((out / "results.json").read_text())


def test_answers_with_the_picture_and_without(clinic, model, tmp_path):
    command = ["evaluate", "answers", str(clinic / "data"), "--model", str(model), "--out", str(tmp_path)]
    main([*command, "--limit", "3", "--max_new_tokens", "3", "--experts", "none"])
    found = results(tmp_path)
    assert found["groups"][0]["questions"] == 3
    assert set(found["groups"][0]["controls"]) == {"blank"}
    assert "loop:none" in found["signatures"]["accuracy"]


def test_trust_with_calls_written_for_a_model_that_knows_none(clinic, model, tmp_path):
    command = ["evaluate", "trust", str(clinic / "data"), "--cohort", str(clinic / "clinic"), "--model", str(model)]
    main([*command, "--out", str(tmp_path), "--limit", "2", "--calls", "given", "--max_new_tokens", "3"])
    found = results(tmp_path)
    assert found["measures"]["called"]["value"] == 1.0
    assert "loop:teacher_forced" in found["signatures"]["accuracy"]
    assert [row["task"] for row in found["tasks"]] == ["nodule_present", "nodule_count"]


def test_grounding_before_and_after_a_lesion_is_taken_out(clinic, model, tmp_path):
    command = ["evaluate", "grounding", str(clinic / "data"), "--cohort", str(clinic / "clinic"), "--model", str(model)]
    main([*command, "--out", str(tmp_path), "--limit", "1", "--max_new_tokens", "3"])
    found = results(tmp_path)
    assert found["studies"] == 1
    assert found["signatures"]["accuracy"].startswith("beaf|v:1|norm:rules2|edit:erased|lesion:lung_nodule|seed:0")
