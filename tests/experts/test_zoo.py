"""Bundles in the layout of the MONAI model zoo: pulled, trusted, run, and turned into findings."""

from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch

from medvlm.errors import MedVLMError
from medvlm.experts.bundle import read_bundle
from medvlm.experts.chain import ChainRunner
from medvlm.experts.expert import Expert
from medvlm.experts.pull import pull_expert
from medvlm.experts.registry import load_expert
from medvlm.imaging.study import Volume
from medvlm.storage import read_json, write_json
from tests.experts.zoo import ct, mr, publish, shrink

CPU = torch.device("cpu")


@pytest.fixture
def vista(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = shrink("vista3d", tmp_path / "mine", monkeypatch)
    publish(root, tmp_path / "server")
    return root


@pytest.fixture
def brats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = shrink("brats_mri", tmp_path / "mine", monkeypatch)
    publish(root, tmp_path / "server")
    return root


def test_a_pull_puts_the_weights_where_the_expert_finds_them_once(vista: Path) -> None:
    assert read_bundle(vista).missing == "medvlm experts pull vista3d"
    (first,) = pull_expert(vista)
    assert first.fetched == first.path.stat().st_size
    assert read_json(first.path.with_name("pulled.json"))["sha256"] == first.sha256
    (again,) = pull_expert(vista)
    assert (again.path, again.fetched) == (first.path, 0)
    assert read_bundle(vista).missing == ""
    assert read_bundle(vista).weights_hash() == first.sha256


def test_an_interrupted_pull_goes_on_where_it_stopped(vista: Path, tmp_path: Path) -> None:
    (entry,) = read_bundle(vista).large_files
    data = (tmp_path / "server" / "model_vista3d.pt").read_bytes()
    part = entry.cached().with_name("model.pt.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(data[:1000])
    (done,) = pull_expert(vista)
    assert done.fetched == len(data) - 1000
    assert done.path.read_bytes() == data
    assert not part.exists()


def test_a_file_that_is_not_the_pinned_one_never_gets_its_name(vista: Path, tmp_path: Path) -> None:
    file = tmp_path / "server" / "model_vista3d.pt"
    file.write_bytes(b"something else")
    with pytest.raises(MedVLMError, match="is pinned"):
        pull_expert(vista)
    (entry,) = read_bundle(vista).large_files
    assert not any(path.is_file() for path in entry.cached().parent.iterdir())


def test_without_internet_a_pull_says_what_to_do_and_takes_a_folder(vista: Path, tmp_path: Path) -> None:
    entry = (vista / "large_files.yml").read_text()
    server = (tmp_path / "server").as_uri()
    # Nothing listens on port 9 of this machine.
    (vista / "large_files.yml").write_text(entry.replace(server, "http://127.0.0.1:9"))
    with pytest.raises(MedVLMError, match=r"cannot be reached .* --source FOLDER"):
        pull_expert(vista)
    (done,) = pull_expert(vista, source=str(tmp_path / "server"))
    assert done.fetched


def test_a_pull_over_http(vista: Path, tmp_path: Path) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "server"))
    handler.log_message = lambda *args: None  # type: ignore[attr-defined]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        (done,) = pull_expert(vista, source=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert done.path.read_bytes() == (tmp_path / "server" / "model_vista3d.pt").read_bytes()


def test_vista3d_looks_for_what_it_is_asked_for_and_says_nothing_else(vista: Path) -> None:
    pull_expert(vista)
    expert = load_expert(vista, "cpu")
    assert expert.prompted
    result = expert.run(ct(), "hepatic tumor")
    assert result.mask is not None
    assert result.mask.shape == (36, 36, 36)
    # Liver and hepatic tumour are classes 1 and 26 of the network; it was asked for nothing else.
    assert set(np.unique(result.mask)) <= {0, 1, 26}
    assert {finding.id.rpartition("-")[0] for finding in result.findings} == {"hepatic_tumor"}
    volumes = expert.run(ct(), "gastrointestinal").findings
    assert {finding.id.partition("-")[0] for finding in volumes} <= {"gut"}
    with pytest.raises(MedVLMError, match="no argument 'brain tumour'"):
        expert.run(ct(), "brain tumour")


def test_a_chain_comes_back_onto_the_series_own_voxels(vista: Path) -> None:
    pull_expert(vista)
    runner = ChainRunner(read_bundle(vista), CPU)
    volume = ct().series[0].volume
    # The same anatomy stored in another order gives the same labels in that order.
    turned = Volume(volume.array[:, ::-1], volume.affine @ _flip(1, 36), unit="HU")
    straight = runner.predict([volume], ("liver", "spleen")).mask
    mask = runner.predict([turned], ("liver", "spleen")).mask
    assert (mask[:, ::-1] == straight).mean() > max(0.9, (mask == straight).mean() + 0.2)


def _flip(axis: int, size: int) -> np.ndarray:
    matrix = np.eye(4)
    matrix[axis, axis], matrix[axis, 3] = -1, size - 1
    return matrix


def test_brats_reads_four_series_together_and_measures_the_unions(brats: Path) -> None:
    pull_expert(brats)
    expert = Expert(read_bundle(brats), CPU)
    result = expert.run(mr())
    assert result.mask is not None
    assert set(np.unique(result.mask)) <= {0, 1, 2, 4}
    kinds = {finding.id.rpartition("-")[0] for finding in result.findings}
    assert kinds == {"whole_tumor", "tumor_core", "enhancing"}
    whole = next(finding for finding in result.findings if finding.id.startswith("whole_tumor"))
    core = next(finding for finding in result.findings if finding.id.startswith("tumor_core"))
    if whole.presence == core.presence == "present" and whole.measure("Volume") and core.measure("Volume"):
        assert (core.measure("Volume") or 0) <= (whole.measure("Volume") or 0)


def test_brats_says_which_series_it_lacks_or_which_lies_elsewhere(brats: Path) -> None:
    pull_expert(brats)
    expert = Expert(read_bundle(brats), CPU)
    with pytest.raises(MedVLMError, match="finds no FLAIR series"):
        expert.run(mr(names=("t1c", "t1", "t2")))
    study = mr()
    moved = Volume(study.series[3].volume.array, np.diag([1.5, 1.5, 1.5, 1.0]) + np.eye(4, k=3) * 5)
    elsewhere = replace(study, series=(*study.series[:3], replace(study.series[3], load=lambda: moved)))
    with pytest.raises(MedVLMError, match="FLAIR series lies on another grid"):
        expert.run(elsewhere)


@pytest.mark.parametrize("name", ["vista3d", "brats_mri"])
def test_a_zoo_expert_refuses_what_it_is_not_for(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = shrink(name, tmp_path / "mine", monkeypatch)
    publish(root, tmp_path / "server")
    pull_expert(root)
    other = mr(names=("t2",)) if name == "vista3d" else ct()
    with pytest.raises(MedVLMError, match=r"applies to no series|finds no"):
        Expert(read_bundle(root), CPU).run(other)


def test_a_zoo_bundle_outside_the_content_folders_is_not_run(
    vista: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull_expert(vista)
    monkeypatch.delenv("MEDVLM_PATH")
    with pytest.raises(MedVLMError, match="can run Python"):
        ChainRunner(read_bundle(vista), CPU)


def test_a_config_that_does_not_build_is_one_sentence(vista: Path) -> None:
    pull_expert(vista)
    config = read_json(vista / "configs" / "inference.json")
    config["network_def"] = "$1 / 0"
    write_json(vista / "configs" / "inference.json", config)
    with pytest.raises(MedVLMError, match=r"inference\.json: MONAI cannot build it"):
        ChainRunner(read_bundle(vista), CPU)
