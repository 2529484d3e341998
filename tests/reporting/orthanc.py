"""A real Orthanc server for tests: started in a folder, killed and started again."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

BINARY = shutil.which("Orthanc")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
MISSING = BINARY is None or not PLUGIN.exists()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Orthanc:
    """One server; its storage stays in the folder when it is killed."""

    def __init__(self, folder: Path, users: dict[str, str] | None = None, certificate: Path | None = None) -> None:
        self.folder = folder
        self.http, self.dicom = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.secure = certificate is not None
        settings = {
            "Name": "test",
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "DicomAet": "ORTHANC",
            "RemoteAccessAllowed": True,
            "AuthenticationEnabled": users is not None,
            "RegisteredUsers": users or {},
            "Plugins": [str(PLUGIN)],
            "DicomAlwaysAllowStore": True,
            "DicomCheckModalityHost": False,
            "OverwriteInstances": False,
            "ConcurrentJobs": 1,
        }
        if certificate is not None:
            settings |= {"SslEnabled": True, "SslCertificate": str(certificate)}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "orthanc.json").write_text(json.dumps(settings))

    @property
    def web(self) -> str:
        return f"dicomweb{'s' if self.secure else ''}://localhost:{self.http}/dicom-web"

    def start(self) -> Orthanc:
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [str(BINARY), str(self.folder / "orthanc.json")], stdout=log, stderr=log, cwd=self.folder
        )
        for _ in range(200):
            if self._listens():
                return self
            assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.1)
        raise AssertionError("Orthanc does not answer")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(0.5)
            return probe.connect_ex(("127.0.0.1", self.http)) == 0

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)

    def count(self) -> int:
        """Instances that the server holds."""
        try:
            with urlopen(f"http://localhost:{self.http}/instances") as answer:
                return len(json.load(answer))
        except URLError:
            return -1
