"""The commands of the README, run as a reader would run them, on a quickstart that is far too short to learn."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from medvlm.content import find_content
from medvlm.reporting.report import read_report
from tests.packaging.test_documentation import ROOT, commands_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """`medvlm quickstart` with 10 patients and 12 training steps."""
    from medvlm.commands.quickstart import quickstart

    folder = tmp_path_factory.mktemp("readme")
    config = yaml.safe_load(Path(find_content("configs", "quickstart.yaml")).read_text())
    config["trainer"]["max_steps"] = 12
    (folder / "short.yaml").write_text(yaml.safe_dump(config))
    quickstart(out=folder / "runs" / "quickstart", patients=10, recipe=str(folder / "short.yaml"))
    return folder


def test_quickstart_leaves_a_model_the_results_and_a_report(run_folder):
    out = run_folder / "runs" / "quickstart"
    assert (out / "fit" / "model" / "config.json").is_file()
    assert (out / "results.json").is_file()
    report = read_report(out / "report")
    assert report.method.model == "fit/model"
    assert not report.abstained


@pytest.mark.parametrize("command", [c for c in commands_of(ROOT / "README.md") if "<" not in c])
def test_readme_command_runs(command, run_folder, monkeypatch, medvlm_command):
    monkeypatch.chdir(run_folder)
    study = next((run_folder / "runs" / "quickstart" / "clinic").glob("*/dicom"))
    command = re.sub(r"path/to/dicom", str(study), command)
    outcome = medvlm_command(*shlex.split(command, comments=True)[1:])
    assert outcome.code == 0, outcome.err
    assert outcome.out.strip()
