"""Write the DICOM objects of a report into `dicom/`."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from medvlm.errors import MedVLMError
from medvlm.imaging.study import Study
from medvlm.reporting.dicom.source import Source, read_source
from medvlm.reporting.masks import Mask, Segment
from medvlm.reporting.report import Report

if TYPE_CHECKING:
    from medvlm.reporting.dicom.seg import SegKind

DICOM_FOLDER = "dicom"
NOT_WRITTEN = "not-written.txt"
# What highdicom and pydicom raise for values that no standard allows.
DAMAGED = (ArithmeticError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError)


def sources_of(report: Report, study: Study) -> dict[str, Source]:
    """Series uid → images, of the series that were read and that come from DICOM.

    Raises:
        MedVLMError: a file is gone or refers to nothing.
    """
    shown = {image.series for image in report.images} | {series.uid for series in report.series if series.used}
    found = {series.uid: read_source(series) for series in study.series if series.uid in shown}
    return {uid: source for uid, source in found.items() if source is not None}


def write_dicom(
    report: Report,
    study: Study,
    masks: Sequence[Mask],
    folder: Path,
    pdf: Path | None = None,
    seg: SegKind = "binary",
) -> tuple[Path, ...]:
    """Write every object and return the files; none where the study does not come from DICOM.

    Headers that are too damaged to be repeated give no objects, never half of them: `dicom/not-written.txt` then says
    why, and the rest of the report is not lost with them.

    Args:
        report: what to write.
        study: gives the headers of the images.
        masks: the experts' label maps.
        folder: the report's folder; key images are read from it.
        pdf: the report as PDF, for the Encapsulated PDF.
        seg: how masks are stored (`make_seg`).
    """
    target = folder / DICOM_FOLDER
    files = []
    try:
        sources = sources_of(report, study)
        with warnings.catch_warnings():
            # highdicom and pydicom quote the header in their warnings, and so the patient's name.
            warnings.simplefilter("ignore")
            for name, dataset in objects(report, sources, masks, folder, pdf, seg) if sources else ():
                path = target / f"{name}.dcm"
                path.parent.mkdir(parents=True, exist_ok=True)
                dataset.save_as(path, enforce_file_format=True)
                files.append(path)
    except MedVLMError as error:
        return _give_up(target, str(error).rpartition(": ")[2])
    except DAMAGED as error:
        # The words of the error may quote the header, and so the patient; its kind does not.
        return _give_up(target, f"the headers of the images are damaged ({type(error).__name__}).")
    return tuple(files)


def _give_up(target: Path, reason: str) -> tuple[Path, ...]:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    (target / NOT_WRITTEN).write_text(f"No DICOM objects were written: {reason}\n", encoding="utf-8")
    return ()


def objects(
    report: Report, sources: dict[str, Source], masks: Sequence[Mask], folder: Path, pdf: Path | None, kind: SegKind
) -> Iterator[tuple[str, Dataset]]:
    """Name and object, segmentations first because the SR refers to them."""
    from medvlm.reporting.dicom.documents import make_key_image, make_key_selection, make_pdf_object
    from medvlm.reporting.dicom.measurements import make_measurements
    from medvlm.reporting.dicom.narrative import make_narrative
    from medvlm.reporting.dicom.seg import make_seg

    segmented: dict[str, tuple[Dataset, Segment]] = {}
    drawn = [mask for mask in masks if mask.series in sources]
    for mask in drawn:
        made = make_seg(report, mask, sources[mask.series], kind)
        if made is not None:
            seg, segments = made
            segmented |= {segment.finding: (seg, segment) for segment in segments if segment.finding}
            yield "seg" if len(drawn) == 1 else f"seg-{mask.expert}", seg
    if report.findings:
        yield "sr", make_measurements(report, sources, segmented)
    yield "narrative", make_narrative(report, sources)
    first = next(iter(sources.values()))
    if pdf is not None:
        yield "pdf", make_pdf_object(report, first, pdf.read_bytes())
    captures = []
    for number, image in enumerate((one for one in report.images if one.series in sources), start=1):
        captures.append((image, make_key_image(report, image, number, sources[image.series], folder)))
        yield f"key-{number:02d}", captures[-1][1]
    selection = make_key_selection(report, captures, sources)
    if selection is not None:
        yield "selection", selection
