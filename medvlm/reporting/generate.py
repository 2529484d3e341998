"""From a Study to a Report: the experts read it, the text is written and checked, the evidence is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import medvlm
from medvlm.findings.finding import Finding
from medvlm.imaging.study import Study
from medvlm.imaging.text import clean_text
from medvlm.reporting.comparison import compare, comparison_section
from medvlm.reporting.compose import (
    abstain,
    compose_doubts,
    compose_sections,
    compose_technique,
    coverage_doubts,
    guideline_doubts,
    indication_section,
    input_doubts,
    prior_doubts,
    title_of,
)
from medvlm.reporting.draft import Draft, VLMWriter, check_draft, correct_draft, draft_from_findings
from medvlm.reporting.evidence import draw_images
from medvlm.reporting.exam import exam_of
from medvlm.reporting.formats import Material, choose_formats
from medvlm.reporting.guidelines import judge, violated
from medvlm.reporting.masks import masks_of, write_masks
from medvlm.reporting.numbers import require_traced
from medvlm.reporting.read_study import Reading, describe_series, open_experts, read_with_experts
from medvlm.reporting.report import ExpertUse, Method, Report, Section
from medvlm.reporting.writer import report_folder, write_parts

if TYPE_CHECKING:
    from medvlm.experts.expert import Expert
    from medvlm.reporting.dicom.seg import SegKind

__all__ = ["Options", "open_experts", "render_report", "write_report"]

LONGEST_INDICATION = 300


@dataclass(frozen=True)
class Options:
    """What a user may ask of a report.

    Attributes:
        formats: names in `reporting/formats.py`; None: all whose packages are installed.
        indication: why the study was made, in words.
        prior: findings of an earlier study (`read_prior`).
        pathways: guidelines to judge by; None: that of the exam type.
        correct: sentences of the model that contradict a measurement are written again, with a trace.
        seg: how DICOM segmentations store masks: `binary`, or the smaller `labelmap` that few viewers read yet.
    """

    formats: tuple[str, ...] | None = None
    indication: str = ""
    prior: tuple[Finding, ...] = ()
    pathways: tuple[str, ...] | None = None
    correct: bool = False
    seg: SegKind = "binary"


def write_report(
    study: Study,
    experts: Sequence[Expert],
    out: Path,
    model: str | VLMWriter | None = None,
    device: str = "auto",
    untrained: Sequence[ExpertUse] = (),
    formats: Sequence[str] | None = None,
    options: Options | None = None,
) -> Report:
    """Write `report.json`, key images, masks and the chosen formats into `out`, all of them or none.

    Args:
        study: what to report.
        experts: who may be asked; those that do not apply are listed with the reason.
        out: folder; an earlier report in it is replaced, other files are left alone.
        model: folder or hub id of a vision-language model that writes the text (or an opened one); None: text from the
            measurements.
        device: where the model runs.
        untrained: installed experts that cannot run yet; they are listed in the report.
        formats: as in `Options`, where no options are given.
        options: what else is asked for.

    Raises:
        MedVLMError: no pixels can be read, the model cannot be loaded, a number in the text is in no measurement, or
            `out` cannot be written to.
    """
    options = options or Options(None if formats is None else tuple(formats))
    choose_formats(options.formats)
    writer = VLMWriter(model, device) if isinstance(model, str) else model
    reading = read_with_experts(study, experts, untrained)
    answer = writer.write_many([reading])[0] if writer is not None and reading.results else None
    return render_report(reading, out, options, writer, answer)


def render_report(
    reading: Reading, out: Path, options: Options, writer: VLMWriter | None = None, answer: str | None = None
) -> Report:
    """Compose, check and write the report of a study that was read.

    Args:
        reading: what the experts found.
        out: the report's folder.
        options: what is asked for.
        writer: the model that wrote the text, if one did.
        answer: its text.

    Raises:
        MedVLMError: as `write_report`.
    """
    chosen, _ = choose_formats(options.formats)
    with report_folder(out) as folder:
        report = compose_report(reading, folder, options, writer, answer)
        masks = masks_of(reading.results, reading.study)
        write_parts(Material(report, reading.study, masks, folder, options.seg), chosen)
    return report


def compose_report(
    reading: Reading, folder: Path, options: Options, writer: VLMWriter | None, answer: str | None
) -> Report:
    """The Report, its key images and masks written into `folder`."""
    study, findings, shown = reading.study, reading.findings, reading.shown
    exam = exam_of(shown)
    images = draw_images(shown, reading.results, findings, folder)
    text, draft = "none, because no expert applies", Draft(())
    changes = compare(findings, options.prior)
    guidelines = judge(findings, exam, options.pathways, changes)
    if not reading.results:
        sections, doubts = abstain(reading.uses)
    else:
        draft, text = draft_from_findings(findings), "from the measurements"
        if answer is not None:
            draft, text = check_draft(answer, findings), "model, checked against measurements"
            if options.correct and writer is not None:
                draft, text = (
                    correct_draft(draft, findings, writer.rewrite, writer.choose),
                    "model, corrected by measurements",
                )
        sections, doubts = compose_sections(findings, draft), compose_doubts(findings, draft)
        doubts += guideline_doubts(guidelines, violated(answer or "", guidelines))
    indication = clean_text(options.indication, LONGEST_INDICATION)
    extra: list[Section | None] = [indication_section(indication), comparison_section(changes, findings, options.prior)]
    by_model = writer is not None and answer is not None
    report = Report(
        study=study.uid,
        title=exam.name or title_of(shown),
        sections=(
            *sections,
            *(section for section in extra if section is not None),
            compose_technique(shown, [expert.card for expert in reading.experts]),
        ),
        method=Method(
            medvlm=medvlm.__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            text=text,
            model=writer.name if writer and by_model else None,
            model_weights=writer.weights if writer and by_model else "",
        ),
        findings=findings,
        doubts=(
            *doubts,
            *prior_doubts(options.prior),
            *input_doubts(study, shown),
            *(coverage_doubts(exam, findings) if reading.results else ()),
        ),
        images=images,
        experts=reading.uses,
        series=tuple(describe_series(series, series in shown, series in reading.used) for series in study.series),
        masks=write_masks(masks_of(reading.results, study), folder),
        guidelines=guidelines,
        changes=changes,
        prior=options.prior,
        revisions=draft.revisions,
    )
    require_traced(report)
    return report
