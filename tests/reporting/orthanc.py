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
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Certificates:
    """PEM files: an authority that signs itself, and what it signed for the server and for us (certificate and key)."""

    authority: Path
    server: Path
    client: Path


def make_certificates(folder: Path) -> Certificates:
    """An authority of our own, a server called localhost and a client."""

    def openssl(*command: object) -> None:
        subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)

    folder.mkdir()
    new = ("-newkey", "rsa:2048", "-nodes")
    authority, key = folder / "authority.pem", folder / "authority.key"
    openssl("req", "-x509", *new, "-days", 2, "-subj", "/CN=Test authority", "-keyout", key, "-out", authority)
    for name, subject in (("server", "localhost"), ("client", "medvlm")):
        own, asked, signed = folder / f"{name}.key", folder / f"{name}.csr", folder / f"{name}.crt"
        extensions = folder / f"{name}.cnf"
        extensions.write_text(
            f"subjectAltName=DNS:{subject}\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        )
        openssl("req", *new, "-subj", f"/CN={subject}", "-keyout", own, "-out", asked)
        by = ("-CA", authority, "-CAkey", key, "-CAcreateserial", "-days", 2, "-extfile", extensions)
        openssl("x509", "-req", "-in", asked, *by, "-out", signed)
        (folder / f"{name}.pem").write_text(signed.read_text() + own.read_text())
    return Certificates(authority, folder / "server.pem", folder / "client.pem")


class Orthanc:
    """One server; its storage stays in the folder when it is killed."""

    def __init__(self, folder: Path, users: dict[str, str] | None = None, tls: Certificates | None = None) -> None:
        """
        Args:
            users: name → password; None: nobody is asked.
            tls: with these C-STORE is encrypted, and clients must show a certificate of the authority.
        """
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
        if tls is not None:
            settings |= {
                "DicomTlsEnabled": True,
                "DicomTlsCertificate": str(tls.server),
                "DicomTlsPrivateKey": str(tls.server),
                "DicomTlsTrustedCertificates": str(tls.authority),
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
def behind_tls(server: Orthanc, certificates: Certificates) -> Iterator[str]:
    """A reverse proxy in front of a server, as hospitals have one, that asks for a certificate; yields its address.

    Orthanc's own HTTPS cannot be used for this: that of Debian 12 crashes on the first encrypted request.
    """

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
    context.load_cert_chain(certificates.server)
    context.load_verify_locations(certificates.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    proxy.socket = context.wrap_socket(proxy.socket, server_side=True)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield f"dicomwebs://localhost:{proxy.server_port}/dicom-web"
    finally:
        proxy.shutdown()
