"""One case of the phantom clinic, in memory: volume, label map and truth from a seed and a number."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medvlm.findings.finding import Finding
from medvlm.imaging.study import Volume
from medvlm.phantom.body import Body, render_body
from medvlm.phantom.grid import Grid, make_grid
from medvlm.phantom.lesions import Effusion, Nodule, place_effusion, place_nodule
from medvlm.phantom.patient import Patient, draw_patient
from medvlm.phantom.scanner import Acquisition, draw_acquisition, find_preset
from medvlm.phantom.texture import add_lung_texture, add_noise
from medvlm.phantom.vessels import render_vessels

HU_RANGE = (-1024, 3071)


@dataclass(frozen=True, eq=False)
class PhantomCase:
    """A synthetic chest CT with known truth.

    Attributes:
        id: `CT-0001`; `patient_id`: `P-0001`.
        seed, index: what it was made from.
        patient: the body and disease that were asked for.
        acquisition: how it was scanned.
        volume: `[I, J, K]` int16 HU, on the grid that reading its DICOM series gives.
        labels: `[I, J, K]` uint8, see `medvlm.phantom.patient.LABELS`.
        nodules, effusions: what is really in the volume, nodules from the largest to the smallest.
        cardiothoracic_ratio: heart width over inner chest width.
    """

    id: str
    patient_id: str
    seed: int
    index: int
    patient: Patient
    acquisition: Acquisition
    volume: Volume
    labels: np.ndarray
    nodules: tuple[Nodule, ...]
    effusions: tuple[Effusion, ...]
    cardiothoracic_ratio: float

    def uid(self, what: str) -> str:
        """A DICOM UID made from the seed, the case number and what it names (`study`, `series`, `image 7`)."""
        digest = hashlib.sha256(f"medvlm phantom {self.seed} {self.index} {what}".encode()).digest()
        return f"2.25.{int.from_bytes(digest[:16], 'big')}"

    def canonical_slice(self, nodule: Nodule) -> int:
        """Index of a nodule's slice along the canonical superior axis (0 = lowest)."""
        descending = self.acquisition.affine[2, 2] < 0
        return self.labels.shape[2] - 1 - nodule.slice if descending else nodule.slice

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """The truth as Findings (expert `truth`)."""
        from medvlm.phantom.truth import true_findings

        return true_findings(self)


def generate_case(seed: int, index: int, preset: str = "small") -> PhantomCase:
    """Make case `index` (0, 1, 2, ...) of the cohort with that seed, without touching a file.

    The same arguments give the same voxels, on any number of workers and whatever was made before.

    Raises:
        MedVLMError: there is no preset of that name.
    """
    protocol = find_preset(preset)
    # Two streams: the patient is the same person whatever scanner (preset) is used.
    patient = draw_patient(np.random.default_rng([seed, index, 0]))
    rng = np.random.default_rng([seed, index, 1])
    acquisition = draw_acquisition(rng, protocol, patient.anatomy, patient.prone)
    grid = make_grid(acquisition)
    body = render_body(grid, patient.anatomy, acquisition.pose, patient.prone)
    vessels = render_vessels(rng, grid, patient.anatomy, body)
    add_lung_texture(rng, grid, body)
    effusions = tuple(place_effusion(grid, body, side, volume, patient.prone) for side, volume in patient.effusions)
    nodules = _place_nodules(rng, grid, body, patient, vessels, acquisition)
    add_noise(rng, acquisition, body.hu)
    # Rounded before the cast, so that equal HU give equal integers on every machine.
    stored = np.clip(np.rint(body.hu), *HU_RANGE).astype(np.int16)
    return PhantomCase(
        id=f"CT-{index + 1:04d}",
        patient_id=f"P-{index + 1:04d}",
        seed=seed,
        index=index,
        patient=patient,
        acquisition=acquisition,
        volume=Volume(stored.transpose(2, 1, 0), acquisition.affine, unit="HU"),
        labels=body.labels.transpose(2, 1, 0),
        nodules=nodules,
        effusions=effusions,
        cardiothoracic_ratio=body.heart_width / body.chest_width,
    )


def _place_nodules(
    rng: np.random.Generator, grid: Grid, body: Body, patient: Patient, vessels: np.ndarray, acquisition: Acquisition
) -> tuple[Nodule, ...]:
    placed = []
    # Large ones first: they are the ones that may not find room.
    for plan in sorted(patient.nodules, key=lambda plan: -plan.long_axis):
        nodule = place_nodule(rng, grid, body, plan, vessels, acquisition.pose)
        if nodule is not None:
            placed.append(nodule)
    return tuple(sorted(placed, key=lambda nodule: -nodule.long_axis))
