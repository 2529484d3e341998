"""Weights that do not ship with a bundle: the `large_files.yml` of the MONAI bundle layout.

Each entry has a `path` in the bundle, a `url` and a hash. Besides web and `file://` addresses the url may be
`package://NAME/FILE`: a file that ships inside an installed Python package.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from medvlm.errors import MedVLMError
from medvlm.storage import read_json

LARGE_FILES = "large_files.yml"
CACHE = "MEDVLM_CACHE"
PACKAGE = "package://"
# What a pull leaves beside the file: where it came from and its SHA-256.
PULLED = "pulled.json"


@dataclass(frozen=True)
class WeightFile:
    """One file of weights that is got on demand.

    Attributes:
        path: where the bundle wants it, relative to its folder (`models/model.pt`).
        url: where it comes from.
        hash_val: hash of the file; nothing else is ever loaded. Empty where the publisher gives none: then the file of
            the first pull is the one that is loaded from there on, and only if it holds plain weights.
        hash_type: `sha256`, or what the publisher gives (`md5`, `sha1`, `sha512`).
        extra: the extra of medvlm that installs the package of a `package://` url.
    """

    path: str
    url: str
    hash_val: str = ""
    hash_type: str = "sha256"
    extra: str = ""

    @property
    def package(self) -> tuple[str, str] | None:
        """Distribution and file of a `package://` url."""
        if not self.url.startswith(PACKAGE):
            return None
        name, _, file = self.url.removeprefix(PACKAGE).partition("/")
        return name, file

    def cached(self) -> Path:
        """Where `medvlm experts pull` puts it; the hash is part of the path, so versions never mix."""
        key = self.hash_val or hashlib.sha256(self.url.encode()).hexdigest()
        return cache_root() / "weights" / key[:16] / Path(self.path).name

    def find(self, root: Path) -> Path | None:
        """The file on this machine: in the bundle, in an installed package or in the cache; None if it is not there."""
        own = root / self.path
        if own.is_file():
            return own
        if self.package is None:
            return self.cached() if self.cached().is_file() else None
        try:
            installed = Path(str(metadata.distribution(self.package[0]).locate_file(self.package[1])))
        except metadata.PackageNotFoundError:
            return None
        return installed if installed.is_file() else None

    def check(self, path: Path) -> None:
        """Raise a MedVLMError unless the file has the pinned hash, or that of the first pull."""
        kind, wanted = self.hash_type, self.hash_val
        if not wanted:
            record = path.with_name(PULLED)
            if not record.is_file():
                return
            kind, wanted = "sha256", str(read_json(record)["sha256"])
        found = file_hash(path, kind)
        if found != wanted:
            raise MedVLMError(
                f"{path}: its {kind} is {found[:12]}..., {wanted[:12]}... is pinned; it is not the "
                "file that this expert was made for, so it is not loaded."
            )


def cache_root() -> Path:
    """The folder of downloaded weights: `MEDVLM_CACHE`, else `~/.cache/medvlm`."""
    given = os.environ.get(CACHE)
    return Path(given).expanduser() if given else Path.home() / ".cache" / "medvlm"


def file_hash(path: Path, kind: str = "sha256") -> str:
    """Hash of a file, in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def read_large_files(root: Path) -> tuple[WeightFile, ...]:
    """The entries of a bundle's `large_files.yml`; none where there is no such file.

    Raises:
        MedVLMError: not YAML, or an entry without path, url and hash.
    """
    path = root / LARGE_FILES
    if not path.is_file():
        return ()
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        return tuple(_entry(row) for row in data["large_files"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise MedVLMError(
            f"{path}: not a list of large files with path, url, hash_val, hash_type ({reason})."
        ) from None


def _entry(row: Mapping[str, Any]) -> WeightFile:
    known = {item.name for item in fields(WeightFile)}
    entry = WeightFile(**{key: str(value) for key, value in row.items() if key in known})
    if entry.hash_type not in ("sha256", "sha512", "sha1", "md5"):
        raise ValueError(f"hash_type {entry.hash_type!r}")
    if not entry.hash_val and Path(entry.path).suffix not in (".pt", ".pth", ".safetensors"):
        raise ValueError(f"{entry.path} is a program and has no hash_val")
    if Path(entry.path).is_absolute() or ".." in Path(entry.path).parts:
        raise ValueError(f"path {entry.path!r}")
    return entry
