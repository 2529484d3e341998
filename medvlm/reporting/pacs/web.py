"""DICOMweb through `dicomweb-client`: QIDO to look, WADO to fetch, STOW to store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pydicom
from pydicom.dataset import Dataset

from medvlm.errors import MedVLMError
from medvlm.reporting.pacs.address import Address, Credentials
from medvlm.reporting.pacs.retry import Retries, Temporary, keep_trying
from medvlm.storage import atomic_path

Value = TypeVar("Value")
# SeriesDescription of our key images (`reporting/dicom/documents.py`).
KEY_IMAGES = "medvlm key images"
# What other programs derived from the images; an expert reads images.
DERIVED = {"KEY", "SR", "SEG", "PR", "KO", "DOC", "REG", "RTSTRUCT", "RTPLAN", "RTDOSE", "AU", "ECG"}


@dataclass(frozen=True)
class StudyRow:
    """One study as QIDO lists it."""

    uid: str
    instances: int


class WebPacs:
    """A DICOMweb service; every call is tried again while the server is away."""

    def __init__(self, address: Address, credentials: Credentials, retries: Retries | None = None) -> None:
        """
        Raises:
            MedVLMError: the optional packages are missing.
        """
        try:
            import requests
            from dicomweb_client.api import DICOMwebClient
        except ImportError:
            raise MedVLMError("a PACS needs: pip install 'medvlm-specialist[pacs]'.") from None
        self.address = address
        self.retries = retries or Retries()
        session = requests.Session()
        session.trust_env = False
        if credentials.authority is not None:
            session.verify = str(credentials.authority)
        if credentials.certificate is not None:
            session.cert = str(credentials.certificate)
        if credentials.token:
            session.headers["Authorization"] = f"Bearer {credentials.token}"
        elif credentials.user:
            session.auth = (credentials.user, credentials.password)
        self.client = DICOMwebClient(address.url, session=session)
        self.client.set_http_retry_params(retry=False)

    def studies(self) -> list[StudyRow]:
        """Every study that the service lists."""
        fields = ["NumberOfStudyRelatedInstances"]
        rows = self._call(
            lambda: self.client.search_for_studies(fields=fields, get_remaining=True), "cannot be searched"
        )
        return [StudyRow(_value(row, "0020000D"), int(_value(row, "00201208") or 0)) for row in rows]

    def instances(self, study: str) -> list[tuple[str, str, str]]:
        """`(series, instance, modality)` of every object of a study; key images of a report of ours have `KEY`."""
        found = []
        described = ["SeriesDescription"]
        for row in self._call(
            lambda: self.client.search_for_series(study, fields=described, get_remaining=True), "cannot be searched"
        ):
            series, modality = _value(row, "0020000E"), _value(row, "00080060")
            modality = "KEY" if _value(row, "0008103E").startswith(KEY_IMAGES) else modality
            rows = self._call(
                lambda series=series: self.client.search_for_instances(study, series, get_remaining=True),  # type: ignore[misc]
                "cannot be searched",
            )
            found += [(series, _value(one, "00080018"), modality) for one in rows]
        return found

    def fetch(self, study: str, folder: Path) -> int:
        """Bring the images of a study into a folder; what is there already is not fetched again.

        Returns:
            How many files were fetched now.

        Raises:
            MedVLMError: the service has no such study or stays away.
        """
        images = [one for one in self.instances(study) if one[2] not in DERIVED]
        if not images:
            raise MedVLMError(f"{self.address.text}: no images of study {study}.")
        fetched = 0
        for series, instance, _ in images:
            target = folder / f"{instance}.dcm"
            if target.is_file():
                continue
            dataset = self._call(
                lambda series=series, instance=instance: self.client.retrieve_instance(  # type: ignore[misc]
                    study, series, instance, media_types=(("application/dicom", "*"),)
                ),
                f"cannot send the image {instance}",
            )
            with atomic_path(target) as temporary:
                dataset.save_as(temporary, enforce_file_format=True)
            fetched += 1
        return fetched

    def store(self, files: Sequence[Path]) -> int:
        """Store objects one by one; those that the service holds already are left out.

        Returns:
            How many were sent now.

        Raises:
            MedVLMError: the service refuses one or stays away.
        """
        sent = 0
        held: dict[str, set[str]] = {}
        for file in files:
            dataset = pydicom.dcmread(file)
            study = str(dataset.StudyInstanceUID)
            if study not in held:
                held[study] = {instance for _, instance, _ in self.instances(study)}
            if str(dataset.SOPInstanceUID) in held[study]:
                continue
            self._call(lambda dataset=dataset: self._store(dataset), f"did not take {file.name}")  # type: ignore[misc]
            held[study].add(str(dataset.SOPInstanceUID))
            sent += 1
        return sent

    def _store(self, dataset: Dataset) -> None:
        answer = self.client.store_instances([dataset])
        failed = answer.get("FailedSOPSequence")
        if failed:
            reason = failed[0].get("FailureReason")
            raise MedVLMError(f"{self.address.text}: refused an object (failure reason {reason}).")

    def _call(self, action: Callable[[], Value], what: str) -> Value:
        import requests

        def guarded() -> Value:
            try:
                return action()
            except requests.exceptions.SSLError as error:
                raise MedVLMError(f"{self.address.text}: the certificate is not trusted ({_short(error)}).") from None
            except requests.exceptions.HTTPError as error:
                status = error.response.status_code if error.response is not None else 0
                if status in (401, 403):
                    raise MedVLMError(f"{self.address.text}: access denied ({status}); set MEDVLM_PACS_USER.") from None
                if status in (408, 425, 429) or status >= 500:
                    raise Temporary(f"the server answers {status}") from None
                raise MedVLMError(f"{self.address.text}: {what} (the server answers {status}).") from None
            except (requests.exceptions.RequestException, ConnectionError, OSError) as error:
                raise Temporary(f"no connection ({type(error).__name__})") from None

        return keep_trying(guarded, f"{self.address.text} {what}", self.retries)


def _value(row: dict[str, Any], tag: str) -> str:
    values = row.get(tag, {}).get("Value") or [""]
    return str(values[0])


def _short(error: Exception) -> str:
    return type(error).__name__
