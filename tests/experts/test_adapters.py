"""The radiograph ensemble and the TotalSegmentator adapter, on files and output of the published layout."""

import shutil
import sys
import types
from collections import OrderedDict
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from torch import nn

from medvlm.content import builtin_root
from medvlm.errors import MedVLMError
from medvlm.experts.bundle import read_bundle
from medvlm.experts.ensemble import at_half, load_member, radiograph, read_members
from medvlm.experts.expert import Expert
from medvlm.experts.pull import pull_expert
from medvlm.imaging.study import Series, Study, Volume
from medvlm.storage import read_json, write_json, write_text

CPU = torch.device("cpu")


def densenet(seed: int) -> nn.Module:
    """MONAI's network with random weights and lively statistics, small enough to be quick."""
    from monai.networks.nets import DenseNet121

    torch.manual_seed(seed)
    network = DenseNet121(spatial_dims=2, in_channels=1, out_channels=18).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias, 0.0, 0.3)
    return network


def published(network: nn.Module) -> OrderedDict[str, torch.Tensor]:
    """The state under the names that TorchXRayVision and torchvision use."""
    names = ((key.replace(".layers.", "."), value) for key, value in network.state_dict().items())
    return OrderedDict((key.replace("class_layers.out.", "classifier."), value) for key, value in names)


@pytest.fixture
def cxr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundled expert with two of its members, their files on a server of random weights."""
    root = tmp_path / "mine" / "experts" / "cxr"
    shutil.copytree(builtin_root() / "experts" / "cxr", root)
    config = read_json(root / "configs" / "inference.json")
    config["members"] = [config["members"][0], config["members"][4]]
    write_json(root / "configs" / "inference.json", config)
    rows = ""
    for number, member in enumerate(config["members"]):
        file = tmp_path / f"published-{number}.pt"
        torch.save(published(densenet(number)), file)
        rows += f"  - path: {member['file']}\n    url: {file.as_uri()}\n"
    write_text(root / "large_files.yml", f"large_files:\n{rows}")
    monkeypatch.setenv("MEDVLM_CACHE", str(tmp_path / "cache"))
    return root


def picture(modality: str = "DX", part: str = "chest", slices: int = 1) -> Study:
    array = np.random.default_rng(0).integers(0, 4096, (300, 260, slices)).astype(np.uint16)
    volume = Volume(array, np.eye(4), calibrated=False)
    return Study("study", "p", (Series("s", modality, lambda: volume, body_part=part),), Path("nowhere"))


def test_the_ensemble_averages_the_members_that_know_a_finding(cxr: Path) -> None:
    pull_expert(cxr)
    bundle = read_bundle(cxr)
    result = Expert(bundle, CPU).run(picture())
    image = radiograph(picture().series[0].volume, 224)[None]
    with torch.inference_mode():
        raw = [densenet(number)(image)[0].sigmoid() for number in (0, 1)]
    first, second = read_members(bundle)
    place = first.classes.index("pneumonia")
    votes = [
        at_half(float(raw[0][place]), first.points[place] or 0),
        at_half(float(raw[1][place]), second.points[place] or 0),
    ]
    assert result.classes["pneumonia"] == pytest.approx(np.mean(votes), abs=1e-4)
    # The second member, trained on RSNA, knows pneumonia and opacity only.
    hernia = first.classes.index("hernia")
    assert result.classes["hernia"] == pytest.approx(
        at_half(float(raw[0][hernia]), first.points[hernia] or 0), abs=1e-4
    )
    assert len(result.findings) == 18
    assert result.mask is None
    assert all((f.presence == "present") == ((f.probability or 0) >= 0.5) for f in result.findings)


def test_an_operating_point_becomes_one_half_and_the_ends_stay() -> None:
    assert [at_half(value, 0.2) for value in (0.0, 0.1, 0.2, 0.6, 1.0)] == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_a_radiograph_is_the_central_square_in_the_range_of_the_networks() -> None:
    image = radiograph(picture().series[0].volume, 64)
    assert image.shape == (1, 64, 64)
    ramp = np.broadcast_to(np.arange(100, dtype=np.float32), (40, 100))  # [rows, columns], brighter to the right
    made = radiograph(Volume(ramp.T[:, :, None], np.eye(4)), 40)[0]
    # The square holds columns 30 to 69 of 0..99: -1024 + 2048 * 30 / 99 is its left edge.
    assert float(made[0, 0]) == pytest.approx(-1024 + 2048 * 30 / 99, abs=1)
    assert float(made[0, -1]) == pytest.approx(-1024 + 2048 * 69 / 99, abs=1)


def test_weights_without_a_published_hash_are_those_of_the_first_pull(cxr: Path) -> None:
    done = pull_expert(cxr)[0]
    assert read_json(done.path.with_name("pulled.json"))["sha256"] == done.sha256
    done.path.write_bytes(b"another file")
    with pytest.raises(MedVLMError, match="is pinned"):
        Expert(read_bundle(cxr), CPU)


def test_a_file_that_wants_to_run_code_is_not_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("run",))

    torch.save(Evil(), tmp_path / "evil.pt")
    with pytest.raises(MedVLMError, match="more than a DenseNet"):
        load_member(densenet(4), tmp_path / "evil.pt")
    torch.save({"features.conv0.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(MedVLMError, match="not the weights of this network"):
        load_member(densenet(4), tmp_path / "other.pt")


@pytest.mark.parametrize(
    ("study", "reason"),
    [
        (picture("MR"), "the modality is MR"),
        (picture("DX", "knee"), "the body part is knee"),
        (picture("DX", "chest", 3), "3 slices instead of one image"),
    ],
)
def test_the_ensemble_refuses_what_is_no_chest_radiograph(cxr: Path, study: Study, reason: str) -> None:
    pull_expert(cxr)
    with pytest.raises(MedVLMError, match=reason):
        Expert(read_bundle(cxr), CPU).run(study)


# --- TotalSegmentator


def scan(offset: int = 0) -> Study:
    volume = Volume(np.zeros((30, 30, 30), np.int16), np.diag([2.0, 2.0, 2.0, 1.0]), unit="HU")
    return Study("study", "p", (Series("s", "CT", lambda: volume, body_part="abdomen"),), Path("nowhere"))


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """A stand-in with recorded output: spleen (1) inside, right kidney (2) cut by the edge, number 200 unknown."""
    calls: list[dict[str, object]] = []

    def totalsegmentator(image: nibabel.Nifti1Image, **settings: object) -> nibabel.Nifti1Image:
        calls.append(settings)
        labels = np.zeros(image.shape, np.uint8)
        labels[5:15, 5:15, 5:15] = 1
        labels[20:25, 5:10, 0:5] = 2
        labels[26:28, 26:28, 26:28] = 200
        return nibabel.Nifti1Image(labels, image.affine)

    package, api = types.ModuleType("totalsegmentator"), types.ModuleType("totalsegmentator.python_api")
    package.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    api.totalsegmentator = totalsegmentator  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "totalsegmentator", package)
    monkeypatch.setitem(sys.modules, "totalsegmentator.python_api", api)
    return calls


def test_the_tools_labels_become_volumes(tool: list[dict[str, object]]) -> None:
    result = Expert(read_bundle(builtin_root() / "experts" / "totalsegmentator"), CPU).run(scan(), "organs")
    spleen, kidney = result.findings
    # 10 x 10 x 10 voxels of 8 mm³.
    assert (spleen.concept.meaning, spleen.measure("Volume")) == ("Spleen", 8.0)
    assert kidney.concept.meaning == "Kidney right"
    assert kidney.measurements == ()
    assert result.mask is not None
    assert set(np.unique(result.mask)) == {0, 1, 2}
    (call,) = tool
    assert call["task"] == "total"
    assert "kidney_right" in call["roi_subset"]  # type: ignore[operator]
    assert "femur_left" not in call["roi_subset"]  # type: ignore[operator]


def test_without_the_tool_the_extra_is_named() -> None:
    if "totalsegmentator" in sys.modules:
        pytest.skip("the tool is installed")
    bundle = read_bundle(builtin_root() / "experts" / "totalsegmentator")
    if not bundle.missing:
        pytest.skip("the tool is installed")
    assert bundle.missing == 'pip install "medvlm-specialist[totalsegmentator]"'
    with pytest.raises(MedVLMError, match=r"medvlm-specialist\[totalsegmentator\]"):
        Expert(bundle, CPU)


def test_the_tool_refuses_what_is_no_ct(tool: list[dict[str, object]]) -> None:
    study = scan()
    volume = Volume(study.series[0].volume.array, np.eye(4) * 2, unit="1")
    other = Study("study", "p", (Series("s", "MR", lambda: volume),), Path("nowhere"))
    with pytest.raises(MedVLMError, match="the modality is MR"):
        Expert(read_bundle(builtin_root() / "experts" / "totalsegmentator"), CPU).run(other)
    assert not tool
