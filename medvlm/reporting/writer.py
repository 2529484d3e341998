"""Put a Report on disk: `report.json`, `report.txt`, `report.html` and the key images, all of them or none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from medvlm.errors import MedVLMError
from medvlm.reporting.html import render_html
from medvlm.reporting.report import Report, write_report_json
from medvlm.reporting.text import render_text

# `report.json` comes last: where it is, everything it names is there too.
PARTS = ("key", "report.txt", "report.html", "report.json")


@contextmanager
def report_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `out`; at the end move what was written into `out`, on failure remove it.

    Other files in an existing `out` are left alone; only the parts of an earlier report are replaced.

    Raises:
        MedVLMError: `out` is a file or cannot be written to.
    """
    out = Path(out)
    existing = next((folder for folder in (out, *out.parents) if folder.exists()), Path.cwd())
    if not existing.is_dir():
        raise MedVLMError(f"--out {out}: {existing} is a file; name a folder.")
    made = [folder for folder in out.absolute().parents if not folder.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(mkdtemp(prefix=".report-", dir=out.parent))
    except OSError as error:
        raise MedVLMError(f"--out {out}: cannot write here ({error.strerror}).") from None
    try:
        yield temporary
        out.mkdir(exist_ok=True)
        (out / "report.json").unlink(missing_ok=True)
        for part in PARTS:
            target = out / part
            if target.is_dir():
                shutil.rmtree(target)
            if (temporary / part).exists():
                (temporary / part).replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in made:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def write_parts(report: Report, folder: Path) -> None:
    """Write the three files of a report beside its key images, which are in `folder` already."""
    (folder / "report.txt").write_text(render_text(report), encoding="utf-8")
    (folder / "report.html").write_text(render_html(report, folder), encoding="utf-8")
    write_report_json(folder / "report.json", report)
