"""`medvlm study`: what is in here, what would be used and why."""

from __future__ import annotations

from pathlib import Path


def study(path: Path, modality: str | None = None) -> None:
    """Print what a study holds: series, geometry, what was skipped and why.

    Example:
        medvlm study path/to/dicom

    Args:
        path: DICOM file or folder, NIfTI file or image.
        modality: DICOM modality code for formats that carry none (NIfTI, plain images).
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from medvlm.imaging.reader import load_study

    console = Console()
    found = load_study(path, modality)
    table = Table(title=f"patient {found.patient} · {len(found.series)} series", title_justify="left")
    for name in ("#", "modality", "body part", "description", "size", "spacing mm", "axes", "notes"):
        table.add_column(name)
    for number, series in enumerate(found.series, start=1):
        volume = series.volume
        size = " x ".join(str(count) for count in volume.array.shape[:3]) + (" colour" if volume.is_rgb else "")
        spacing = " x ".join(f"{edge:.2f}" for edge in volume.spacing) if volume.calibrated else "unknown"
        axes = _axes(volume.affine) if volume.oriented else "unknown"
        notes = " ".join(series.notes)
        cells = (series.modality or "?", series.body_part or "?", series.description, size, spacing, axes, notes)
        table.add_row(str(number), *(escape(cell) for cell in cells))
    console.print(table)
    if found.skipped:
        skipped = Table(title="skipped", title_justify="left")
        skipped.add_column("what")
        skipped.add_column("why")
        for item in found.skipped:
            skipped.add_row(escape(item.what), escape(item.reason))
        console.print(skipped)


def _axes(affine: object) -> str:
    """Where the array axes point, as three letters (`LPS`)."""
    from nibabel.orientations import aff2axcodes

    return "".join(aff2axcodes(affine))


COMMAND = study
