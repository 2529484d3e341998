"""Put a Report on disk: `report.json`, its key images and masks, and every chosen format, all of them or none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from medvlm.errors import MedVLMError
from medvlm.reporting.formats import Format, Material
from medvlm.reporting.report import write_report_json

# `report.json` comes last: where it is, everything it names is there too.
PARTS = (
    "key",
    "masks",
    "dicom",
    "report.txt",
    "report.md",
    "report.html",
    "report.pdf",
    "findings.csv",
    "grounded.json",
    "fhir.json",
    "report.json",
)


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
            else:
                target.unlink(missing_ok=True)
            if (temporary / part).exists():
                (temporary / part).replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in made:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def write_parts(material: Material, formats: Sequence[Format]) -> None:
    """Write `report.json` and the formats beside the key images, which are in the folder already."""
    for one in formats:
        one.write(material)
    write_report_json(material.folder / "report.json", material.report)
