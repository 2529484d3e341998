"""`medvlm study`: what is in here, what would be used and why."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from medvlm.imaging.study import Series, Study


def study(path: Path, modality: str | None = None, experts: bool = True) -> None:
    """Print what a study holds: series, geometry, what was skipped and why, which experts would read what.

    Example:
        medvlm study path/to/dicom

    Args:
        path: DICOM file, folder, DICOMDIR or ZIP, NIfTI file or image.
        modality: DICOM modality code for formats that carry none (NIfTI, plain images).
        experts: also ask every expert which series it would read (reads the voxels of those that may fit).
    """
    from rich.console import Console

    from medvlm.imaging.reader import load_study

    console = Console()
    found = load_study(path, modality)
    console.print(_series_table(found))
    for number, series in enumerate(found.series, start=1):
        for note in [*series.notes, *_suv_notes(series)]:
            console.print(f"series {number}: {note}", markup=False)
    if found.skipped:
        rows = ((item.what, item.reason) for item in found.skipped)
        console.print(_table("left out", ("what", "why"), rows))
    if experts:
        console.print(_table("experts", ("expert", "reads", "why not"), _expert_rows(found)))


def _suv_notes(series: Series) -> list[str]:
    """For PET: whether its values can be given as SUV, and why not."""
    from medvlm.errors import MedVLMError
    from medvlm.imaging.suv import suv_factor

    if series.modality != "PT" or not series.files:
        return []
    try:
        return [f"SUV by body weight is {suv_factor(series.files):.6g} times the value."]
    except MedVLMError as reason:
        return [f"{str(reason)[:1].upper()}{str(reason)[1:]}"]


def _series_table(found: Study) -> Table:
    rows = []
    for number, series in enumerate(found.series, start=1):
        grid = series.grid or series.volume
        shape = series.grid.shape if series.grid else series.volume.array.shape[:3]
        spacing = " x ".join(f"{edge:.2f}" for edge in grid.spacing) if grid.calibrated else "unknown"
        axes = _axes(series) if grid.oriented else "unknown"
        size = " x ".join(map(str, shape))
        cells = (series.modality or "?", series.body_part or "?", series.description, size, spacing, axes)
        rows.append((str(number), *cells))
    columns = ("series", "modality", "body part", "description", "size", "spacing mm", "axes")
    return _table(f"patient {found.patient}", columns, rows)


def _axes(series: Series) -> str:
    """Where the array axes point, as three letters (`LPS`)."""
    from nibabel.orientations import aff2axcodes

    return "".join(aff2axcodes((series.grid or series.volume).affine))


def _expert_rows(found: Study) -> list[tuple[str, str, str]]:
    """Each expert with the number of the series that it would read, or why it reads none."""
    from medvlm.errors import MedVLMError
    from medvlm.experts.registry import list_experts, load_expert

    rows = []
    for card in list_experts():
        try:
            chosen = load_expert(card.name, "cpu").choose(found)
            rows.append((card.name, f"series {found.series.index(chosen) + 1}", ""))
        except MedVLMError as error:
            rows.append((card.name, "-", str(error)))
    return rows


def _table(title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


COMMAND = study
