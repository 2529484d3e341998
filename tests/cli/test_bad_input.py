"""Bad input: one sentence on standard error, exit code 2, nothing left behind."""

import gzip

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from medvlm.content import find_content
from medvlm.dialogue.conversation import Conversation, Turn, write_conversations


@pytest.fixture
def inputs(tmp_path):
    """A folder of things that go wrong, apart from the folder that is written to."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "empty").mkdir()
    (folder / "text.dcm").write_text("this is not a DICOM file\n" * 40)
    (folder / "nothing.dcm").write_bytes(b"")
    dicom = get_testdata_file("CT_small.dcm", download=False)
    assert dicom is not None
    data = open(dicom, "rb").read()  # noqa: SIM115, PTH123
    (folder / "truncated.dcm").write_bytes(data[: len(data) // 2])
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), np.int16), np.eye(4)), folder / "zeros.nii.gz")
    packed = (folder / "zeros.nii.gz").read_bytes()
    (folder / "cut.nii.gz").write_bytes(packed[: len(packed) - 20])
    (folder / "not-nifti.nii.gz").write_bytes(gzip.compress(b"hello" * 100))
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    no_pixels = pydicom.dcmread(dicom)
    del no_pixels.PixelData
    no_pixels.save_as(folder / "no-pixels.dcm")
    return folder


def assert_refused(outcome, out):
    """Exit code 2, one line that is a sentence, no traceback, and no trace of the output."""
    lines = outcome.err.strip().splitlines()
    assert outcome.code == 2, outcome
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("medvlm: ")
    assert lines[0].endswith(".")
    assert "Traceback" not in outcome.err
    assert not out.exists()
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]


BAD = (
    "missing",
    "empty",
    "text.dcm",
    "nothing.dcm",
    "truncated.dcm",
    "zeros.nii.gz",
    "cut.nii.gz",
    "not-nifti.nii.gz",
    "picture.png",
    "no-pixels.dcm",
)


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", ["report", "study"])
def test_unreadable_input_is_refused(command, name, inputs, tmp_path, medvlm_command):
    out = tmp_path / "out"
    options = ["--out", out] if command == "report" else []
    outcome = medvlm_command(command, inputs / name, *options)
    assert_refused(outcome, out)
    assert name in outcome.err


def test_ask_refuses_a_missing_study(inputs, tmp_path, medvlm_command):
    outcome = medvlm_command("ask", inputs / "missing", "How large is the nodule?", "--model", tmp_path)
    assert_refused(outcome, tmp_path / "out")


def test_unknown_model(inputs, tmp_path, medvlm_command):
    out = tmp_path / "out"
    study = get_testdata_file("CT_small.dcm", download=False)
    outcome = medvlm_command("report", study, "--out", out, "--model", "no-such-model")
    assert_refused(outcome, out)
    assert "no-such-model" in outcome.err


def test_unknown_expert(tmp_path, medvlm_command):
    out = tmp_path / "out"
    study = get_testdata_file("CT_small.dcm", download=False)
    outcome = medvlm_command("report", study, "--out", out, "--experts", "[no_such_expert]")
    assert_refused(outcome, out)
    assert "no_such_expert" in outcome.err


def test_output_that_is_a_file(inputs, tmp_path, medvlm_command):
    (tmp_path / "taken").write_text("mine")
    study = get_testdata_file("CT_small.dcm", download=False)
    outcome = medvlm_command("report", study, "--out", tmp_path / "taken")
    assert outcome.code == 2
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_gpu_that_is_not_there(tmp_path, medvlm_command):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    out = tmp_path / "out"
    study = get_testdata_file("CT_small.dcm", download=False)
    outcome = medvlm_command("report", study, "--out", out, "--device", "cuda")
    assert_refused(outcome, out)
    assert "GPU" in outcome.err or "cuda" in outcome.err


def test_unknown_command_option_and_content(tmp_path, medvlm_command):
    for arguments in (["diagnose"], ["report", "--nope", "1"], ["report", "x", "--content", f"[{tmp_path}/none]"]):
        outcome = medvlm_command(*arguments)
        assert outcome.code == 2
        assert len(outcome.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--trainer.accelerator", "gpu", "gpu"),
        ("--model.name", "no-such-model", "no-such-model"),
        ("--data.train", "[nothing.jsonl]", "nothing.jsonl"),
        ("--no_such_option", "1", "no_such_option"),
    ],
)
def test_fit_refuses_in_one_sentence(option, value, said, tmp_path, monkeypatch, medvlm_command):
    import torch

    if said == "gpu" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    # Lightning compares our arguments with those of this process, which are pytest's.
    monkeypatch.setattr("sys.argv", ["medvlm"])
    turns = (Turn("user", "What is this?"), Turn("assistant", "A CT scan."))
    write_conversations(tmp_path / "train.jsonl", [Conversation("a", "p", "train", turns)])
    data = f"[{tmp_path / 'train.jsonl'}]"
    outcome = medvlm_command(
        *("fit", "--config", find_content("configs", "quickstart.yaml"), "--data.train", data),
        *("--data.validation", data, "--trainer.default_root_dir", tmp_path / "out", option, value),
    )
    assert outcome.code == 2
    lines = outcome.err.strip().splitlines()
    line = lines[-1]  # Lightning may have said before which seed it set
    assert [said for said in lines if said.startswith("medvlm: ")] == [line]
    assert "Traceback" not in outcome.err
    assert said in line
    assert not (tmp_path / "out").exists()
