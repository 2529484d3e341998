"""C-STORE through `pynetdicom`, for a PACS without DICOMweb."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

import pydicom

from medvlm.errors import MedVLMError
from medvlm.reporting.pacs.address import Address, Credentials
from medvlm.reporting.pacs.retry import Retries, Temporary, keep_trying

# A-ASSOCIATE timeouts, seconds.
TIMEOUT = 20


class StorePeer:
    """An application entity that takes objects; an object sent twice has the same UID and stays one."""

    def __init__(self, address: Address, credentials: Credentials, retries: Retries | None = None) -> None:
        self.address, self.credentials = address, credentials
        self.retries = retries or Retries()

    def store(self, files: Sequence[Path]) -> int:
        """Send objects in one association; after a break those that are not confirmed go again.

        Raises:
            MedVLMError: the peer refuses an object or stays away, or the optional package is missing.
        """
        waiting = list(files)

        def send() -> None:
            while waiting:
                self._send(waiting)

        keep_trying(send, f"{self.address.text} does not take the objects", self.retries)
        return len(files)

    def _send(self, waiting: list[Path]) -> None:
        """Send until all are confirmed; confirmed ones leave `waiting`."""
        try:
            from pynetdicom import AE
        except ImportError:
            raise MedVLMError("a PACS needs: pip install 'medvlm-specialist[pacs]'.") from None
        datasets = [(file, pydicom.dcmread(file)) for file in waiting]
        entity = AE(ae_title=self.credentials.calling)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = TIMEOUT
        for sop_class, syntax in {(d.SOPClassUID, d.file_meta.TransferSyntaxUID) for _, d in datasets}:
            entity.add_requested_context(sop_class, syntax)
        tls = (self._tls(), self.address.host) if self.address.secure else None
        association = entity.associate(self.address.host, self.address.port, ae_title=self.address.title, tls_args=tls)
        if not association.is_established:
            raise Temporary("no association")
        try:
            for file, dataset in datasets:
                status = association.send_c_store(dataset)
                if "Status" not in status:
                    raise Temporary("the association broke off")
                if status.Status not in (0x0000, 0xB000, 0xB006, 0xB007):
                    raise MedVLMError(f"{self.address.text}: refused {file.name} (status {status.Status:04X}).")
                waiting.remove(file)
        except (RuntimeError, ValueError) as error:
            raise Temporary(str(error)) from None
        finally:
            if association.is_established:
                association.release()

    def _tls(self) -> ssl.SSLContext:
        authority = self.credentials.authority
        context = ssl.create_default_context(cafile=str(authority) if authority is not None else None)
        if self.credentials.certificate is not None:
            context.load_cert_chain(self.credentials.certificate)
        return context
