"""What an expert says of itself (the card) and what it gives back (the result)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from medvlm.findings.finding import Finding


@dataclass(frozen=True)
class ExpertCard:
    """The facts about an expert that the VLM reads and the user sees; from the bundle's `findings.yaml`.

    Attributes:
        name: folder name in snake case (`chest_ct`); the trigger name is its upper case (`CHEST_CT`).
        version: version of the bundle.
        modality: DICOM modality codes it accepts.
        body_part: body parts it accepts, lower case.
        task: `segmentation` or `classification`.
        summary: one sentence.
        arguments: argument → what it gives (`{"nodules": "lung nodules: number, size, ..."}`).
        accuracy: metric → value, measured by the command named in the bundle's README.
        limits: what it cannot do, one sentence.
        licence: SPDX name of the weights' licence.
    """

    name: str
    version: str
    modality: tuple[str, ...]
    body_part: tuple[str, ...]
    task: str
    summary: str
    arguments: Mapping[str, str]
    accuracy: Mapping[str, float] = field(default_factory=dict)
    limits: str = ""
    licence: str = ""

    @property
    def trigger_name(self) -> str:
        return self.name.upper()


@dataclass(frozen=True)
class Applicability:
    """Whether an expert may run on a series, and why (not)."""

    ok: bool
    reason: str


@dataclass(frozen=True, eq=False)
class ExpertResult:
    """What one run of one expert on one study gives.

    Attributes:
        expert: name of the expert.
        findings: the coded facts (all arguments; filter by `select`).
        series: uid of the series that was read.
        mask: `[I, J, K]` uint8 label map on that series' own grid, or None (classification).
        labels: label number → structure name of `mask`.
        classes: class name → probability, for experts with a class head.
        seconds: wall time of the run.
    """

    expert: str
    findings: tuple[Finding, ...]
    series: str
    mask: np.ndarray | None = None
    labels: Mapping[int, str] = field(default_factory=dict)
    classes: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
