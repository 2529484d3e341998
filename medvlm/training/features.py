"""Image features computed once, where the vision tower is frozen.

A frozen tower gives the same features for the same picture in every epoch and every run. They are computed ahead of
training, kept on disk, memory-mapped and put in the tower's place: a step then costs no tower at all. They are keyed by
the pixels that the processor made of the pictures; the folder by the weights, the precision and the versions that made
them, so that features of another tower can never be met.

    cache = FeatureCache.open(loaded, Path("runs/features"))
    cache.fill(rows)
    batch = collate([cache.strip(row) for row in rows], ...)
    with cache.replayed(batch) as inputs:
        model(**inputs)
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medvlm.errors import MedVLMError
from medvlm.models.parts import part_of
from medvlm.storage import atomic_path, read_json, write_json
from medvlm.training.cachepoint import CachePoint, find_point

if TYPE_CHECKING:
    from medvlm.models.chat import Encoded
    from medvlm.models.load import LoadedModel

# Key under which a stripped row refers to its features.
ROW = "feature_row"
SHARD_BYTES = 2**28


class FeatureCache:
    """Features of sets of pictures (those of one conversation), on disk."""

    def __init__(self, point: CachePoint, folder: Path) -> None:
        self.point, self.folder = point, folder
        self._where: dict[str, Any] = {}  # key -> the opened shard that has it
        self._rows: dict[str, int] = {}
        self._keys: list[str] = []
        self._known: dict[int, tuple[Tensor, str]] = {}
        self._checked = False
        self._read_shards()

    @classmethod
    def open(cls, loaded: LoadedModel, root: Path) -> FeatureCache:
        """The cache of this very tower below `root`, which may hold those of other towers, too.

        Raises:
            MedVLMError: the tower trains, the family cannot take features, or the folder was made by something else.
        """
        model = loaded.model.get_base_model() if loaded.is_adapter else loaded.model
        point = find_point(model)
        card = _card(model, loaded.processor, point)
        key = hashlib.blake2b(repr(sorted(card.items())).encode(), digest_size=8).hexdigest()
        folder = Path(root) / key
        if (folder / "card.json").is_file():
            if read_json(folder / "card.json") != card:
                raise MedVLMError(f"{folder}: these features are of another model; remove the folder.")
        else:
            write_json(folder / "card.json", card)
        return cls(point, folder)

    def __len__(self) -> int:
        return len(self._where)

    def fill(self, rows: Iterable[Encoded], rank: int = 0, ranks: int = 1) -> int:
        """Compute what is missing for these rows; each process does its share. Returns how many sets it computed."""
        from rich.progress import track

        missing: dict[str, dict[str, Tensor]] = {}
        for row in rows:
            if ROW in row.vision or "pixel_values" not in row.vision:
                continue
            key = self._key(row)
            if not self._checked:
                self._check(key, row.vision)
            if key not in self._where:
                missing[key] = row.vision
        mine = dict(list(missing.items())[rank::ranks])
        pending: dict[str, Tensor] = {}
        size = 0
        for key, vision in track(mine.items(), "image features", transient=True, disable=not mine):
            for name, value in self.point.record(vision).items():
                pending[f"{key}.{name}"] = value.contiguous()
                size += value.nbytes
            if size > SHARD_BYTES:
                self._write(pending)
                pending, size = {}, 0
        if pending:
            self._write(pending)
        return len(mine)

    def _check(self, key: str, vision: dict[str, Tensor]) -> None:
        """Compute one set anew: the point learns the family's form by it, and features gone stale are refused."""
        self._checked = True
        fresh = self.point.record(vision)
        for name, value in fresh.items() if key in self._where else ():
            kept = self._where[key].get_tensor(f"{key}.{name}")
            if kept.shape != value.shape or float((kept - value).norm()) > 0.02 * float(value.norm()):
                raise MedVLMError(f"{self.folder}: features are not those of the model any more; remove the folder.")

    def strip(self, row: Encoded) -> Encoded:
        """The row without pixels: it refers to its features instead.

        Raises:
            KeyError: its features were not computed.
        """
        if ROW in row.vision or "pixel_values" not in row.vision:
            return row
        key = self._key(row)
        if key not in self._where:
            raise KeyError(key)
        number = self._rows.setdefault(key, len(self._rows))
        if number == len(self._keys):
            self._keys.append(key)
        rest = self.point.rest(row.vision)
        return replace(row, vision=rest | {ROW: torch.tensor([number])})

    def load(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A collated batch of stripped rows with the features themselves (read from the mapped files)."""
        if ROW not in batch:
            return batch
        batch = dict(batch)
        keys = [self._keys[number] for number in batch.pop(ROW).tolist()]
        for name in self.point.names:
            batch[f"feature.{name}"] = torch.cat([self._where[key].get_tensor(f"{key}.{name}") for key in keys])
        return batch

    def collator(self, collate: Callable[[Sequence[Encoded]], dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        """The collator that puts features in the place of pixels."""
        return lambda rows: self.load(collate([self.strip(row) for row in rows]))

    @contextmanager
    def replayed(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Within the context `model(**inputs)` takes the features of a loaded batch for what the tower says."""
        recorded = {name: batch[f"feature.{name}"] for name in self.point.names if f"feature.{name}" in batch}
        inputs = {name: value for name, value in batch.items() if not name.startswith("feature.")}
        if not recorded:
            yield inputs
            return
        with self.point.replayed(inputs, recorded) as given:
            yield given

    def _key(self, row: Encoded) -> str:
        pixels = row.vision["pixel_values"]
        known = self._known.get(id(pixels))
        if known is None or known[0] is not pixels:
            digest = hashlib.blake2b(digest_size=16)
            for name, value in sorted(row.vision.items()):
                digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
                digest.update(_bytes(value))
            # The tensor is kept beside its key: an address alone may come to belong to another tensor.
            known = self._known[id(pixels)] = (pixels, digest.hexdigest())
        return known[1]

    def forget_pixels(self) -> None:
        """Let go of the pixels of the rows that were filled and stripped."""
        self._known.clear()

    def _write(self, tensors: dict[str, Tensor]) -> None:
        from safetensors.torch import save_file

        path = self.folder / f"{uuid.uuid4().hex[:12]}.safetensors"
        with atomic_path(path) as temporary:
            save_file(tensors, temporary)
        self._open(path)

    def _read_shards(self) -> None:
        for path in sorted(self.folder.glob("[!.]*.safetensors")):
            self._open(path)

    def refresh(self) -> None:
        """Find what other processes have computed meanwhile."""
        self._where.clear()
        self._read_shards()

    def _open(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            shard = safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise MedVLMError(f"{path}: not a file of features ({error}); remove it.") from None
        for name in shard.keys():  # noqa: SIM118 - not a dict
            self._where[name.partition(".")[0]] = shard


def _card(model: Any, processor: Any, point: CachePoint) -> dict[str, str]:
    """What features depend on besides the pixels."""
    import transformers

    digest = hashlib.blake2b(digest_size=16)
    parts = part_of(model)
    for name, module in model.named_modules():
        if parts[name] == "vision" or (point.with_projector and parts[name] == "projector"):
            for own, parameter in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                digest.update(f"{name}.{own} {tuple(parameter.shape)}".encode())
                digest.update(_bytes(parameter.detach()))
    return {
        "schema": "1",
        "model": type(model).__name__,
        "weights": digest.hexdigest(),
        "after": "projector" if point.with_projector else "tower",
        "processor": hashlib.blake2b(str(processor.image_processor).encode(), digest_size=8).hexdigest(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "transformers": transformers.__version__,
    }


def _bytes(tensor: Tensor) -> Any:
    return tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data
