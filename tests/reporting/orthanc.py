"""A real Orthanc server for tests: started in a folder, killed and started again."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

BINARY = shutil.which("Orthanc")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
MISSING = BINARY is None or not PLUGIN.exists()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Orthanc:
    """One server; its storage stays in the folder when it is killed."""

    def __init__(self, folder: Path, users: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.http, self.dicom = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
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
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "orthanc.json").write_text(json.dumps(settings))

    @property
    def web(self) -> str:
        return f"dicomweb://localhost:{self.http}/dicom-web"

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


@contextmanager
def behind_tls(server: Orthanc, certificate: Path) -> Iterator[str]:
    """A reverse proxy with a certificate in front of a server, as hospitals have one; yields its address."""

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
            names = ("Authorization", "Accept", "Content-Type")
            headers = {name: self.headers[name] for name in names if self.headers[name]}
            asked = Request(f"http://localhost:{server.http}{self.path}", body, headers, method=self.command)
            try:
                with urlopen(asked) as answer:
                    status, kind, data = answer.status, answer.headers["Content-Type"], answer.read()
            except HTTPError as error:
                status, kind, data = error.code, "text/plain", b""
            self.send_response(status)
            self.send_header("Content-Type", kind or "text/plain")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    proxy.socket = context.wrap_socket(proxy.socket, server_side=True)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield f"dicomwebs://localhost:{proxy.server_port}/dicom-web"
    finally:
        proxy.shutdown()
