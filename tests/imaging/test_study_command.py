"""`medvlm study` says what is there, what was left out and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medvlm.commands.study import study
from medvlm.errors import MedVLMError
from medvlm.imaging import load_study
from tests.imaging.make_dicom import dataset, set_pixels, write_enhanced, write_series, write_slice


def test_it_prints_series_geometry_and_what_was_left_out(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    write_series(tmp_path, spacing=(0.7, 1.4), BodyPartExamined="CHEST")
    kind = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    write_slice(tmp_path / "scout.dcm", "s", 0, (0, 0, 0), shape=(40, 40), ImageType=kind)
    (tmp_path / "notes.txt").write_text("hello")
    study(tmp_path, experts=False)
    printed = capsys.readouterr().out
    for words in ("CT", "chest", "20 x 24 x 10", "1.40 x 0.70 x 3.00", "LPS", "a localizer", "not a DICOM file"):
        assert words in printed, words


def test_markup_in_a_header_is_printed_as_it_is(tmp_path: Path, capsys):
    write_series(tmp_path, SeriesDescription="[red]T1[/red]")
    study(tmp_path, experts=False)
    assert "[red]" in capsys.readouterr().out


def test_bad_input_is_one_sentence(tmp_path: Path):
    with pytest.raises(MedVLMError, match="the folder is empty"):
        study(tmp_path)


@pytest.mark.parametrize("kind", ["series", "enhanced"])
def test_the_grid_is_known_before_the_voxels_and_agrees_with_them(tmp_path: Path, kind):
    if kind == "series":
        write_series(tmp_path)
    else:
        write_enhanced(tmp_path / "e.dcm", [(0.0, 0.0, 3.0 * index) for index in range(4)])
    (series,) = load_study(tmp_path).series
    assert series.grid is not None
    assert series.grid.shape == series.volume.array.shape
    assert (series.grid.affine == series.volume.affine).all()
    assert (series.grid.calibrated, series.grid.oriented) == (series.volume.calibrated, series.volume.oriented)


def test_of_a_whole_slide_only_the_thumbnail_is_read(tmp_path: Path):
    for name, kind, frames in (("tiles", "VOLUME", 4), ("thumb", "THUMBNAIL", 1), ("label", "LABEL", 1)):
        made = dataset("slide", sum(map(ord, name)), "1.2.840.10008.5.1.4.1.1.77.1.6", Modality="SM")
        made.ImageType = ["ORIGINAL", "PRIMARY", kind, "NONE"]
        made.NumberOfFrames = frames
        set_pixels(made, np.zeros((frames, 8, 8)) + 5)
        made.save_as(tmp_path / f"{name}.dcm", enforce_file_format=True)
    found = load_study(tmp_path)
    assert [series.files[0].name for series in found.series] == ["thumb.dcm"]
    assert {item.what: item.reason.split(",")[0] for item in found.skipped} == {
        "tiles.dcm": "a tiled level of a whole slide; only the thumbnail is read",
        "label.dcm": "a photograph of the slide's label",
    }
