"""Several image classifiers that vote: `runner: ensemble`.

`configs/inference.json` names the members: a file of weights, the classes that it knows, and its operating points. A
member's probability is stretched so that its operating point lies at one half (as TorchXRayVision does), and the
members that know a class are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medvlm.errors import MedVLMError
from medvlm.experts.bundle import INFERENCE, Bundle
from medvlm.experts.infer import Prediction
from medvlm.imaging.study import Volume

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Member:
    """One classifier of an ensemble.

    Attributes:
        file: its weights, as in `large_files.yml`.
        classes: what its outputs mean, in order; an empty name is an output that was never trained.
        points: operating point of each output, 0..1; ignored where the name is empty.
    """

    file: str
    classes: tuple[str, ...]
    points: tuple[float | None, ...]


class EnsembleRunner:
    """The members of a bundle, ready to run on single images."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle = bundle
        self.device = device
        self.precision = torch.float32
        self.members = read_members(bundle)
        files = bundle.weight_files()
        self.networks = []
        for member in self.members:
            network = bundle.build_network()
            load_member(network, files[member.file])
            self.networks.append(network.eval().to(device))

    @torch.inference_mode()
    def predict(self, volumes: Sequence[Volume], structures: Sequence[str] = ()) -> Prediction:
        """Class probabilities of one image; an ensemble draws no mask."""
        image = radiograph(volumes[0], int(self.bundle.inference["size"])).to(self.device)
        votes: dict[str, list[float]] = {}
        for member, network in zip(self.members, self.networks, strict=True):
            probabilities = network(image[None])[0].float().sigmoid().cpu().tolist()
            for name, point, value in zip(member.classes, member.points, probabilities, strict=True):
                if name and point is not None:
                    votes.setdefault(name, []).append(at_half(value, point))
        classes = {name: float(np.mean(values)) for name, values in votes.items()}
        mask = np.zeros(volumes[0].array.shape[:3], np.uint8)
        return Prediction(mask, torch.zeros(1, 1, 1), None, classes)


def read_members(bundle: Bundle) -> tuple[Member, ...]:
    """The members that the bundle's config names.

    Raises:
        MedVLMError: there are none, or one is not complete.
    """
    try:
        members = tuple(
            Member(str(row["file"]), tuple(row["classes"]), tuple(row["points"])) for row in bundle.inference["members"]
        )
        if not members or any(len(member.classes) != len(member.points) for member in members):
            raise ValueError("each member has as many operating points as classes")
    except (KeyError, TypeError, ValueError) as error:
        raise MedVLMError(f"{bundle.root / INFERENCE}: no proper 'members' ({error}).") from None
    return members


def at_half(probability: float, point: float) -> float:
    """Stretch a probability so that the operating point lies at one half; 0 and 1 stay."""
    if probability < point:
        return probability / (2 * point)
    return 1.0 - (1.0 - probability) / (2 * (1.0 - point))


def radiograph(volume: Volume, size: int) -> torch.Tensor:
    """`[1, rows, columns]` in -1024..1024 of the central square, as TorchXRayVision's networks want it.

    Bright is dense; the whole range of the pixels is used. Rows come first: those networks were trained on pictures.

    Raises:
        MedVLMError: several slices, colour, or a picture of one grey.
    """
    if volume.is_rgb or volume.array.shape[2] != 1:
        raise MedVLMError(f"expected one grey radiograph, got an array of {volume.array.shape}.")
    picture = np.asarray(volume.array[:, :, 0], np.float32).T
    low, high = float(picture.min()), float(picture.max())
    if high <= low:
        raise MedVLMError("the radiograph has one grey level only.")
    scaled = torch.from_numpy((2 * (picture - low) / (high - low) - 1) * 1024)
    side = min(scaled.shape)
    top, left = (scaled.shape[0] - side) // 2, (scaled.shape[1] - side) // 2
    square = scaled[top : top + side, left : left + side]
    return torch.nn.functional.interpolate(square[None, None], (size, size), mode="bilinear", antialias=True)[0]


def load_member(network: nn.Module, path: Path) -> None:
    """Load a DenseNet of TorchXRayVision (a pickled module or a state dict) into MONAI's network of the same shape.

    Nothing in the file is run: a pickled module is rebuilt from an allow-list of plain torch layers and an empty shell.

    Raises:
        MedVLMError: the file holds something else.
    """
    try:
        with _shells():
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle.UnpicklingError and its kin: the file wants to run code
        raise MedVLMError(
            f"{path}: holds more than a DenseNet, so it is not loaded ({type(error).__name__})."
        ) from None
    state = _state_of(found)
    try:
        network.load_state_dict({_monai_name(key): value for key, value in state.items() if key != "op_threshs"})
    except RuntimeError as error:
        first = str(error).strip().splitlines()[0]
        raise MedVLMError(f"{path}: not the weights of this network ({first}).") from None


def _monai_name(key: str) -> str:
    """torchvision's and TorchXRayVision's name of a weight → MONAI's."""
    for layer in ("norm1", "conv1", "norm2", "conv2"):
        if ".denselayer" in key:
            key = key.replace(f".{layer}.", f".layers.{layer}.")
    return key.replace("classifier.", "class_layers.out.")


def _state_of(found: Any) -> Mapping[str, torch.Tensor]:
    from torch import nn

    if isinstance(found, nn.Module):
        # Files from old releases of torch lack what newer modules expect of themselves.
        for module in found.modules():
            module.__dict__.setdefault("_non_persistent_buffers_set", set())
            module.__dict__.setdefault("_state_dict_pre_hooks", {})
        return found.state_dict()
    return found.get("state_dict", found) if isinstance(found, Mapping) else {}


def _shells() -> Any:
    """What may be named in a pickled DenseNet: torch's own layers, and empty modules in the place of its classes."""
    from collections import OrderedDict

    from torch import nn

    names = ("DenseNet", "_DenseBlock", "_DenseLayer", "_Transition")
    layers = [nn.Sequential, nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.Linear]
    shells = [(type(name, (nn.Sequential,), {}), f"torchxrayvision.models.{name}") for name in names]
    if not hasattr(torch.serialization, "safe_globals"):
        return nullcontext()
    return torch.serialization.safe_globals([*layers, OrderedDict, set, *shells])
