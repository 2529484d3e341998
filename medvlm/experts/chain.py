"""Bundles in the layout of the MONAI model zoo: their own transforms, inferer and post-processing, on a Volume.

The bundle's `configs/inference.json` is read by MONAI's parser (`@` references, `$` expressions) after the trust check.
Loading and saving of files is switched off: a chain starts from the canonical in-memory volume, as every expert does,
and ends with a label map on the volume's own grid.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medvlm.errors import MedVLMError
from medvlm.experts.bundle import INFERENCE, Bundle
from medvlm.experts.infer import Prediction, choose_precision
from medvlm.experts.trust import require_trust
from medvlm.imaging.study import Volume

if TYPE_CHECKING:
    from torch import nn

IMAGE, PROMPT, PRED = "image", "label_prompt", "pred"
FILES = ("LoadImage", "LoadImaged", "SaveImage", "SaveImaged")


@dataclass(frozen=True, eq=False)
class ChainPrediction(Prediction):
    """A Prediction whose probabilities are rows of the network's output.

    Attributes:
        rows: label → row of `probabilities`; a label without a row has no probability of its own.
        named: name of a structure or union → row, where the network has a channel for just that.
    """

    rows: Mapping[int, int]
    named: Mapping[str, int]

    def channel(self, label: int) -> np.ndarray:
        if label not in self.rows:
            return np.zeros(self.probabilities.shape[1:], np.float32)
        return self.probabilities[self.rows[label]].float().numpy()


class ChainRunner:
    """A zoo bundle, ready to run on Volumes."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        require_trust(bundle.root)
        self.bundle = bundle
        self.device = device
        with _importable(bundle.root):
            parser = _parser(bundle, device)
            try:
                network: nn.Module = parser.get_parsed_content("network_def", instantiate=True)
                self.network = _with_weights(network, bundle).eval().to(device)
                self.before = parser.get_parsed_content("preprocessing", instantiate=True)
                self.inferer = parser.get_parsed_content("inferer", instantiate=True)
                self.after = parser.get_parsed_content("postprocessing", instantiate=True)
            except MedVLMError:
                raise
            except Exception as error:  # a config can fail in any way; the sentence says where
                first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                raise MedVLMError(f"{bundle.root / INFERENCE}: MONAI cannot build it ({first}).") from error
        self.arguments = dict(bundle.inference.get("inferer_args", {}))
        self.precision = choose_precision(device) if bundle.inference.get("amp") else torch.float32

    @torch.inference_mode()
    def predict(self, volumes: Sequence[Volume], structures: Sequence[str] = ()) -> Prediction:
        """Run the whole chain.

        Args:
            volumes: one a channel of the input, all on one grid.
            structures: what to ask a prompted network for; ignored by others.
        """
        from monai.transforms import reset_ops_id

        numbers = [number for number, name in self.bundle.labels.items() if number and name in structures]
        data = self.before(_sample(volumes, numbers))
        inputs = data[IMAGE][None].to(self.device)
        named: dict[str, Any] = dict(self.arguments)
        asked: list[int] = []
        if self.bundle.spec.prompt:
            # A chain may replace a prompt by its parts (lung by its lobes).
            asked = [int(number) for number in data[PROMPT]]
            named[self.bundle.spec.prompt] = torch.tensor(asked, device=self.device)[:, None]
            data[PROMPT] = torch.tensor(asked)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            output = self.inferer(inputs=inputs, network=self.network, **named)
        raw = output[0].float().cpu()
        made = {**data, PRED: _like(raw.clone(), data[IMAGE])}
        # A config may invert a copy of its transforms; without ids MONAI accepts the copy.
        reset_ops_id(made)
        result = self.after(made)[PRED]
        mask = np.rint(np.asarray(result)[0]).astype(np.uint8)
        rows, channels = self._rows(asked)
        probabilities = _activate(raw, self.bundle.spec.activation)
        affine = np.asarray(data[IMAGE].affine, dtype=np.float64)
        return ChainPrediction(mask, probabilities, affine, {}, rows, channels)

    def _rows(self, asked: Sequence[int]) -> tuple[dict[int, int], dict[str, int]]:
        """Which row of the output belongs to which label and which name."""
        if asked:
            return {number: row for row, number in enumerate(asked)}, {}
        given = self.bundle.spec.channels
        if not given:
            return {number: number for number in self.bundle.labels}, {}
        return {number: given[name] for number, name in self.bundle.labels.items() if name in given}, dict(given)


def _parser(bundle: Bundle, device: torch.device) -> Any:
    from monai.bundle import ConfigParser

    parser = ConfigParser(dict(bundle.inference))
    parser.read_meta(str(bundle.root / "configs" / "metadata.json"))
    parser["bundle_root"] = str(bundle.root)
    parser["device"] = f"$torch.device('{device}')"
    # Where weights that a config names itself really lie (`$@weight_files['models/first.ts']`).
    parser["weight_files"] = {name: str(path) for name, path in bundle.weight_files().items()}
    parser["preprocessing"] = _without_files(parser["preprocessing"])
    parser["postprocessing"] = _without_files(parser["postprocessing"])
    if "preprocessing_transforms" in parser:
        parser["preprocessing_transforms"] = _without_files(parser["preprocessing_transforms"])
    return parser


def _without_files(config: Any) -> Any:
    """The same config without the transforms that read or write files."""
    if isinstance(config, list):
        kept = [item for item in config if not (isinstance(item, dict) and _target(item) in FILES)]
        return [_without_files(item) for item in kept]
    if isinstance(config, dict):
        return {key: _without_files(value) for key, value in config.items()}
    return config


def _target(config: Mapping[str, Any]) -> str:
    return str(config.get("_target_", "")).rpartition(".")[2]


def _with_weights(network: nn.Module, bundle: Bundle) -> nn.Module:
    """The network with the bundle's state dict; a TorchScript network holds its own."""
    if isinstance(network, torch.jit.ScriptModule):
        return network
    state = bundle.load_state()
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[0]
        raise MedVLMError(f"{bundle.weights}: not the weights of this bundle's network ({first}).") from None
    return network


def _sample(volumes: Sequence[Volume], numbers: Sequence[int]) -> dict[str, Any]:
    """What MONAI's image loader would have given for the files of these volumes."""
    from monai.data import MetaTensor

    arrays = [np.asarray(volume.array, dtype=np.float32) for volume in volumes]
    several = len(arrays) > 1
    image = MetaTensor(
        torch.from_numpy(np.stack(arrays) if several else np.ascontiguousarray(arrays[0])),
        affine=torch.from_numpy(np.asarray(volumes[0].affine, dtype=np.float64)),
        meta={"original_channel_dim": 0 if several else "no_channel"},
    )
    return {IMAGE: image, PROMPT: list(numbers)}


def _like(raw: torch.Tensor, image: Any) -> Any:
    """The network's output as an image with the geometry and history of its input."""
    from monai.data import MetaTensor

    return MetaTensor(raw, meta=image.meta, applied_operations=image.applied_operations)


def _activate(raw: torch.Tensor, activation: str) -> torch.Tensor:
    if activation == "softmax":
        return raw.softmax(dim=0).to(torch.bfloat16)
    if activation == "sigmoid":
        return raw.sigmoid().to(torch.bfloat16)
    return raw.to(torch.bfloat16)


@contextmanager
def _importable(root: Path) -> Iterator[None]:
    """The bundle's own `scripts` can be imported while its config is read, and do not stay for the next bundle."""
    before = set(sys.modules)
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        sys.path.remove(str(root))
        for name in set(sys.modules) - before:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(f"{root}/"):
                del sys.modules[name]
