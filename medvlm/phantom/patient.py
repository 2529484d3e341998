"""The synthetic patient: body measures and disease, drawn at random, before anything is rendered.

Lengths are millimetres in the anatomy frame: x to the patient's right, y to anterior, z to superior (RAS+), with the
origin in the middle of the chest at the height of the hila.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Side = Literal["right", "left"]
SIDES: tuple[Side, Side] = ("right", "left")
LOBES: dict[int, str] = {
    1: "right upper lobe",
    2: "right middle lobe",
    3: "right lower lobe",
    4: "left upper lobe",
    5: "left lower lobe",
}
LABELS: dict[int, str] = {**LOBES, 6: "heart", 7: "lung nodule", 8: "pleural effusion"}
HEART, NODULE, EFFUSION = 6, 7, 8

# How often 0, 1, 2, 3, 4 nodules occur, and in which lobe (cancers favour the upper lobes, the right lung is larger).
NODULE_COUNTS = (0.30, 0.32, 0.20, 0.11, 0.07)
LOBE_WEIGHTS = (0.27, 0.13, 0.22, 0.21, 0.17)
ENLARGED_RATIO = 0.5


@dataclass(frozen=True)
class Anatomy:
    """Measures of one body.

    Attributes:
        cage: half width and half depth of the inner rib cage at its widest.
        wall: thickness of the chest wall at the side and at the back.
        fat: thickness of the fat under the skin.
        apex: z of the lung apices.
        domes: z of the right and left diaphragm dome.
        recess: how deep the costophrenic recess reaches below the dome.
        spine: y of the centre of the vertebral bodies.
        oblique: z at y = 0, slope and curvature of the right and left oblique fissure.
        horizontal: z and slope of the right horizontal fissure.
        heart_centre, heart_axes, heart_turn: ellipsoid, turned about z by radians.
        carina: z of the tracheal bifurcation.
        rib_pitch, rib_slope, rib_phase: spacing, descent towards anterior and offset of the ribs.
        lung_hu, blood_hu, liver_hu: mean densities.
    """

    cage: tuple[float, float]
    wall: tuple[float, float]
    fat: float
    apex: float
    domes: tuple[float, float]
    recess: float
    spine: float
    oblique: tuple[tuple[float, float, float], tuple[float, float, float]]
    horizontal: tuple[float, float]
    heart_centre: tuple[float, float, float]
    heart_axes: tuple[float, float, float]
    heart_turn: float
    carina: float
    rib_pitch: float
    rib_slope: float
    rib_phase: float
    lung_hu: float
    blood_hu: float
    liver_hu: float

    @property
    def bottom(self) -> float:
        """z of the lowest lung tissue."""
        return min(self.domes) - self.recess


@dataclass(frozen=True)
class NodulePlan:
    """A nodule to place: lobe (label 1-5), in-plane long axis in mm, grade, and what it lies against."""

    lobe: int
    long_axis: float
    grade: Literal["solid", "part-solid"]
    neighbour: Literal["", "pleura", "vessel"]


@dataclass(frozen=True)
class Patient:
    """A body, its disease and the demographic tags."""

    anatomy: Anatomy
    nodules: tuple[NodulePlan, ...]
    effusions: tuple[tuple[Side, float], ...]
    sex: Literal["F", "M"]
    age: int
    prone: bool


def draw_patient(rng: np.random.Generator) -> Patient:
    """Draw one patient; every property is independent of the scanner that will image it."""
    sex: Literal["F", "M"] = "F" if rng.random() < 0.5 else "M"
    size = rng.normal(1.0 if sex == "M" else 0.93, 0.045)
    enlarged = rng.random() < 0.35
    # Ratios near the limit of 0.5 are left in on purpose: they are the hard cases of this question.
    ratio = rng.uniform(0.505, 0.63) if enlarged else float(np.clip(rng.normal(0.44, 0.035), 0.36, 0.495))
    anatomy = _draw_anatomy(rng, size, ratio)
    count = int(rng.choice(len(NODULE_COUNTS), p=NODULE_COUNTS))
    nodules = tuple(_draw_nodule(rng) for _ in range(count))
    effusions = []
    if rng.random() < 0.38:
        sides = SIDES if rng.random() < 0.2 else (SIDES[int(rng.integers(2))],)
        effusions = [(side, round(float(np.exp(rng.uniform(np.log(50), np.log(1200)))))) for side in sides]
    age = int(np.clip(rng.normal(62, 13), 21, 89))
    return Patient(anatomy, nodules, tuple(effusions), sex, age, prone=rng.random() < 0.1)


def _draw_anatomy(rng: np.random.Generator, size: float, ratio: float) -> Anatomy:
    half_width = size * rng.uniform(126, 140)
    half_depth = size * rng.uniform(80, 94)
    right_dome = size * rng.uniform(-62, -42)
    turn = rng.uniform(0.35, 0.75)
    across, along = rng.uniform(0.6, 0.72), rng.uniform(0.66, 0.8)
    # Half extent along x of an ellipse with axes (1, across) turned by `turn`: sqrt(cos² + across² sin²).
    axis = ratio * half_width / np.hypot(np.cos(turn), across * np.sin(turn))
    heart_x = -rng.uniform(0.10, 0.2) * half_width
    heart_z = right_dome + rng.uniform(0.30, 0.45) * axis

    def fissure() -> tuple[float, float, float]:
        return (size * rng.uniform(-24, -6), rng.uniform(0.8, 1.05), rng.uniform(-0.0012, 0.0012))

    return Anatomy(
        cage=(half_width, half_depth),
        wall=(rng.uniform(24, 42), rng.uniform(24, 38)),
        fat=rng.uniform(6, 22),
        apex=size * rng.uniform(108, 126),
        domes=(right_dome, right_dome - size * rng.uniform(6, 20)),
        recess=size * rng.uniform(55, 75),
        spine=-0.66 * half_depth - rng.uniform(0, 5),
        oblique=(fissure(), fissure()),
        horizontal=(size * rng.uniform(-6, 10), rng.uniform(-0.12, 0.12)),
        heart_centre=(heart_x, 0.22 * half_depth, heart_z),
        heart_axes=(axis, axis * across, axis * along),
        heart_turn=turn,
        carina=size * rng.uniform(24, 36),
        rib_pitch=size * rng.uniform(22, 26),
        rib_slope=rng.uniform(0.35, 0.6),
        rib_phase=rng.uniform(0, 24),
        lung_hu=rng.uniform(-885, -800),
        blood_hu=rng.uniform(35, 55) if rng.random() < 0.6 else rng.uniform(120, 240),
        liver_hu=rng.uniform(45, 70),
    )


def _draw_nodule(rng: np.random.Generator) -> NodulePlan:
    lobe = int(rng.choice(5, p=LOBE_WEIGHTS)) + 1
    # Log-uniform: small ones are common, as in screening.
    long_axis = float(np.exp(rng.uniform(np.log(3.0), np.log(30.0))))
    part_solid = long_axis > 5 and rng.random() < 0.35
    neighbour = ("", "pleura", "vessel")[int(rng.choice(3, p=(0.6, 0.25, 0.15)))]
    return NodulePlan(lobe, long_axis, "part-solid" if part_solid else "solid", neighbour)  # type: ignore[arg-type]
