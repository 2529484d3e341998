"""Experts by name."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from medvlm.content import find_content, list_content
from medvlm.experts.bundle import Bundle, read_bundle
from medvlm.experts.card import ExpertCard

if TYPE_CHECKING:
    from medvlm.experts.expert import Expert


def list_experts() -> list[ExpertCard]:
    """The cards of all experts that can be found, by name; trained or not."""
    return [bundle.card for bundle in list_bundles()]


def list_bundles() -> list[Bundle]:
    """All expert folders that can be found, by name.

    Raises:
        MedVLMError: a folder among them is not a bundle (names the file that is wrong).
    """
    folders = list_content("experts")
    return [read_bundle(folders[name]) for name in sorted(folders) if folders[name].is_dir()]


def find_expert(name: str | Path) -> Bundle:
    """The bundle of that name (any case, as in a trigger) or at that path.

    Raises:
        MedVLMError: there is none (lists those there are).
    """
    path = Path(name)
    if not (path / "findings.yaml").is_file():
        # A plain name is an expert's, whatever folder of that name happens to lie here.
        known = list_content("experts").get(str(name).lower())
        path = known or find_content("experts", str(name).lower() if not path.exists() else path)
    return read_bundle(path)


def load_expert(name: str | Path, device: str = "auto") -> Expert:
    """Load an expert, ready to run; the same expert on the same device is loaded once.

    Args:
        name: name of a bundled or user expert, or the path of a bundle folder.
        device: `auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1`.

    Raises:
        MedVLMError: no such expert, no weights, or no such device.
    """
    bundle = find_expert(name)
    bundle.require_weights()
    stamp = bundle.weights.stat().st_mtime_ns
    return _load(bundle.root, device, stamp)


@lru_cache(maxsize=8)
def _load(root: Path, device: str, stamp: int) -> Expert:
    from medvlm.experts.expert import Expert
    from medvlm.experts.infer import choose_device

    del stamp  # only part of the key, so that retrained weights are loaded anew
    return Expert(read_bundle(root), choose_device(device))
