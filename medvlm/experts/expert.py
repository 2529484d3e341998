"""An expert: from a Study to Findings."""

from __future__ import annotations

import time

import torch

from medvlm.errors import MedVLMError
from medvlm.experts.applicability import check_header, check_series
from medvlm.experts.bundle import Bundle
from medvlm.experts.card import Applicability, ExpertCard, ExpertResult
from medvlm.experts.infer import Predictor
from medvlm.experts.to_findings import Reading, read_findings_of
from medvlm.findings.codes import code
from medvlm.findings.finding import Finding
from medvlm.imaging.study import Series, Study


class Expert:
    """A trained bundle on a device. Made by `load_expert`."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle = bundle
        self.card: ExpertCard = bundle.card
        self.weights = bundle.weights_hash()
        self.predictor = Predictor(bundle, device)

    @property
    def name(self) -> str:
        return self.bundle.name

    def applies(self, series: Series) -> Applicability:
        """Whether this expert may read a series, and why (not). Reads the voxels if the header fits."""
        return check_series(self.bundle, series)

    def choose(self, study: Study) -> Series:
        """The series to read: the applicable one with the most slices.

        Raises:
            MedVLMError: none applies; gives the reason for each series.
        """
        refused = []
        # Headers first: the voxels of series that cannot apply are never read.
        fitting = [series for series in study.series if check_header(self.bundle, series).ok]
        applicable = []
        for series in study.series:
            verdict = self.applies(series) if series in fitting else check_header(self.bundle, series)
            if verdict.ok:
                applicable.append(series)
            else:
                refused.append(f"{series.description or series.modality or series.uid}: {verdict.reason}")
        if not applicable:
            raise MedVLMError(f"the expert {self.name} applies to no series ({'; '.join(refused) or 'there is none'}).")
        return max(applicable, key=lambda series: series.volume.array.shape[2])

    def run(self, study: Study) -> ExpertResult:
        """Read the best series of a study.

        Raises:
            MedVLMError: no series applies (see `choose`).
        """
        return self.run_series(study, self.choose(study))

    def run_series(self, study: Study, series: Series) -> ExpertResult:
        """Read one series, without asking whether the expert applies."""
        start = time.perf_counter()
        volume = series.volume
        prediction = self.predictor.predict(volume)
        reading = Reading(self.bundle, study.uid, series.uid, volume, prediction, self.weights)
        return ExpertResult(
            expert=self.name,
            findings=read_findings_of(reading),
            series=series.uid,
            mask=prediction.mask,
            labels={number: name for number, name in self.bundle.labels.items() if number},
            classes=prediction.classes,
            seconds=time.perf_counter() - start,
        )

    def select(self, findings: tuple[Finding, ...], argument: str) -> tuple[Finding, ...]:
        """The Findings that a trigger's argument asks for; `everything` (or nothing) asks for all.

        Raises:
            MedVLMError: the expert has no such argument (lists those it has).
        """
        return select_findings(self.bundle, findings, argument)


def select_findings(bundle: Bundle, findings: tuple[Finding, ...], argument: str) -> tuple[Finding, ...]:
    """The Findings of a bundle's expert that an argument asks for; see `Expert.select`."""
    wanted = argument.strip().lower()
    if wanted in ("", "everything"):
        return findings
    if wanted not in bundle.spec.arguments:
        known = ", ".join(bundle.spec.arguments)
        raise MedVLMError(f"the expert {bundle.name} has no argument '{argument}'; there are: {known}.")
    concepts = {code(rule.concept) for rule in bundle.spec.rules if rule.argument == wanted}
    return tuple(finding for finding in findings if finding.concept in concepts)
