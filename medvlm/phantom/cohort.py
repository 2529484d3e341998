"""Write phantoms as a cohort: DICOM, masks, truth and reports, split by patient."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import medvlm
from medvlm.errors import MedVLMError
from medvlm.findings.finding import write_findings
from medvlm.imaging.cohort import Cohort, CohortEntry, Split
from medvlm.phantom.case import PhantomCase, generate_case
from medvlm.phantom.dicom import write_series
from medvlm.phantom.narrative import reference_report
from medvlm.phantom.patient import LABELS
from medvlm.phantom.scanner import find_preset
from medvlm.storage import atomic_path, read_json, write_json, write_text

SETTINGS = "phantom.json"
# Of every ten patients in a row seven are for training, one for validation, two for testing: the shares hold for any
# cohort size and a cohort can grow without anybody changing sides.
BLOCK: tuple[Split, ...] = ("train",) * 7 + ("validation",) + ("test",) * 2


@dataclass(frozen=True)
class Kind:
    """A kind of phantom: what its cohorts are called and how one case is written.

    Attributes:
        name: of the kind (`chest-ct`).
        prefix: of the case names (`CT`).
        labels: number → structure in the masks.
        check: raises for a preset that there is not.
        write: (seed, index, preset, folder) writes one case.
        files: study, mask, truth and report within a case's folder.
    """

    name: str
    prefix: str
    labels: Mapping[int, str]
    check: Callable[[str], object]
    write: Callable[[int, int, str, Path], None]
    files: tuple[str, str, str, str] = ("dicom", "mask.nii.gz", "truth.jsonl", "report.txt")


def find_kind(name: str) -> Kind:
    """The kind of that name.

    Raises:
        MedVLMError: there is none.
    """
    if name == "chest-ct":
        return Kind(name, "CT", LABELS, find_preset, write_chest)
    if name == "oct":
        from medvlm.phantom import oct_case

        files = ("bscan.dcm", "mask.png", "truth.jsonl", "report.txt")
        return Kind(name, "OCT", oct_case.LABELS, oct_case.find_frame, oct_case.write, files)
    raise MedVLMError(f"no kind of phantom '{name}'; there are: chest-ct, oct.")


def make_cohort(
    out: Path,
    patients: int = 160,
    seed: int = 0,
    preset: str = "small",
    workers: int = 1,
    show_progress: bool = True,
    kind: str = "chest-ct",
) -> Cohort:
    """Write a cohort of phantom patients, one study each; an interrupted or smaller one is completed.

    The bytes depend on `seed` and `preset` only, not on `workers` or on interruptions.

    Args:
        out: folder of the cohort; new, empty, or begun with the same seed and preset.
        patients: how many.
        seed: same seed, same cohort.
        preset: `small` or `full`.
        workers: processes; each renders one case at a time.
        show_progress: draw a progress bar on stderr.
        kind: `chest-ct` or `oct`.

    Raises:
        MedVLMError: the folder holds something else, or an argument is out of range.
    """
    made = find_kind(kind)
    made.check(preset)
    if patients < 1 or workers < 1 or seed < 0:
        raise MedVLMError("patients and workers are at least 1 and the seed is not negative.")
    _claim_folder(out, {"kind": kind, "seed": seed, "preset": preset, "version": medvlm.__version__})
    todo = [index for index in range(patients) if not (out / case_name(index, made.prefix)).is_dir()]
    written = _run(out, seed, preset, todo, workers, kind)
    for _ in _with_bar(written, patients, patients - len(todo)) if show_progress else written:
        pass
    entries = tuple(_entry(made, seed, index) for index in range(patients))
    cohort = Cohort(out, f"phantom-{kind}", dict(made.labels), entries)
    cohort.write()
    return cohort


def case_name(index: int, prefix: str = "CT") -> str:
    """Folder name and study id of a case."""
    return f"{prefix}-{index + 1:04d}"


def split_of(seed: int, index: int) -> Split:
    """The split of patient `index`: seven, one and two of every ten, in random order."""
    block, place = divmod(index, len(BLOCK))
    order = np.random.default_rng([seed, block, 3]).permutation(len(BLOCK))
    return BLOCK[int(order[place])]


def write_chest(seed: int, index: int, preset: str, folder: Path) -> None:
    """Make and write one chest CT."""
    write_case(generate_case(seed, index, preset), folder)


def write_case(case: PhantomCase, folder: Path) -> None:
    """Write `dicom/`, `mask.nii.gz`, `truth.jsonl` and `report.txt` of one case; the folder appears when complete."""
    import nibabel

    with atomic_path(folder) as temporary:
        (temporary / "dicom").mkdir(parents=True)
        write_series(case, temporary / "dicom")
        mask = nibabel.Nifti1Image(case.labels, case.volume.affine)
        mask.header.set_xyzt_units("mm")
        nibabel.save(mask, temporary / "mask.nii.gz")
        write_findings(temporary / "truth.jsonl", case.findings)
        write_text(temporary / "report.txt", reference_report(case))


def _claim_folder(out: Path, settings: dict[str, Any]) -> None:
    """Make sure that the folder is ours to write in, and remove what an interrupted run left half-written."""
    if out.exists() and not out.is_dir():
        raise MedVLMError(f"{out}: is a file; give a folder with --out.")
    marker = out / SETTINGS
    if marker.is_file():
        found = read_json(marker)
        found = found if isinstance(found, dict) else {}
        changed = ", ".join(key for key in settings if found.get(key) != settings[key])
        if changed:
            raise MedVLMError(f"{out}: holds a phantom cohort of another {changed}; choose another folder with --out.")
        for half in out.glob(".????????.*-*"):
            shutil.rmtree(half, ignore_errors=True)
    elif out.is_dir() and any(out.iterdir()):
        raise MedVLMError(f"{out}: is not empty and not a phantom cohort; choose another folder with --out.")
    else:
        write_json(marker, settings)


def _run(out: Path, seed: int, preset: str, todo: list[int], workers: int, kind: str) -> Iterator[int]:
    """Write the cases, in this process or in several; yields the number of each when it is done."""
    if workers == 1 or len(todo) < 2:
        for index in todo:
            yield _make_one(out, seed, preset, index, kind)
        return
    # Spawned, not forked: a fork of a process that already runs torch threads may hang.
    with ProcessPoolExecutor(min(workers, len(todo)), mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_make_one, out, seed, preset, index, kind) for index in todo]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _make_one(out: Path, seed: int, preset: str, index: int, kind: str) -> int:
    made = find_kind(kind)
    made.write(seed, index, preset, out / case_name(index, made.prefix))
    return index


def _with_bar(written: Iterator[int], total: int, done: int) -> Iterator[int]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("phantom clinic", total=total, completed=done)
        for index in written:
            progress.advance(task)
            yield index


def _entry(kind: Kind, seed: int, index: int) -> CohortEntry:
    name = case_name(index, kind.prefix)
    study, mask, truth, report = (f"{name}/{file}" for file in kind.files)
    return CohortEntry(name, f"P-{index + 1:04d}", split_of(seed, index), study, mask, truth, report)
