"""Folders of DICOM files → folders without identity."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pydicom

from medvlm.errors import MedVLMError
from medvlm.imaging.deidentify import Deidentifier
from medvlm.imaging.dicom_header import quiet_pydicom, read_header
from medvlm.storage import atomic_path

# What pydicom raises for values that it cannot parse.
_UNPARSABLE = (ValueError, TypeError, KeyError, AttributeError, IndexError, NotImplementedError, OSError)


def read_key(path: Path | None) -> bytes:
    """The secret in a file, made where there is none; without a path one that nobody keeps.

    Raises:
        MedVLMError: the file is too short to be a secret.
    """
    if path is None:
        return secrets.token_bytes(32)
    if not path.exists():
        with atomic_path(path) as temporary:
            temporary.write_text(secrets.token_hex(32) + "\n")
            temporary.chmod(0o600)
    key = path.read_bytes().strip()
    if len(key) < 16:
        raise MedVLMError(f"{path}: a key of {len(key)} bytes is too short; delete it and a good one is made.")
    return key


def write_deidentified(
    files: Iterable[Path], out: Path, deidentifier: Deidentifier
) -> tuple[int, Counter[str], Counter[str]]:
    """De-identify files one by one into `out/<pseudonym>/<series>/<number>.dcm`; names of files carry nothing over.

    The folder appears only when all is done.

    Returns:
        The number of images written, why others were left out, and the warnings, each with its number.
    """
    skipped: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    written = 0
    series: dict[str, int] = {}
    with atomic_path(out) as folder, quiet_pydicom():
        folder.mkdir(parents=True)
        for file in files:
            try:
                read_header(file)
                dataset = pydicom.dcmread(file, force=True)
                warnings.update(deidentifier.apply(dataset))
            except MedVLMError as error:
                # The sentence starts with the path, which may hold a name.
                skipped[str(error).removeprefix(f"{file}: ").rstrip(".")] += 1
                continue
            except _UNPARSABLE as error:  # the text of the error may identify, its type does not
                skipped[f"a value in it cannot be parsed ({type(error).__name__})"] += 1
                continue
            number = series.setdefault(str(dataset.SeriesInstanceUID), len(series) + 1)
            target = folder / str(dataset.PatientID) / f"series-{number:03d}"
            target.mkdir(parents=True, exist_ok=True)
            written += 1
            dataset.save_as(target / f"IM-{written:05d}.dcm", enforce_file_format=True)
        if not written:
            raise MedVLMError(f"no DICOM image to write ({'; '.join(skipped) or 'no files'}).")
    return written, skipped, warnings
