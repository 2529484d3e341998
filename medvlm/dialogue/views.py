"""The pictures of a cohort's conversations: one overview a study, rendered once, side by side on several processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from medvlm.errors import MedVLMError
from medvlm.experts.card import ExpertResult
from medvlm.findings.finding import Finding
from medvlm.imaging.cohort import Cohort, CohortEntry
from medvlm.imaging.study import Series, Study

FOLDER = "images"


def render_overview(source: Path, target: Path) -> None:
    """Write the overview PNG of one study.

    Raises:
        MedVLMError: the study has nothing to show.
    """
    from medvlm.imaging.reader import load_study

    study = load_study(source)
    save_overview(shown_series(study), target)


def save_overview(series: Series, target: Path) -> None:
    """Write the overview PNG of one series."""
    from medvlm.imaging.view import overview

    target.parent.mkdir(parents=True, exist_ok=True)
    overview(series).save(target)


def save_overlay(study: Study, result: ExpertResult, finding: Finding, target: Path) -> None:
    """Write the axial slice of one Finding with its structure drawn over it, and a legend.

    Raises:
        MedVLMError: the expert gave no mask or the Finding has no slice.
    """
    from medvlm.imaging.view import slice_view

    evidence = finding.evidence[0] if finding.evidence else None
    if result.mask is None or evidence is None or evidence.slice is None:
        raise MedVLMError(f"{finding.id}: there is no mask or no slice to draw.")
    series = study.find_series(result.series)
    labels = {number: name for number, name in result.labels.items() if evidence.label in (None, number)}
    target.parent.mkdir(parents=True, exist_ok=True)
    view = slice_view(
        series.volume,
        index=evidence.slice,
        mask=result.mask,
        labels=labels,
        series=series.uid,
        body_part=series.body_part,
    )
    view.save(target)


def shown_series(study: Study) -> Series:
    """The series a study is shown by: the first in reading order.

    Raises:
        MedVLMError: the study has no series.
    """
    if not study.series:
        raise MedVLMError(f"{study.source}: nothing to show in this study.")
    return study.series[0]


def render_cohort(cohort: Cohort, folder: Path, workers: int = 2, progress: bool = True) -> dict[str, str]:
    """Render what is not there yet and return study id → image path relative to `folder`.

    Args:
        cohort: the studies.
        folder: folder of the conversation files; the pictures go to `images/` in it.
        workers: processes.
        progress: show a progress bar.

    Raises:
        MedVLMError: a study cannot be read (names it).
    """
    from rich.progress import track

    paths = {entry.id: f"{FOLDER}/{entry.id}.png" for entry in cohort.entries}
    waiting = [entry for entry in cohort.entries if not (folder / paths[entry.id]).is_file()]
    if waiting:
        jobs = _run(cohort, waiting, folder, paths, workers)
        for _ in track(jobs, description="overviews", total=len(waiting), disable=not progress):
            pass
    return paths


def _run(
    cohort: Cohort, entries: Sequence[CohortEntry], folder: Path, paths: dict[str, str], workers: int
) -> Iterator[None]:
    sources = [cohort.root / entry.study for entry in entries]
    targets = [folder / paths[entry.id] for entry in entries]
    if workers <= 1:
        yield from map(render_overview, sources, targets)
        return
    # Spawned, not forked: a fork of a process that has run torch can hang.
    import multiprocessing

    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield from executor.map(render_overview, sources, targets, chunksize=4)
