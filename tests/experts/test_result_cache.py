"""A result is computed once for the same voxels and weights, and holds no identifier."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medvlm.errors import MedVLMError
from medvlm.experts.bundle import read_bundle
from medvlm.experts.expert import Expert
from medvlm.experts.infer import Prediction
from medvlm.experts.result_cache import ResultCache, result_key
from medvlm.imaging.study import Study, Volume
from tests.experts.tiny import scene, study_of, volume_of, write_bundle


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDVLM_CACHE", "on")
    monkeypatch.setenv("MEDVLM_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "results"


class CountingExpert(Expert):
    """An expert that counts how often its network runs."""

    runs = 0

    def _predict(self, *arguments: object) -> Prediction:
        self.runs += 1
        return super()._predict(*arguments)


def expert(tmp_path: Path, **spec: object) -> CountingExpert:
    return CountingExpert(read_bundle(write_bundle(tmp_path / "tiny", spec=spec)), torch.device("cpu"))


def another_patient(study: Study) -> Study:
    series = replace(study.series[0], uid="1.2.3.SECRET-SERIES")
    return replace(study, uid="1.2.3.SECRET-STUDY", patient="p-SECRET", series=(series,))


def test_the_same_voxels_are_read_once_whoever_they_belong_to(tmp_path: Path, folder: Path) -> None:
    one, study = expert(tmp_path), study_of(volume_of(scene()[0]))
    first, second = one.run(study), one.run(another_patient(study))
    assert one.runs == 1
    assert second.series == "1.2.3.SECRET-SERIES"
    assert {finding.study for finding in second.findings} == {"1.2.3.SECRET-STUDY"}
    assert {item.series for finding in second.findings for item in finding.evidence} == {"1.2.3.SECRET-SERIES"}
    assert np.array_equal(first.mask, second.mask)
    assert [f.measurements for f in first.findings] == [f.measurements for f in second.findings]


def test_no_identifier_is_kept(tmp_path: Path, folder: Path) -> None:
    expert(tmp_path).run(another_patient(study_of(volume_of(scene()[0]))))
    (kept,) = folder.iterdir()
    assert len(kept.stem) == 64
    with zipfile.ZipFile(kept) as archive:
        assert not any(b"SECRET" in archive.read(name) for name in archive.namelist())
    assert folder.stat().st_mode & 0o077 == 0


def key_of(one: Expert, volume: Volume, argument: str = "") -> str:
    return result_key(one.bundle, one.weights, [volume], argument, one.device, torch.float32)


def test_everything_that_a_result_depends_on_changes_the_key(tmp_path: Path) -> None:
    one, volume = expert(tmp_path), volume_of(scene()[0])
    changed = volume.array.copy()
    changed[3, 4, 5] += 1
    moved = volume.affine.copy()
    moved[0, 3] += 1.0
    others = [
        key_of(one, replace(volume, array=changed)),
        key_of(one, replace(volume, affine=moved)),
        key_of(one, replace(volume, calibrated=False)),
        key_of(one, volume, "balls"),
        result_key(one.bundle, "other weights", [volume], "", one.device, torch.float32),
        result_key(one.bundle, one.weights, [volume], "", one.device, torch.bfloat16),
        result_key(replace(one.bundle, calibration={"a": 1}), one.weights, [volume], "", one.device, torch.float32),
    ]
    assert len({key_of(one, volume), *others}) == len(others) + 1


def test_the_order_in_memory_does_not_change_the_key(tmp_path: Path) -> None:
    one, volume = expert(tmp_path), volume_of(scene()[0])
    assert key_of(one, volume) == key_of(one, replace(volume, array=np.asfortranarray(volume.array)))


def test_the_oldest_results_go_when_it_grows_too_large(tmp_path: Path, folder: Path) -> None:
    one = expert(tmp_path)
    one.run(study_of(volume_of(scene(seed=0)[0])))
    size = next(folder.iterdir()).stat().st_size
    cache = ResultCache(folder, int(2.5 * size))
    for seed in (1, 2, 3):
        volume = volume_of(scene(seed=seed)[0])
        cache.put(f"{seed:064d}", one.run(study_of(volume)))
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 2.5 * size
    assert (folder / f"{3:064d}.npz").is_file()


def test_a_broken_entry_is_computed_anew(tmp_path: Path, folder: Path) -> None:
    one, study = expert(tmp_path), study_of(volume_of(scene()[0]))
    one.run(study)
    next(folder.iterdir()).write_bytes(b"PK\x03\x04 not really")
    assert one.run(study).mask is not None
    assert one.runs == 2


def test_it_can_be_switched_off(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDVLM_CACHE", "off")
    one, study = expert(tmp_path), study_of(volume_of(scene()[0]))
    one.run(study), one.run(study)
    assert one.runs == 2
    assert not folder.exists()


def test_a_size_that_is_no_number_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDVLM_CACHE_GB", "much")
    with pytest.raises(MedVLMError, match="MEDVLM_CACHE_GB"):
        ResultCache.of_user()
