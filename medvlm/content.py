"""Where bundled and user content is found: experts, curricula and configs.

Content is folders and YAML, never engine code. It is looked up in this order, first hit wins:

1. folders given by option (`--content DIR`, repeatable),
2. folders in the environment variable `MEDVLM_PATH` (separated as PATH is),
3. folders named by installed packages through the entry point group `medvlm.content` (a module or a path),
4. the content that ships with medvlm.

Each such folder holds `experts/`, `curricula/` and/or `configs/`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal

from medvlm.errors import MedVLMError

Kind = Literal["experts", "curricula", "configs"]

_extra_roots: list[Path] = []


def add_content_roots(roots: Sequence[str | Path]) -> None:
    """Put folders in front of the search order (the `--content` option).

    Raises:
        MedVLMError: a folder does not exist.
    """
    for root in reversed(roots):
        path = Path(root).expanduser().resolve()
        if not path.is_dir():
            raise MedVLMError(f"--content {root}: no such folder.")
        if path not in _extra_roots:
            _extra_roots.insert(0, path)


def builtin_root() -> Path:
    """The folder of the content that ships with medvlm (inside the wheel, or the root of a source checkout)."""
    package = Path(__file__).resolve().parent
    installed = package / "_content"
    return installed if installed.is_dir() else package.parent


def content_roots() -> list[Path]:
    """All content folders in search order."""
    roots = list(_extra_roots)
    roots += [Path(part).expanduser() for part in os.environ.get("MEDVLM_PATH", "").split(os.pathsep) if part]
    for entry in metadata.entry_points(group="medvlm.content"):
        target = entry.load()
        folder = Path(target) if isinstance(target, str | Path) else Path(next(iter(target.__path__)))
        roots.append(folder)
    roots.append(builtin_root())
    return roots


def list_content(kind: Kind) -> dict[str, Path]:
    """Name → path of every entry of one kind; an earlier folder hides a later one of the same name."""
    found: dict[str, Path] = {}
    for root in content_roots():
        folder = root / kind
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            if not path.name.startswith((".", "_")):
                found.setdefault(path.name, path)
    return found


def find_content(kind: Kind, name: str | Path) -> Path:
    """The path of one entry, by name or by an existing path of its own.

    Raises:
        MedVLMError: nothing of that name is known (lists what is).
    """
    own = Path(name).expanduser()
    if own.exists():
        return own.resolve()
    for root in content_roots():
        path = root / kind / str(name)
        if path.exists():
            return path.resolve()
    known = ", ".join(sorted(list_content(kind))) or "none"
    raise MedVLMError(f"'{name}' is neither a path nor one of the known {kind} ({known}).")
