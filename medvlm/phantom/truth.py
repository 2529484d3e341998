"""The truth of a phantom as Findings, exact by construction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import medvlm
from medvlm.findings.codes import code
from medvlm.findings.finding import Evidence, Finding, Measurement, Provenance
from medvlm.phantom.patient import EFFUSION, ENLARGED_RATIO, HEART, NODULE

if TYPE_CHECKING:
    from medvlm.phantom.case import PhantomCase


def true_findings(case: PhantomCase) -> tuple[Finding, ...]:
    """One Finding a nodule (or one that says there is none), one an effusion (or none), one for the heart.

    Nodule sizes and volumes and the cardiothoracic ratio come from the analytic shapes, the volume of an effusion from
    the voxels it fills.
    """
    return (*_nodules(case), *_effusions(case), _heart(case))


def _nodules(case: PhantomCase) -> Iterator[Finding]:
    if not case.nodules:
        yield _absent(case, "nodule-0", "lung_nodule")
    for number, nodule in enumerate(case.nodules, start=1):
        yield Finding(
            id=f"nodule-{number}",
            study=case.uid("study"),
            concept=code("lung_nodule"),
            presence="present",
            probability=1.0,
            laterality=code(nodule.side),
            site=code(nodule.lobe_name.partition(" ")[2].replace(" ", "_")),
            grade=nodule.grade,
            measurements=(
                Measurement(code("long_axis"), round(nodule.long_axis, 2), "mm"),
                Measurement(code("volume"), round(nodule.volume, 4), "mL"),
            ),
            evidence=(
                Evidence(case.uid("series"), label=NODULE, slice=case.canonical_slice(nodule), centroid=nodule.centre),
            ),
            provenance=_provenance(),
        )


def _effusions(case: PhantomCase) -> Iterator[Finding]:
    if not case.effusions:
        yield _absent(case, "effusion-0", "pleural_effusion")
    for effusion in case.effusions:
        yield Finding(
            id=f"effusion-{effusion.side}",
            study=case.uid("study"),
            concept=code("pleural_effusion"),
            presence="present",
            probability=1.0,
            laterality=code(effusion.side),
            measurements=(Measurement(code("volume"), round(effusion.volume, 1), "mL"),),
            evidence=(Evidence(case.uid("series"), label=EFFUSION),),
            provenance=_provenance(),
        )


def _heart(case: PhantomCase) -> Finding:
    ratio = case.cardiothoracic_ratio
    enlarged = ratio > ENLARGED_RATIO
    return Finding(
        id="heart",
        study=case.uid("study"),
        concept=code("cardiomegaly"),
        presence="present" if enlarged else "absent",
        probability=float(enlarged),
        measurements=(Measurement(code("cardiothoracic_ratio"), round(ratio, 4), "1"),),
        evidence=(Evidence(case.uid("series"), label=HEART),),
        provenance=_provenance(),
    )


def _absent(case: PhantomCase, identifier: str, concept: str) -> Finding:
    return Finding(
        id=identifier,
        study=case.uid("study"),
        concept=code(concept),
        presence="absent",
        probability=0.0,
        provenance=_provenance(),
    )


def _provenance() -> Provenance:
    return Provenance(expert="truth", version=medvlm.__version__)
