"""Reports of many studies: files are read ahead, experts and model work, pages are written behind, all at once.

Studies are computed side by side, each with its share of the processor's cores: an operation spread over all cores
waits for the slowest of them at each step, a study does not wait for another one.

A study is done when its `report.json` is there, so a run can be run again. A study that fails is recorded in
`failed/<name>.json` and never stops the others. At most `BATCH + AHEAD + READ + BEHIND` studies are in memory, however
many there are. What is said of a study holds neither its path nor the name of a folder that the user gave it.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medvlm.errors import MedVLMError
from medvlm.imaging.cohort import read_cohort
from medvlm.imaging.reader import load_study
from medvlm.imaging.study import Study
from medvlm.reporting.draft import VLMWriter
from medvlm.reporting.failures import reason_of
from medvlm.reporting.generate import Options, render_report
from medvlm.reporting.read_study import Reading, read_with_experts
from medvlm.reporting.report import ExpertUse
from medvlm.storage import write_json

if TYPE_CHECKING:
    from medvlm.experts.expert import Expert

# Studies whose text is written side by side; from the disk and waiting for the experts; before the experts or read by
# them; waiting to be rendered.
BATCH, AHEAD, READ, BEHIND = 8, 1, 4, 8
# Studies before the experts at the same time, on a processor; a GPU has one.
SIDE_BY_SIDE = 2


@dataclass(frozen=True)
class Job:
    """One study of a batch.

    Attributes:
        name: the folder of its report.
        path: where it is.
        label: what it is called on the screen and in logs; by default its name.
    """

    name: str
    path: Path
    label: str = ""

    @property
    def called(self) -> str:
        return self.label or self.name


@dataclass(frozen=True)
class Outcome:
    """What a batch did.

    Attributes:
        done: names of the studies that were reported.
        before: names of those that had a report.
        failed: what the others are called, and why each failed.
        retried: where the model failed on several studies at once: how many, and its error. They were asked for again
            in smaller batches.
    """

    done: tuple[str, ...]
    before: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    retried: tuple[tuple[int, str], ...] = ()


def find_jobs(folder: Path) -> list[Job]:
    """The studies of a cohort (`cohort.json`), else every folder or file right below a folder.

    Raises:
        MedVLMError: there are none.
    """
    if (folder / "cohort.json").is_file():
        cohort = read_cohort(folder)
        return [Job(entry.id, cohort.root / entry.study) for entry in cohort.entries]
    if not folder.is_dir():
        raise MedVLMError(f"{folder}: no such folder; --each takes a folder of studies.")
    paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    # A folder may be called after its patient: in what is said it has a number.
    jobs = [Job(path.name, path, f"study {number}") for number, path in enumerate(paths, start=1)]
    if not jobs:
        raise MedVLMError(f"{folder}: no studies here.")
    return jobs


def report_batch(
    jobs: Sequence[Job],
    experts: Sequence[Expert],
    out: Path,
    options: Options,
    writer: VLMWriter | None = None,
    untrained: Sequence[ExpertUse] = (),
    modality: str | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> Outcome:
    """Write a report for every study that has none yet into `out/<name>`.

    Args:
        jobs: the studies.
        experts: who may be asked.
        out: folder of the reports.
        options: what is asked of every report.
        writer: the model that writes the text; None: text from the measurements.
        untrained: installed experts that cannot run yet.
        modality: for files that carry none.
        progress: called with what each study is called that is finished or has failed.
    """
    todo = [job for job in jobs if not (out / job.name / "report.json").is_file()]
    left = {job.name for job in todo}
    before = tuple(job.name for job in jobs if job.name not in left)
    done: list[str] = []
    failed: dict[str, str] = {}
    retried: list[tuple[int, str]] = []

    def fail(job: Job, error: Exception) -> None:
        failed[job.called] = reason_of(error, job.path)
        write_json(out / "failed" / f"{job.name}.json", {"study": job.called, "reason": failed[job.called]})
        progress(job.called)

    def render(job: Job, reading: Reading, answer: str | None) -> None:
        try:
            render_report(reading, out / job.name, options, writer, answer)
        except Exception as error:  # recorded; the other studies go on
            fail(job, error)
            return
        (out / "failed" / f"{job.name}.json").unlink(missing_ok=True)
        done.append(job.name)
        progress(job.called)

    # One thread writes: the PDF library is not made for several.
    with ThreadPoolExecutor(1, "render") as pool:
        waiting: list[Future[None]] = []
        for readings in _batches(_readings(todo, experts, untrained, modality, fail), BATCH if writer else 1):
            for job, reading, answer in _texts(readings, writer, fail, retried):
                while len(waiting) > BEHIND:
                    waiting.pop(0).result()
                waiting.append(pool.submit(render, job, reading, answer))
            del readings
        for future in waiting:
            future.result()
    return Outcome(tuple(done), before, tuple(failed.items()), tuple(retried))


def _readings(
    jobs: Sequence[Job],
    experts: Sequence[Expert],
    untrained: Sequence[ExpertUse],
    modality: str | None,
    fail: Callable[[Job, Exception], None],
) -> Iterator[tuple[Job, Reading]]:
    """Studies read by the experts, in order, while the next ones are read from the disk."""
    with ThreadPoolExecutor(_side_by_side(experts), "experts", _take_share, (experts,)) as pool:
        running: deque[tuple[Job, Future[Reading]]] = deque()
        for job, study in _ahead(jobs, modality):
            if isinstance(study, Exception):
                fail(job, study)
                continue
            running.append((job, pool.submit(read_with_experts, study, experts, untrained)))
            del study
            if len(running) > READ:
                yield from _finished(*running.popleft(), fail)
        while running:
            yield from _finished(*running.popleft(), fail)


def _finished(
    job: Job, reading: Future[Reading], fail: Callable[[Job, Exception], None]
) -> Iterator[tuple[Job, Reading]]:
    try:
        read = reading.result()
    except Exception as error:  # recorded; the other studies go on
        fail(job, error)
        return
    yield job, read


def _side_by_side(experts: Sequence[Expert]) -> int:
    """How many studies the experts read at the same time."""
    on_gpu = any(getattr(expert, "device", None) is not None and expert.device.type != "cpu" for expert in experts)
    return 1 if on_gpu else min(SIDE_BY_SIDE, os.cpu_count() or 1)


def _take_share(experts: Sequence[Expert]) -> None:
    """Before the first study of a thread: its part of the cores. The thread that asks the model keeps all of them."""
    import torch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // _side_by_side(experts)))


def _ahead(jobs: Sequence[Job], modality: str | None) -> Iterator[tuple[Job, Study | Exception]]:
    """Each study with its voxels, read in a thread that is at most `AHEAD` studies in front."""
    box: queue.Queue[tuple[Job, Study | Exception] | None] = queue.Queue(AHEAD)
    stopped = threading.Event()

    def put(item: tuple[Job, Study | Exception] | None) -> None:
        while not stopped.is_set():
            try:
                box.put(item, timeout=0.2)
                return
            except queue.Full:
                continue

    def read() -> None:
        for job in jobs:
            if stopped.is_set():
                return
            put((job, _read(job, modality)))
        put(None)

    thread = threading.Thread(target=read, name="read ahead", daemon=True)
    thread.start()
    try:
        while (item := box.get()) is not None:
            yield item
    finally:
        stopped.set()
        thread.join()


def _read(job: Job, modality: str | None) -> Study | Exception:
    try:
        study = load_study(job.path, modality)
        if len(study.series) == 1:
            _ = study.series[0].volume
        return study
    except Exception as error:  # handed to the caller, who records it
        return error


def _batches(items: Iterable[tuple[Job, Reading]], size: int) -> Iterator[list[tuple[Job, Reading]]]:
    batch: list[tuple[Job, Reading]] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _texts(
    readings: Sequence[tuple[Job, Reading]],
    writer: VLMWriter | None,
    fail: Callable[[Job, Exception], None],
    retried: list[tuple[int, str]],
) -> Iterator[tuple[Job, Reading, str | None]]:
    """Each reading with the model's text, or None where it is not asked; those for which it fails are left out."""
    asked = [item for item in readings if writer is not None and item[1].results]
    answers = _write(asked, writer, fail, retried) if writer is not None and asked else {}
    for job, reading in readings:
        if (job, reading) not in asked or job.name in answers:
            yield job, reading, answers.get(job.name)


def _write(
    asked: Sequence[tuple[Job, Reading]],
    writer: VLMWriter,
    fail: Callable[[Job, Exception], None],
    retried: list[tuple[int, str]],
) -> dict[str, str]:
    """Texts by name. What fails together (a batch too large for the memory) is tried again in halves."""
    try:
        texts = writer.write_many([reading for _, reading in asked])
        return dict(zip((job.name for job, _ in asked), texts, strict=True))
    except Exception as error:  # recorded; the other studies go on
        if len(asked) == 1:
            fail(asked[0][0], error)
            return {}
        retried.append((len(asked), str(error) if isinstance(error, MedVLMError) else type(error).__name__))
    middle = len(asked) // 2
    return _write(asked[:middle], writer, fail, retried) | _write(asked[middle:], writer, fail, retried)
