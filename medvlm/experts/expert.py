"""An expert: from a Study to Findings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from medvlm.errors import MedVLMError
from medvlm.experts.applicability import check_header, check_series, choose_inputs
from medvlm.experts.bundle import Bundle
from medvlm.experts.card import Applicability, ExpertCard, ExpertResult
from medvlm.experts.infer import Prediction, Predictor
from medvlm.experts.result_cache import ResultCache, result_key
from medvlm.experts.to_findings import Reading, read_findings_of
from medvlm.findings.codes import code
from medvlm.findings.finding import Finding
from medvlm.imaging.study import Series, Study, Volume

if TYPE_CHECKING:
    from medvlm.experts.chain import ChainRunner
    from medvlm.experts.ensemble import EnsembleRunner
    from medvlm.experts.totalsegmentator import ToolRunner

    Runner = Predictor | ChainRunner | EnsembleRunner | ToolRunner
else:
    Runner = Any


class Expert:
    """A trained bundle on a device. Made by `load_expert`."""

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle = bundle
        self.card: ExpertCard = bundle.card
        self.weights = bundle.weights_hash()
        self.predictor: Runner = make_runner(bundle, device)

    @property
    def name(self) -> str:
        return self.bundle.name

    @property
    def prompted(self) -> bool:
        """The network looks only for what it is asked for, so that a result is of one argument."""
        return bool(self.bundle.spec.prompt)

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self.predictor.device

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

    def run(self, study: Study, argument: str = "") -> ExpertResult:
        """Read the best series of a study.

        Args:
            study: what to read.
            argument: what is asked for. An expert that looks for what it is told to (a prompted network) looks for
                that alone; others ignore it, and `select` filters.

        Raises:
            MedVLMError: no series applies (see `choose`), or the expert has no such argument.
        """
        if self.bundle.spec.inputs:
            return self._read(study, choose_inputs(self.bundle, study), argument)
        return self.run_series(study, self.choose(study), argument)

    def run_series(self, study: Study, series: Series, argument: str = "") -> ExpertResult:
        """Read one series, without asking whether the expert applies.

        A result that is kept from before (see `medvlm.experts.result_cache`) is not computed again.
        """
        return self._read(study, [series], argument)

    def _read(self, study: Study, series: Sequence[Series], argument: str) -> ExpertResult:
        start = time.perf_counter()
        volumes = [one.volume for one in series]
        cache = ResultCache.of_user()
        if cache is not None:
            asked = argument.strip().lower() if self.prompted else ""
            key = result_key(self.bundle, self.weights, volumes, asked, self.device, self.predictor.precision)
            kept = cache.get(key, study.uid, series[0].uid)
            if kept is not None:
                return kept
        prediction = self._predict(volumes, argument)
        reading = Reading(self.bundle, study.uid, series[0].uid, volumes[0], prediction, self.weights, argument)
        findings = read_findings_of(reading)
        if any(volume.interpolated for volume in volumes):
            # The calibration is of measured slices; where some are interpolated, its word cannot be given.
            findings = tuple(replace(finding, calibrated=False) for finding in findings)
        result = ExpertResult(
            expert=self.name,
            findings=findings,
            series=series[0].uid,
            mask=prediction.mask if self.bundle.labels else None,
            labels={number: name for number, name in self.bundle.labels.items() if number},
            classes=prediction.classes,
            seconds=time.perf_counter() - start,
        )
        if cache is not None:
            cache.put(key, result)
        return result

    def _predict(self, volumes: Sequence[Volume], argument: str) -> Prediction:
        if isinstance(self.predictor, Predictor):
            return self.predictor.predict(volumes[0])
        wanted = argument.strip().lower()
        if wanted not in ("", "everything", *self.bundle.spec.arguments):
            select_findings(self.bundle, (), argument)
        return self.predictor.predict(volumes, self.bundle.spec.structures_of(argument))

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
    return tuple(f for f in findings if wanted in arguments_of(bundle, f))


def arguments_of(bundle: Bundle, finding: Finding) -> set[str]:
    """The arguments that ask for a Finding: of the rule that made it, else of the rules about its concept."""
    # A Finding's id is its rule's, or begins with it and a dash.
    made = {rule.argument for rule in bundle.spec.rules if f"{finding.id}-".startswith(f"{rule.id}-")}
    return made or {r.argument for r in bundle.spec.rules if r.concept and code(r.concept) == finding.concept}


def make_runner(bundle: Bundle, device: torch.device) -> Runner:
    """What runs a bundle's network; `runner` in `findings.yaml` says which."""
    if bundle.spec.runner == "chain":
        from medvlm.experts.chain import ChainRunner

        return ChainRunner(bundle, device)
    if bundle.spec.runner == "ensemble":
        from medvlm.experts.ensemble import EnsembleRunner

        return EnsembleRunner(bundle, device)
    if bundle.spec.runner == "totalsegmentator":
        from medvlm.experts.totalsegmentator import ToolRunner

        return ToolRunner(bundle, device)
    return Predictor(bundle, device)
