"""The leak scan finds every planted tell and passes a clean export."""

import json
import shutil
from pathlib import Path

import pytest

from medvlm.errors import MedVLMError
from medvlm.reader_study.leak_orders import order_leaks
from medvlm.reader_study.leaks import KINDS, scan
from medvlm.reader_study.spec import load_study_spec
from medvlm.reader_study.study_secrets import study_secrets
from tests.reader_study import sample
from tests.reader_study.planted import plants


@pytest.fixture(scope="module")
def secrets(study):
    from medvlm.reader_study.seal import open_key

    key = open_key(study / "out/coordinator/key.sealed", sample.PASSPHRASE)
    truth_of = {code: (item["case"], item["source"]) for code, item in key["items"].items()}
    return study_secrets(load_study_spec(study / "study"), (), truth_of)


def test_a_clean_export_passes(study, secrets):
    assert scan(study / "out/packets", secrets) == []


def test_two_hundred_planted_tells_of_twenty_kinds_are_all_found(study, secrets, tmp_path):
    original = study / "out/packets/R01/session-1"
    missed, kinds, count = [], set(), 0
    for number, (kind, plant) in enumerate(plants(secrets.truth_of)):
        root = tmp_path / str(number)
        folder = root / "R01" / "session-1"
        shutil.copytree(original, folder, copy_function=shutil.copy2)
        plant(folder)
        found = {leak.kind for leak in scan(root, secrets)}
        if kind not in found:
            missed.append((number, kind, found))
        kinds.add(kind)
        count += 1
        shutil.rmtree(root)
    assert missed == []
    assert count >= 200
    assert len(kinds) >= 20
    assert kinds <= set(KINDS)


def test_codes_that_go_with_the_source_are_found(tmp_path):
    # Codes of one source start with A-F, of the other with G-M.
    truth = {f"{'ABCDEF'[k % 6]}{k:05d}": (f"c{k}", "x") for k in range(12)}
    truth |= {f"{'GHJKLM'[k % 6]}{k:05d}": (f"c{k}", "y") for k in range(12)}
    items = [{"code": code} for pair in zip(list(truth)[:12], list(truth)[12:]) for code in pair]
    (tmp_path / "packet.js").write_text(f"readingRoom.open({json.dumps({'items': items})});\n")
    assert ("code", ".", "codes go with the source") in order_leaks(tmp_path, truth)


def test_an_export_with_a_leak_fails_and_leaves_nothing(tmp_path, monkeypatch):
    """A writer that forgets itself: the scan, not the writer, is the last word."""
    from medvlm.reader_study import export, write_room

    honest = write_room.write_room

    def careless(folder: Path, packet, pictures) -> None:
        honest(folder, packet, pictures)
        (folder / "tinyvlm.txt").write_text("PAT0004")

    monkeypatch.setattr(write_room, "write_room", careless)
    with pytest.raises(MedVLMError, match="leak scan found") as error:
        sample.exported(tmp_path)
    assert "PAT0004" not in str(error.value)
    assert not (tmp_path / "out").exists()
    assert export is not None


def test_a_burned_in_image_is_refused(tmp_path):
    import numpy as np

    from medvlm.reader_study.pictures import refuse_burned_in
    from tests.reader_study.planted import dicom

    file = tmp_path / "a.dcm"
    file.write_bytes(dicom(BurnedInAnnotation="YES"))
    with pytest.raises(MedVLMError, match="burned into its pixels"):
        refuse_burned_in([file])
    file.write_bytes(dicom(BurnedInAnnotation="NO"))
    refuse_burned_in([file])
    assert np is not None
