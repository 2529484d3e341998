"""Reading a MONAI bundle folder safely.

A bundle config can name any Python callable and can hold `$` expressions, so MONAI's own parser runs whatever the
file says. Here the network is built from data alone: a class of `monai.networks.nets` with literal arguments, weights
from safetensors. A config that needs more is refused unless its folder is one of the content folders that the user
set up (`--content`, `MEDVLM_PATH`, an installed package, or the ones that ship with medvlm).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvlm.content import content_roots
from medvlm.errors import MedVLMError
from medvlm.experts.card import ExpertCard
from medvlm.experts.input import InputSpec
from medvlm.experts.spec import FindingsSpec, read_spec
from medvlm.storage import read_json

if TYPE_CHECKING:
    from torch import nn

METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"
WEIGHTS = "models/model.safetensors"
NETWORKS = "monai.networks.nets."


@dataclass(frozen=True)
class Bundle:
    """One expert's folder, read and checked; no weights in memory.

    Attributes:
        root: the folder.
        spec: `findings.yaml`.
        metadata: `configs/metadata.json`.
        inference: `configs/inference.json`, unparsed.
        input: the working grid.
        labels: number → structure name of the network's segmentation channels (0 is background).
        classes: names of the class channels that follow them; empty without a class head.
        metrics: `metrics.json`, or empty.
        calibration: `calibration.json`, or empty.
    """

    root: Path
    spec: FindingsSpec
    metadata: Mapping[str, Any]
    inference: Mapping[str, Any]
    input: InputSpec
    labels: Mapping[int, str]
    classes: tuple[str, ...]
    metrics: Mapping[str, float]
    calibration: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def version(self) -> str:
        return str(self.metadata["version"])

    @property
    def weights(self) -> Path:
        return self.root / WEIGHTS

    @property
    def card(self) -> ExpertCard:
        """What the VLM and the user read about this expert."""
        spec = self.spec
        return ExpertCard(
            name=spec.name,
            version=self.version,
            modality=spec.modality,
            body_part=spec.body_part,
            task=spec.task,
            summary=spec.summary,
            arguments=spec.arguments,
            accuracy={name: self.metrics[name] for name in spec.accuracy if name in self.metrics},
            limits=spec.limits,
            licence=spec.licence,
        )

    def weights_hash(self) -> str:
        """SHA-256 of the weights file; part of every Finding's provenance.

        Raises:
            MedVLMError: the weights are not there (says how to get them).
        """
        self.require_weights()
        return hashlib.sha256(self.weights.read_bytes()).hexdigest()

    def require_weights(self) -> None:
        """Raise a MedVLMError that says how to get the weights, unless they are there."""
        if not self.weights.is_file():
            raise MedVLMError(
                f"the expert '{self.name}' has no weights at {self.weights}: train it with "
                f"'medvlm experts train --config {self.root / 'configs' / 'train.yaml'}'."
            )

    def build_network(self) -> nn.Module:
        """The network with fresh weights, from `network_def`; executes nothing but a MONAI network's constructor.

        Raises:
            MedVLMError: `network_def` is not a MONAI network with literal arguments.
        """
        import monai.networks.nets as nets

        where = f"{self.root / INFERENCE}: network_def"
        definition = dict(resolve_literals(self.inference.get("network_def"), self.inference, where))
        target = str(definition.pop("_target_", ""))
        name = target.removeprefix(NETWORKS)
        network = getattr(nets, name, None) if re.fullmatch(r"\w+", name) else None
        if not (isinstance(network, type) and (target.startswith(NETWORKS) or target == name)):
            raise MedVLMError(f"{where}: '{target}' is not one of MONAI's networks (monai.networks.nets.*).")
        try:
            return network(**definition)
        except (TypeError, ValueError, AssertionError) as error:
            raise MedVLMError(f"{where}: {target} does not accept these arguments ({error}).") from None

    def load_network(self, weights: Path | None = None) -> nn.Module:
        """The network with its trained weights (or those of a file), in evaluation mode, on the CPU.

        Raises:
            MedVLMError: no weights, or weights of another network.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if weights is None:
            self.require_weights()
            weights = self.weights
        network = self.build_network()
        try:
            state = load_file(weights)
            network.load_state_dict(
                {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
            )
        except (SafetensorError, RuntimeError, OSError) as error:
            first = str(error).strip().splitlines()[0]
            raise MedVLMError(f"{weights}: not the weights of this bundle's network ({first}).") from None
        return network.eval()


def read_bundle(root: Path | str) -> Bundle:
    """Read an expert's folder.

    Raises:
        MedVLMError: a file is missing or wrong (names it).
    """
    root = Path(root)
    if not root.is_dir():
        raise MedVLMError(f"{root}: no such expert folder.")
    spec = read_spec(root / "findings.yaml")
    metadata, inference = read_json(root / METADATA), read_json(root / INFERENCE)
    if not isinstance(inference.get("input"), dict):
        raise MedVLMError(f"{root / INFERENCE}: no 'input' block; it says what the network wants to see.")
    try:
        outputs = metadata["network_data_format"]["outputs"]
        labels = {int(number): str(name) for number, name in outputs["pred"]["channel_def"].items()}
        metadata["version"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MedVLMError(f"{root / METADATA}: no {error} (see the MONAI bundle specification).") from None
    classes = tuple(str(name) for name in inference.get("classes", ()))
    metrics, calibration = (
        read_json(path) if path.is_file() else {} for path in (root / "metrics.json", root / "calibration.json")
    )
    weights = root / WEIGHTS
    if weights.is_file() and calibration.get("weights") != hashlib.sha256(weights.read_bytes()).hexdigest():
        calibration = {}  # fitted to other weights: worse than none
    return Bundle(
        root=root,
        spec=spec,
        metadata=metadata,
        inference=inference,
        input=InputSpec.from_json(inference["input"]),
        labels=labels,
        classes=classes,
        metrics=metrics.get("metrics", {}),
        calibration=calibration,
    )


def is_allow_listed(root: Path) -> bool:
    """The folder lies in one of the content folders, whose configs the user has chosen to trust."""
    root = root.resolve()
    return any(root.is_relative_to((folder / "experts").resolve()) for folder in content_roots())


def resolve_literals(value: Any, config: Mapping[str, Any], where: str, depth: int = 0) -> Any:
    """Resolve MONAI's `@key` and `@key#sub` references to literals.

    Raises:
        MedVLMError: a `$` expression, an unknown or a circular reference: they are code or mistakes.
    """
    if depth > 20:
        raise MedVLMError(f"{where}: references go in a circle.")
    if isinstance(value, dict):
        return {key: resolve_literals(item, config, where, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve_literals(item, config, where, depth + 1) for item in value]
    if isinstance(value, str) and value.startswith("$"):
        raise MedVLMError(f"{where}: holds the Python expression '{value}', which medvlm does not run.")
    if isinstance(value, str) and value.startswith("@"):
        target: Any = config
        for part in re.split(r"#|::", value[1:]):
            try:
                target = target[int(part)] if isinstance(target, list) else target[part]
            except (KeyError, IndexError, TypeError, ValueError):
                raise MedVLMError(f"{where}: '{value}' refers to nothing.") from None
        return resolve_literals(target, config, where, depth + 1)
    if value is None and depth == 0:
        raise MedVLMError(f"{where} is missing.")
    return value
