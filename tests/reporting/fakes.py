"""An expert for tests: says what it was given, on any CT."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medvlm.experts.card import Applicability, ExpertCard, ExpertResult
from medvlm.findings.finding import Finding
from medvlm.imaging.study import Series, Study


class FakeExpert:
    """Applies to CT; returns fixed findings and a fixed mask on the first CT series."""

    weights = "ef" * 32

    def __init__(
        self,
        findings: Sequence[Finding] = (),
        mask: np.ndarray | None = None,
        labels: dict[int, str] | None = None,
        name: str = "chest_ct",
    ) -> None:
        self.card = ExpertCard(
            name=name,
            version="0.1.0",
            modality=("CT",),
            body_part=("chest",),
            task="segmentation",
            summary="finds lung nodules",
            arguments={"everything": "all"},
            accuracy={"nodule_dice": 0.87},
            limits="synthetic chest CT only",
        )
        self.findings, self.mask, self.labels = tuple(findings), mask, labels or {}

    def applies(self, series: Series) -> Applicability:
        ok = series.modality == "CT"
        return Applicability(ok, "CT" if ok else f"the modality is {series.modality or 'unknown'}, it reads CT")

    def run(self, study: Study) -> ExpertResult:
        series = next(item for item in study.series if item.modality == "CT")
        return ExpertResult(self.card.name, self.findings, series.uid, mask=self.mask, labels=self.labels, seconds=1.5)

    def select(self, findings: Sequence[Finding], argument: str) -> tuple[Finding, ...]:
        return tuple(findings)
