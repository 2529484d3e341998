"""From a Study to a Report: choose the experts that fit, run them, write the text, check it, show the evidence."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import medvlm
from medvlm.errors import MedVLMError
from medvlm.experts.card import ExpertResult
from medvlm.findings.finding import Finding
from medvlm.imaging.study import Series, Skipped, Study
from medvlm.reporting.compose import (
    abstain,
    compose_doubts,
    compose_sections,
    compose_technique,
    input_doubts,
    title_of,
)
from medvlm.reporting.draft import VLMWriter, check_draft, draft_from_findings
from medvlm.reporting.evidence import draw_images
from medvlm.reporting.formats import Material, choose_formats
from medvlm.reporting.masks import masks_of, write_masks
from medvlm.reporting.report import ExpertUse, Method, Report, SeriesUse
from medvlm.reporting.writer import report_folder, write_parts

if TYPE_CHECKING:
    from medvlm.experts.expert import Expert


def write_report(
    study: Study,
    experts: Sequence[Expert],
    out: Path,
    model: str | None = None,
    device: str = "auto",
    untrained: Sequence[ExpertUse] = (),
    formats: Sequence[str] | None = None,
) -> Report:
    """Write `report.json`, key images, masks and the chosen formats into `out`, all of them or none.

    Args:
        study: what to report.
        experts: who may be asked; those that do not apply are listed with the reason.
        out: folder; an earlier report in it is replaced, other files are left alone.
        model: folder or hub id of a vision-language model that writes the text; None: text from the measurements.
        device: where the model runs.
        untrained: installed experts that cannot run yet; they are listed in the report.
        formats: names in `reporting/formats.py`; None: all whose packages are installed.

    Raises:
        MedVLMError: no pixels can be read, the model cannot be loaded, or `out` cannot be written to.
    """
    chosen, _ = choose_formats(formats)
    writer = VLMWriter(model, device) if model is not None else None
    study = readable_part(study, {modality for expert in experts for modality in expert.card.modality})
    results, uses = run_experts(study, experts)
    uses = (*uses, *untrained)
    ran = [expert for expert in experts if expert.card.name in {result.expert for result in results}]
    used = [series for series in study.series if series.uid in {result.series for result in results}]
    shown = used or list(study.series[:1])
    findings = collect_findings(results)
    with report_folder(out) as folder:
        images = draw_images(shown, results, findings, folder)
        masks = masks_of(results, study)
        text, by_model = "none, because no expert applies", False
        if not results:
            sections, doubts = abstain(uses)
        else:
            draft, text = draft_from_findings(findings), "from the measurements"
            if writer is not None:
                answer = writer.write(study, ran, results, folder)
                draft, text, by_model = check_draft(answer, findings), "model, checked against measurements", True
            sections, doubts = compose_sections(findings, draft), compose_doubts(findings, draft)
        report = Report(
            study=study.uid,
            title=title_of(shown),
            sections=(*sections, compose_technique(shown, [expert.card for expert in ran])),
            method=Method(
                medvlm=medvlm.__version__,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                text=text,
                model=writer.name if writer and by_model else None,
                model_weights=writer.weights if writer and by_model else "",
            ),
            findings=findings,
            doubts=(*doubts, *input_doubts(study, shown)),
            images=images,
            experts=uses,
            series=tuple(describe_series(series, series in shown, series in used) for series in study.series),
            masks=write_masks(masks, folder),
        )
        write_parts(Material(report, study, masks, folder), chosen)
    return report


def open_experts(names: Sequence[str] | None, device: str = "auto") -> tuple[list[Expert], tuple[ExpertUse, ...]]:
    """The experts of these names, or every installed one.

    Returns:
        The experts, and those that are installed but have no weights yet (only where no names are given).

    Raises:
        MedVLMError: an unknown name, a named expert without weights, or a device that is not there.
    """
    from medvlm.experts.infer import choose_device
    from medvlm.experts.registry import list_bundles, load_expert

    choose_device(device)
    if names is not None:
        return [load_expert(name, device) for name in names], ()
    experts, untrained = [], []
    for bundle in list_bundles():
        if bundle.weights.is_file():
            experts.append(load_expert(bundle.root, device))
        else:
            card = bundle.card
            untrained.append(ExpertUse(card.name, card.version, card.summary, False, "it has no weights yet"))
    return experts, tuple(untrained)


def readable_part(study: Study, modalities: set[str]) -> Study:
    """The study without the series of these modalities whose voxels cannot be read; they are listed as skipped.

    Other modalities are not tried: no expert will read them. Where that leaves nothing to show, the first series that
    can be read is found.

    Raises:
        MedVLMError: no series can be read.
    """
    kept, skipped = [], list(study.skipped)
    problem: MedVLMError | None = None
    to_show = False
    for series in study.series:
        if series.modality in modalities or not to_show:
            try:
                _ = series.volume
                to_show = True
            except MedVLMError as error:
                problem = problem or error
                # Without the path before the colon, which may name a patient.
                skipped.append(Skipped(series.uid, str(error).partition(": ")[2] or str(error)))
                continue
        kept.append(series)
    if problem is not None and not kept:
        raise problem
    return dataclasses.replace(study, series=tuple(kept), skipped=tuple(skipped))


def run_experts(study: Study, experts: Sequence[Expert]) -> tuple[list[ExpertResult], tuple[ExpertUse, ...]]:
    """Run every expert that applies to a series of the study; say of each whether it ran and why (not)."""
    results, uses = [], []
    for expert in experts:
        card = expert.card
        verdicts = [(series, expert.applies(series)) for series in study.series]
        if not any(verdict.ok for _, verdict in verdicts):
            reason = "; ".join(dict.fromkeys(verdict.reason.rstrip(".") for _, verdict in verdicts))
            uses.append(ExpertUse(card.name, card.version, card.summary, False, reason))
            continue
        result = expert.run(study)
        results.append(result)
        reason = next(verdict.reason for series, verdict in verdicts if series.uid == result.series)
        uses.append(
            ExpertUse(
                name=card.name,
                version=card.version,
                summary=card.summary,
                ran=True,
                reason=reason,
                weights=expert.weights,
                series=result.series,
                seconds=round(result.seconds, 2),
                limits=card.limits,
            )
        )
    return results, tuple(uses)


def collect_findings(results: Sequence[ExpertResult]) -> tuple[Finding, ...]:
    """The findings of all experts; an id that two experts use is prefixed with the second expert's name."""
    taken: set[str] = set()
    collected = []
    for result in results:
        for finding in result.findings:
            if finding.id in taken:
                finding = dataclasses.replace(finding, id=f"{result.expert}-{finding.id}")
            taken.add(finding.id)
            collected.append(finding)
    return tuple(collected)


def describe_series(series: Series, read: bool, used: bool) -> SeriesUse:
    """What the report keeps of a series; size and spacing only of those that were read."""
    described = SeriesUse(
        uid=series.uid,
        modality=series.modality,
        description=series.description,
        body_part=series.body_part,
        used=used,
        notes=series.notes,
    )
    if not read:
        return described
    volume = series.volume
    spacing = tuple(round(float(edge), 4) for edge in volume.spacing) if volume.calibrated else None
    return dataclasses.replace(described, shape=tuple(int(n) for n in volume.array.shape[:3]), spacing=spacing)
