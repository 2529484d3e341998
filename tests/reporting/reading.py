"""A report of any DICOM study by an expert that measures the bright block."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medvlm.experts.card import Applicability, ExpertCard, ExpertResult
from medvlm.findings.codes import code
from medvlm.findings.finding import Finding, Provenance
from medvlm.findings.measure import components
from medvlm.imaging.study import Series, Study
from medvlm.reporting.generate import write_report
from medvlm.reporting.report import Report

MADE_BY = Provenance("block", "1.2.0", "ab" * 32)


class BlockExpert:
    """Segments what is brighter than the middle, measures it, and looks for an effusion that is never there."""

    weights = MADE_BY.weights
    card = ExpertCard(
        "block",
        "1.2.0",
        ("CT", "MR", "DX", "OPT"),
        ("chest",),
        "segmentation",
        "finds the block",
        {"everything": "all"},
    )

    def applies(self, series: Series) -> Applicability:
        return Applicability(series.modality in self.card.modality, "it has a block")

    def run(self, study: Study) -> ExpertResult:
        series = study.series[0]
        volume = series.volume
        grey = volume.array if volume.array.ndim == 3 else volume.array.mean(axis=-1)
        bright = grey > (float(grey.min()) + float(grey.max())) / 2
        mask = bright.astype(np.uint8)
        # A second structure, three voxels thick, that no finding speaks of.
        mask[:3, :2][mask[:3, :2] == 0] = 2
        parts = components(mask, volume, 1)
        if not parts:
            return ExpertResult("block", (), series.uid, mask, {1: "lung nodule", 2: "heart"}, seconds=0.1)
        part = parts[0]
        block = Finding(
            id="nodule-1",
            study=study.uid,
            concept=code("lung_nodule"),
            presence="present",
            provenance=MADE_BY,
            probability=0.875,
            calibrated=True,
            laterality=code("right") if volume.oriented else None,
            site=code("upper_lobe"),
            grade="solid",
            measurements=part.measurements(),
            evidence=(part.evidence(series.uid),),
        )
        absent = Finding(
            "effusion-0", study.uid, code("pleural_effusion"), "absent", MADE_BY, 0.0123, laterality=code("left")
        )
        return ExpertResult("block", (block, absent), series.uid, mask, {1: "lung nodule", 2: "heart"}, seconds=0.1)

    def select(self, findings: tuple[Finding, ...], argument: str) -> tuple[Finding, ...]:
        return findings


def report_of(study: Study, out: Path, formats: tuple[str, ...] = ("dicom",), **options: object) -> Report:
    return write_report(study, [BlockExpert()], out, formats=formats, **options)  # type: ignore[arg-type, list-item]
