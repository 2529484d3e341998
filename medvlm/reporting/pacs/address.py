"""Where a PACS is, and how to prove who we are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from medvlm.errors import MedVLMError

SCHEMES = {"dicomweb": "http", "dicomwebs": "https", "dicom": "", "dicoms": ""}
EXAMPLES = "dicomweb://host:8042/dicom-web, dicomwebs://host/dicom-web or dicom://AETITLE@host:104"


@dataclass(frozen=True)
class Address:
    """A PACS.

    Attributes:
        text: as the user wrote it, without a password.
        scheme: `dicomweb`, `dicomwebs` (TLS), `dicom` or `dicoms` (TLS).
        host: name or number.
        port: TCP port.
        path: path of the DICOMweb service.
        title: application entity title of a C-STORE peer.
    """

    text: str
    scheme: str
    host: str
    port: int
    path: str = ""
    title: str = ""

    @property
    def url(self) -> str:
        """The URL of a DICOMweb service."""
        return f"{SCHEMES[self.scheme]}://{self.host}:{self.port}{self.path}"

    @property
    def web(self) -> bool:
        return self.scheme.startswith("dicomweb")

    @property
    def secure(self) -> bool:
        return self.scheme.endswith("s")


@dataclass(frozen=True, repr=False)
class Credentials:
    """Secrets and certificates; never printed.

    Attributes:
        user, password: HTTP basic authentication.
        token: bearer token, instead of user and password.
        authority: PEM file of the certificate authority to trust; None: that of the system.
        certificate: PEM file with our own certificate and key, for mutual TLS.
        calling: our application entity title.
    """

    user: str = ""
    password: str = ""
    token: str = ""
    authority: Path | None = None
    certificate: Path | None = None
    calling: str = "MEDVLM"

    @classmethod
    def from_environment(cls, authority: Path | None = None, certificate: Path | None = None) -> Credentials:
        """`MEDVLM_PACS_USER`, `MEDVLM_PACS_PASSWORD`, `MEDVLM_PACS_TOKEN`, `MEDVLM_PACS_AET`: not on a command line."""
        read = os.environ.get
        return cls(
            read("MEDVLM_PACS_USER", ""),
            read("MEDVLM_PACS_PASSWORD", ""),
            read("MEDVLM_PACS_TOKEN", ""),
            authority,
            certificate,
            read("MEDVLM_PACS_AET", "MEDVLM"),
        )


def is_address(text: str) -> bool:
    """The text names a PACS and not a folder."""
    return text.partition("://")[0] in SCHEMES and "://" in text


def parse_address(text: str) -> Address:
    """Read `dicomweb://host:port/path` or `dicom://AETITLE@host:port`.

    Raises:
        MedVLMError: not an address (shows examples), or one with a password in it.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise MedVLMError(f"not the address of a PACS; write {EXAMPLES}.") from None
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise MedVLMError(f"not the address of a PACS: {text!r}; write {EXAMPLES}.")
    if parts.password:
        raise MedVLMError("a password does not belong into an address: set MEDVLM_PACS_USER and MEDVLM_PACS_PASSWORD.")
    web = parts.scheme.startswith("dicomweb")
    if not web and not parts.username:
        raise MedVLMError(
            f"{text}: the application entity title is missing; write dicom://AETITLE@{parts.hostname}:104."
        )
    standard = {"dicomweb": 80, "dicomwebs": 443, "dicom": 104, "dicoms": 2762}[parts.scheme]
    title = "" if web else str(parts.username)
    return Address(text, parts.scheme, parts.hostname, port or standard, parts.path.rstrip("/"), title)
