"""Windows give what MONAI's inferer gives; what is left out changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet

from medvlm.errors import MedVLMError
from medvlm.experts.bundle import read_bundle
from medvlm.experts.infer import Predictor
from medvlm.experts.sliding_window import SlidingWindow, WindowSettings
from tests.experts.tiny import scene, volume_of, write_bundle

CPU = torch.device("cpu")


class Counting(torch.nn.Module):
    """A network that counts the windows it is asked about."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network, self.windows = network, 0

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.windows += len(batch)
        return self.network(batch)


def small_unet(dims: int = 3, norm: str = "BATCH") -> torch.nn.Module:
    torch.manual_seed(0)
    return UNet(
        spatial_dims=dims, in_channels=1, out_channels=3, channels=(4, 8), strides=(2,), num_res_units=1, norm=norm
    ).eval()


def windows(network: torch.nn.Module, **settings: object) -> SlidingWindow:
    return SlidingWindow(network, CPU, torch.float32, WindowSettings(**settings))


@torch.inference_mode()
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("shape", [(40, 36, 20), (16, 16, 16), (50, 16, 22)])
def test_windows_are_those_of_monai(shape: tuple[int, ...], overlap: float) -> None:
    network, image = small_unet(), torch.rand(1, *shape)
    theirs = SlidingWindowInferer(roi_size=(16, 16, 16), overlap=overlap)(image[None], network)[0]
    ours = windows(network, size=(16, 16, 16), overlap=overlap)(image)
    assert torch.allclose(ours, theirs, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("norm", ["BATCH", "INSTANCE"])
def test_empty_windows_are_not_run_and_change_nothing(norm: str) -> None:
    image = torch.zeros(1, 64, 32, 32)
    image[:, 40:60, 5:20, 5:20] = torch.rand(20, 15, 15)
    network = Counting(small_unet(norm=norm))
    theirs = SlidingWindowInferer(roi_size=(16, 16, 16))(image[None], network)[0]
    every, network.windows = network.windows, 0
    ours = windows(network, size=(16, 16, 16))(image)
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert network.windows < every / 2


@torch.inference_mode()
def test_noise_below_the_level_is_empty_and_a_single_bright_voxel_is_not() -> None:
    image = 0.02 * torch.rand(1, 32, 16, 16)
    network = Counting(small_unet())
    run = windows(network, size=(16, 16, 16), overlap=0.0, empty=0.05)
    run(image)
    assert network.windows == 1  # asked once what it says of nothing
    image[0, 3, 3, 3] = 0.9
    run(image)
    assert network.windows == 3


@torch.inference_mode()
def test_a_constant_answer_stays_constant_however_windows_are_blended() -> None:
    """The shares of all windows sum to 1 at every voxel."""
    run = windows(torch.nn.Conv3d(1, 1, 1), size=(12, 8, 8), overlap=0.4, blend="gaussian")
    with torch.no_grad():
        run.network.weight.zero_(), run.network.bias.fill_(3.0)
    assert torch.allclose(run(torch.rand(1, 31, 20, 9)), torch.full((1, 31, 20, 9), 3.0), atol=1e-5)


@torch.inference_mode()
def test_batches_of_windows_give_what_single_ones_give() -> None:
    network, image = small_unet(), torch.rand(1, 40, 24, 16)
    one, many = (windows(network, size=(16, 16, 16), batch=size)(image) for size in (1, 5))
    assert torch.allclose(one, many, atol=1e-5)


@torch.inference_mode()
def test_flips_make_the_answer_the_same_for_a_mirrored_image() -> None:
    network, image = small_unet(), torch.rand(1, 24, 16, 16)
    run = windows(network, flips=("x",))
    assert torch.allclose(run(image.flip(1)), run(image).flip(1), atol=1e-5)
    plain = windows(network)
    assert not torch.allclose(plain(image.flip(1)), plain(image).flip(1), atol=1e-3)


@torch.inference_mode()
def test_plain_images_are_windowed_too() -> None:
    network, image = small_unet(dims=2), torch.rand(1, 40, 56)
    theirs = SlidingWindowInferer(roi_size=(16, 24))(image[None], network)[0]
    assert torch.allclose(windows(network, size=(16, 24))(image), theirs, atol=1e-4)


def test_settings_come_from_monais_own_block() -> None:
    inferer = {"_target_": "SlidingWindowInferer", "roi_size": [96, 96, 48], "overlap": 0.5, "mode": "gaussian"}
    settings = WindowSettings.from_config({"inferer": inferer, "speed": {"empty": 0.05, "flips": ["y"]}})
    assert settings == WindowSettings((96, 96, 48), 0.5, "gaussian", empty=0.05, flips=("y",))
    assert WindowSettings.from_config({"inferer": {"_target_": "SimpleInferer"}}) == WindowSettings()


@pytest.mark.parametrize("speed", [{"flips": ["q"]}, {"overlap": 1.0}, {"empty": -1}, {"unknown": 1}])
def test_impossible_settings_are_refused(speed: dict[str, object]) -> None:
    with pytest.raises(MedVLMError, match=r"inference\.json"):
        WindowSettings.from_config({"speed": speed})


def test_an_expert_runs_on_the_windows_of_its_bundle(tmp_path: Path) -> None:
    inferer = {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "overlap": 0.25}
    bundle = read_bundle(write_bundle(tmp_path / "tiny", inferer=inferer))
    predictor = Predictor(bundle, CPU)
    network = predictor.window.network = Counting(predictor.window.network)
    values, _ = scene()
    prediction = predictor.predict(volume_of(values))
    # 32 voxels along each axis, windows of 16 in steps of 12: starts 0, 12 and 16.
    assert network.windows == 27
    assert prediction.mask.shape == values.shape
