"""Which bundle folders may run code.

A MONAI config can name any Python callable and hold `$` expressions, so to read one is to run it. That happens only
for folders that the user chose (content folders) or whose code has exactly the hash that the user pinned.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from medvlm.content import content_roots
from medvlm.errors import MedVLMError

PINS = "MEDVLM_TRUSTED_BUNDLES"
# What can hold code; weights are pinned one by one in large_files.yml.
CODE = {".json", ".yaml", ".yml", ".py"}


def is_allow_listed(root: Path) -> bool:
    """The folder lies in one of the content folders, whose configs the user has chosen to trust."""
    root = root.resolve()
    return any(root.is_relative_to((folder / "experts").resolve()) for folder in content_roots())


def code_hash(root: Path) -> str:
    """SHA-256 over the names and bytes of all configs and scripts of a bundle."""
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file() and path.suffix in CODE):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def require_trust(root: Path) -> None:
    """Let a bundle's configs run only where the user said so.

    Raises:
        MedVLMError: the folder is neither in a content folder nor pinned (says the hash to pin).
    """
    if is_allow_listed(root):
        return
    pins = os.environ.get(PINS, "").replace(",", " ").split()
    found = code_hash(root)
    if found not in pins:
        raise MedVLMError(
            f"{root}: the configs of this bundle can run Python, so they are not read: look at them, then put the "
            f"folder into the experts/ of a --content folder or set {PINS}={found}."
        )
