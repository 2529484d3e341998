"""The sealed key: which code is which case and source, encrypted, with a commitment that can be published.

The payload is canonical JSON. Encryption is AES-256-GCM under a key that scrypt (RFC 7914) makes from a passphrase; the
commitment is SHA-256 over the payload and a random nonce that is sealed with it, so that the published hash neither
tells nor can be met by another payload.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from pathlib import Path
from typing import Any

from medvlm.errors import MedVLMError, MissingExtraError
from medvlm.storage import atomic_path, read_json, write_json

SCHEME = "scrypt-n16384-r8-p1+aes-256-gcm"
_LABEL = b"medvlm reader study key 1"


def canonical(data: Any) -> bytes:
    """JSON with sorted keys and no spaces: the bytes that hashes are taken over."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def commitment_of(payload: bytes, nonce: bytes) -> str:
    """The hash that packets publish."""
    return hashlib.sha256(payload + nonce).hexdigest()


def new_passphrase() -> str:
    """A random passphrase of 160 bits in eight groups."""
    text = base64.b32encode(secrets.token_bytes(20)).decode().lower()
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


def seal_key(path: Path, payload: dict[str, Any], passphrase: str, nonce: bytes) -> str:
    """Write the encrypted key and return its commitment."""
    if len(passphrase) < 12:
        raise MedVLMError("the passphrase of the sealed key is shorter than 12 characters; take a longer one.")
    plain = canonical(payload)
    commitment = commitment_of(plain, nonce)
    salt, start = secrets.token_bytes(16), secrets.token_bytes(12)
    boxed = _cipher(passphrase, salt).encrypt(start, nonce + plain, _LABEL + commitment.encode())
    sealed = {"scheme": SCHEME, "salt": salt, "start": start, "box": boxed}
    coded = {
        key: value if isinstance(value, str) else base64.b64encode(value).decode() for key, value in sealed.items()
    }
    write_json(path, coded | {"commitment": commitment})
    path.chmod(0o600)
    return commitment


def open_key(path: Path, passphrase: str, commitment: str | None = None) -> dict[str, Any]:
    """The payload of a sealed key.

    Raises:
        MedVLMError: not a sealed key, the wrong passphrase, a changed byte, or not the key of these packets.
    """
    data = read_json(path)
    if not isinstance(data, dict) or data.get("scheme") != SCHEME:
        raise MedVLMError(f"{path}: not a sealed key of this version.")
    from cryptography.exceptions import InvalidTag

    try:
        salt, start, box = (base64.b64decode(data[name], validate=True) for name in ("salt", "start", "box"))
        opened = _cipher(passphrase, salt).decrypt(start, box, _LABEL + str(data["commitment"]).encode())
    except (InvalidTag, ValueError, KeyError):
        raise MedVLMError(f"{path}: the passphrase is wrong or the key was changed.") from None
    nonce, plain = opened[:32], opened[32:]
    if commitment_of(plain, nonce) != data["commitment"]:
        raise MedVLMError(f"{path}: the key does not meet its own commitment; it was changed.")
    if commitment is not None and commitment != data["commitment"]:
        raise MedVLMError(f"{path}: this key does not belong to these packets (their commitment is another).")
    return json.loads(plain)


def _cipher(passphrase: str, salt: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise MissingExtraError("cryptography", "reader-study", "a sealed key") from None
    return AESGCM(hashlib.scrypt(passphrase.encode(), salt=salt, n=16384, r=8, p=1, dklen=32))


def read_passphrase(file: Path | None, key: Path) -> str:
    """The passphrase: from a file, from MEDVLM_STUDY_PASSPHRASE, or from `<study>.passphrase` beside the folder.

    Raises:
        MedVLMError: there is none.
    """
    import os

    if file is None and os.environ.get("MEDVLM_STUDY_PASSPHRASE"):
        return os.environ["MEDVLM_STUDY_PASSPHRASE"]
    for candidate in [file] if file else default_passphrase_files(key):
        if candidate.is_file():
            return candidate.read_text(encoding="utf-8").strip()
    raise MedVLMError(
        f"no passphrase for {key}: give --passphrase_file, or set MEDVLM_STUDY_PASSPHRASE, or keep the file "
        "<packets>.passphrase beside the folder of packets."
    )


def default_passphrase_files(key: Path) -> list[Path]:
    """Where `export` leaves a passphrase that it made: beside the folder that holds `coordinator/key.sealed`."""
    out = key.resolve().parent.parent
    return [out.with_name(f"{out.name}.passphrase"), key.with_suffix(".passphrase")]


def write_passphrase(path: Path, passphrase: str) -> None:
    """Write a passphrase that only its owner can read."""
    with atomic_path(path) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text(passphrase + "\n", encoding="utf-8")
