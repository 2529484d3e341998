"""Fetch a study and send a report, over either protocol, so that a broken run can be run again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medvlm.errors import MedVLMError
from medvlm.reporting.pacs.address import Credentials, parse_address
from medvlm.reporting.pacs.dimse import StorePeer
from medvlm.reporting.pacs.retry import Retries
from medvlm.reporting.pacs.web import WebPacs

# Images that were fetched stay here until the report is written; a second run goes on with them.
INCOMING = "incoming"


def open_source(text: str, credentials: Credentials, retries: Retries | None = None) -> WebPacs:
    """The DICOMweb service to fetch from.

    Raises:
        MedVLMError: not an address, or one that studies cannot be fetched from.
    """
    address = parse_address(text)
    if not address.web:
        raise MedVLMError(f"--from {text}: studies are fetched by DICOMweb; write dicomweb://host:port/path.")
    return WebPacs(address, credentials, retries)


def open_target(text: str, credentials: Credentials, retries: Retries | None = None) -> WebPacs | StorePeer:
    """Where objects are sent."""
    address = parse_address(text)
    return WebPacs(address, credentials, retries) if address.web else StorePeer(address, credentials, retries)


def report_objects(folder: Path) -> Sequence[Path]:
    """The DICOM objects of a report, segmentations first: what refers to them comes later.

    Raises:
        MedVLMError: there are none.
    """
    files = sorted((folder / "dicom").glob("*.dcm"), key=lambda path: (not path.name.startswith("seg"), path.name))
    if not files:
        raise MedVLMError(f"{folder}: no DICOM objects to send; the study is not DICOM or --formats leaves them out.")
    return files
