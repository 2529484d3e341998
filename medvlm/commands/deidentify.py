"""`medvlm deidentify`: DICOM images without identity."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def deidentify(
    path: Path,
    *,
    out: Path,
    key: Path | None = None,
    dates: Literal["shift", "remove"] = "shift",
    keep_characteristics: bool = False,
) -> None:
    """Write DICOM images without identity (PS3.15 basic profile): new uids, shifted dates, no names, no free text.

    Example:
        medvlm deidentify path/to/dicom --out clean/

    Args:
        path: DICOM file or folder.
        out: new folder; one folder a patient in it, named by a pseudonym.
        key: file with the secret that makes pseudonyms; made if it does not exist. Without one, a secret that is
            thrown away cuts the link for good.
        dates: shift dates by a constant for each patient, or remove them.
        keep_characteristics: keep sex, age (at most 90), size and weight.
    """
    from rich.console import Console
    from rich.progress import track

    from medvlm.errors import MedVLMError
    from medvlm.imaging.deidentify import Deidentifier
    from medvlm.imaging.deidentify_files import read_key, write_deidentified

    if not path.exists():
        raise MedVLMError(f"{path}: no such file or folder.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MedVLMError(f"{out}: exists and is not empty; give a new folder.")
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    console = Console()
    deidentifier = Deidentifier(read_key(key), dates, keep_characteristics)
    written, skipped, warnings = write_deidentified(
        track(files, description="de-identify", console=console, transient=True), out, deidentifier
    )
    for reason, count in skipped.items():
        console.print(f"left out {count}: {reason}", markup=False)
    for warning, count in warnings.items():
        console.print(f"warning, {count} images: {warning}", markup=False)
    if not written:
        raise MedVLMError(f"{path}: no DICOM image here, nothing was written.")
    console.print(f"wrote {written} images without identity to {out}", markup=False)


COMMAND = deidentify
