"""A Study under the eyes of the experts: which can run, which apply, what they found."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medvlm.errors import MedVLMError
from medvlm.experts.card import ExpertResult
from medvlm.findings.finding import Finding
from medvlm.imaging.study import Series, Skipped, Study
from medvlm.reporting.report import ExpertUse, SeriesUse

if TYPE_CHECKING:
    from medvlm.experts.expert import Expert


@dataclass(frozen=True, eq=False)
class Reading:
    """A study after the experts have read it.

    Attributes:
        study: the part of the study whose voxels can be read.
        results: one for each expert that ran.
        uses: every expert, and why it ran or not.
        experts: those that ran.
        used: the series that were read.
        shown: the series that are shown: those that were read, else the first.
        findings: of all experts, with ids that do not clash.
    """

    study: Study
    results: tuple[ExpertResult, ...]
    uses: tuple[ExpertUse, ...]
    experts: tuple[Expert, ...]
    used: tuple[Series, ...]
    shown: tuple[Series, ...]
    findings: tuple[Finding, ...]


def read_with_experts(study: Study, experts: Sequence[Expert], untrained: Sequence[ExpertUse] = ()) -> Reading:
    """Run the experts that apply.

    Args:
        study: what to read.
        experts: who may be asked.
        untrained: installed experts that cannot run yet; they are listed.

    Raises:
        MedVLMError: no series can be read.
    """
    study = readable_part(study, {modality for expert in experts for modality in expert.card.modality})
    results, uses = run_experts(study, experts)
    names = {result.expert for result in results}
    read = {result.series for result in results}
    used = tuple(series for series in study.series if series.uid in read)
    return Reading(
        study=study,
        results=tuple(results),
        uses=(*uses, *untrained),
        experts=tuple(expert for expert in experts if expert.card.name in names),
        used=used,
        shown=used or study.series[:1],
        findings=collect_findings(results),
    )


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
