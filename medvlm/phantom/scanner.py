"""The synthetic scanner: protocol, grid, pose and image orientation of one acquisition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.phantom.patient import Anatomy

PresetName = Literal["small", "full"]


@dataclass(frozen=True)
class Preset:
    """Ranges from which a protocol is drawn: matrix sizes, slice spacing (mm) and noise (HU)."""

    name: str
    matrix: tuple[int, ...]
    slice_spacing: tuple[float, float]
    noise: tuple[float, float]


PRESETS: dict[str, Preset] = {
    "small": Preset("small", (144, 152, 160, 168, 176), (3.6, 5.0), (8.0, 26.0)),
    "full": Preset("full", (512,), (1.0, 2.5), (14.0, 45.0)),
}


def find_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        MedVLMError: there is none.
    """
    if name not in PRESETS:
        raise MedVLMError(f"no phantom preset '{name}'; there are: {', '.join(PRESETS)}.")
    return PRESETS[name]


@dataclass(frozen=True)
class Scanner:
    """A make of scanner as its tags show it (the makers are invented)."""

    manufacturer: str
    model: str
    software: str
    soft: str
    sharp: str
    signed: bool


SCANNERS = (
    Scanner("Aster Imaging", "Aster 64", "VA40B", "B31f", "B60f", False),
    Scanner("Northlight Medical", "NL Prime", "16MW22.4", "STANDARD", "LUNG", True),
    Scanner("Kestrel Systems", "Kestrel One", "7.0SP1", "FC08", "FC52", True),
    Scanner("Ostrava CT", "OCT-128", "4.1.6", "B", "YC", False),
)


@dataclass(frozen=True, eq=False)
class Acquisition:
    """How one study was taken.

    Attributes:
        scanner: the make.
        sharp: lung kernel (sharper edges, more and finer noise) instead of the soft one.
        kvp, current: tube voltage (kV) and current (mA).
        noise: standard deviation of the noise in HU.
        shape: `(I, J, K)` columns, rows, slices.
        affine: voxel index `(i, j, k)` → RAS+ millimetres of the patient.
        pose: anatomy frame → RAS+ millimetres of the patient.
        position: DICOM PatientPosition (`HFS`, `HFP`, ...).
        descending: instance numbers count from the top down.
    """

    scanner: Scanner
    sharp: bool
    kvp: int
    current: int
    noise: float
    shape: tuple[int, int, int]
    affine: np.ndarray
    pose: np.ndarray
    position: str
    descending: bool

    @property
    def kernel(self) -> str:
        return self.scanner.sharp if self.sharp else self.scanner.soft


def rotation(axis: int, radians: float) -> np.ndarray:
    """`[3, 3]` rotation about one coordinate axis."""
    a, b = [other for other in range(3) if other != axis]
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = np.cos(radians)
    matrix[a, b], matrix[b, a] = -np.sin(radians), np.sin(radians)
    return matrix


def draw_acquisition(rng: np.random.Generator, preset: Preset, anatomy: Anatomy, prone: bool) -> Acquisition:
    """Draw one acquisition that covers the whole chest of that anatomy."""
    scanner = SCANNERS[int(rng.integers(len(SCANNERS)))]
    sharp = rng.random() < 0.4
    matrix = int(rng.choice(preset.matrix))
    spacing = rng.uniform(*preset.slice_spacing)
    oblique = rng.random() < 0.12
    top, bottom = anatomy.apex + rng.uniform(12, 24), anatomy.bottom - rng.uniform(8, 20)
    count = int(np.ceil((top - bottom + (20 if oblique else 0)) / spacing)) + 1
    field = 2 * (anatomy.cage[0] + anatomy.wall[0]) * rng.uniform(1.02, 1.1)
    directions, position = _draw_orientation(rng, prone, oblique)
    pose = np.eye(4)
    pose[:3, :3] = rotation(2, rng.normal(0, np.deg2rad(2.5)))
    pose[:3, 3] = rng.uniform((-15, -15, -600), (15, 15, 600))
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array([field / matrix, field / matrix, spacing])
    centre = pose @ np.array([*rng.uniform(-6, 6, 2), (top + bottom) / 2, 1.0])
    shape = (matrix, matrix, count)
    # As on a scanner console, positions are kept to a micrometre, so that tags and affine say exactly the same.
    affine[:3, 3] = np.round(centre[:3] - affine[:3, :3] @ ((np.array(shape) - 1) / 2), 3)
    noise = rng.uniform(*preset.noise) * (1.7 if sharp else 1.0)
    kvp, current = int(rng.choice((80, 100, 120, 120, 140))), int(rng.integers(40, 400))
    descending = rng.random() < 0.5
    return Acquisition(scanner, sharp, kvp, current, noise, shape, affine, pose, position, descending)


def _draw_orientation(rng: np.random.Generator, prone: bool, oblique: bool) -> tuple[np.ndarray, str]:
    """`[3, 3]` unit directions of columns, rows and slices (RAS+, right-handed) and the patient position."""
    right, anterior, superior = np.eye(3)
    if prone:
        return np.stack([right, anterior, superior], axis=1), "HFP"
    if rng.random() < 0.1:
        # Feet first without the usual mirroring: the patient's left is on the left of the image, slices run down.
        return np.stack([right, -anterior, -superior], axis=1), "FFS"
    directions = np.stack([-right, -anterior, superior], axis=1)
    if oblique:
        tilt = rotation(0, rng.uniform(-0.12, 0.12)) @ rotation(1, rng.uniform(-0.06, 0.06))
        directions = np.round(tilt @ directions, 6)
        directions[:, 0] /= np.linalg.norm(directions[:, 0])
        directions[:, 1] -= directions[:, 0] * (directions[:, 0] @ directions[:, 1])
        directions[:, 1] /= np.linalg.norm(directions[:, 1])
        directions[:, 2] = np.cross(directions[:, 0], directions[:, 1])
    return directions, "HFS"
