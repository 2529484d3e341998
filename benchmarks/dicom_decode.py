"""Which real DICOM files can be read: every file with pixels in the packages pydicom and pydicom-data.

    python benchmarks/dicom_decode.py --out docs/dicom-files.md

Writes a Markdown table with what `load_study` gives for each file, or the sentence with which it refuses.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pydicom

from medvlm.errors import MedVLMError
from medvlm.imaging import load_study
from medvlm.storage import write_text


def pixel_files() -> Iterator[Path]:
    """The files with pixel data that come with the two packages (without the 16 x 16 pixel DICOMDIR trees)."""
    roots = [Path(pydicom.__file__).parent / "data" / "test_files"]
    data = find_spec("data_store")
    if data is not None and data.origin:
        roots.append(Path(data.origin).parent)
    for root in roots:
        for path in sorted(root.rglob("*")):
            if path.is_file() and "dicomdirtests" not in path.parts and has_pixels(path):
                yield path


def has_pixels(path: Path) -> bool:
    """Whether a file is DICOM with a pixel element, by a reader other than ours."""
    if path.suffix in (".py", ".pyc", ".txt", ".md", ".json", ".xml"):
        return False
    try:
        dataset = pydicom.dcmread(path, force=True)
        return any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"))
    except Exception:  # not DICOM at all
        return False


def row(path: Path) -> tuple[bool, str]:
    """Whether it was read, and its line of the table."""
    try:
        (series,) = load_study(path).series
        volume = series.volume
    except MedVLMError as error:
        return False, f"| {path.name} | refused: {str(error).removeprefix(f'{path}: ')} | | | | |"
    size = " x ".join(map(str, volume.array.shape[:3])) + (" colour" if volume.is_rgb else "")
    span = f"{volume.array.min():g} .. {volume.array.max():g}"
    known = ("mm" if volume.calibrated else "no mm") + (", sides" if volume.oriented else ", no sides")
    return (
        True,
        f"| {path.name} | {series.modality} | {size} | {volume.array.dtype} | {span} {_unit(volume.unit)}| {known} |",
    )


def _unit(unit: str) -> str:
    return "" if unit == "1" else unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="Markdown file to write; otherwise the table is printed")
    out = parser.parse_args().out
    rows = [row(path) for path in pixel_files()]
    read = sum(good for good, _ in rows)
    versions = f"pydicom {metadata.version('pydicom')}, pydicom-data {metadata.version('pydicom-data')}"
    lines = [
        "# DICOM files that are read",
        "",
        f"{read} of the {len(rows)} files with pixels in {versions} are read; the others are refused with a reason.",
        "Made by `python benchmarks/dicom_decode.py --out docs/dicom-files.md`.",
        "",
        "| file | modality | size | type | values | known |",
        "|---|---|---|---|---|---|",
        *(line for _, line in rows),
    ]
    text = "\n".join(lines) + "\n"
    if out is None:
        print(text)
    else:
        write_text(out, text)
        print(f"{read} of {len(rows)} read; wrote {out}")


if __name__ == "__main__":
    main()
