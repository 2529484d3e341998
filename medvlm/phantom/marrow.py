"""Synthetic bone-marrow smears: fields of stained cells whose diagnosis is known because we drew it.

A field of an adequate marrow holds nucleated cells of several kinds among red cells. Acute myeloid leukaemia has at
least 20 % blasts (large cell, fine pale nucleus, nucleoli), multiple myeloma at least 10 % plasma cells (oval cell,
eccentric dense nucleus, deep blue cytoplasm with a clear zone); a healthy one has few of either. A field of blood holds
red cells only, a clot is a fibrous smudge. Pictures for learning and testing, not for teaching morphology.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import medvlm
from medvlm.errors import MedVLMError
from medvlm.findings.codes import code
from medvlm.findings.finding import Finding, Provenance, write_findings
from medvlm.imaging.cohort import Cohort, CohortEntry
from medvlm.phantom.cohort import split_of
from medvlm.storage import atomic_path

SIDE = 128  # pixels
CLASSES = ("healthy", "aml", "mm", "blood", "clot")
CELL_PIXELS = 13.0  # radius of a mid-sized nucleated cell


@dataclass(frozen=True)
class Kind:
    """How a nucleated cell looks: sizes relative to `CELL_PIXELS`, colours RGB 0..1.

    Attributes:
        size: radius of the cell.
        nucleus: radius of the nucleus over that of the cell.
        offset: distance of the nucleus from the centre, in radii.
        stretch: long over short axis.
        nuclear: colour of the nucleus; `texture` is how clumped it is.
        cytoplasm: colour of the cytoplasm.
        halo: a clear zone beside the nucleus.
        nucleoli: pale spots in the nucleus.
    """

    size: float
    nucleus: float
    offset: float
    stretch: float
    nuclear: tuple[float, float, float]
    texture: float
    cytoplasm: tuple[float, float, float]
    halo: bool = False
    nucleoli: int = 0


KINDS = {
    "blast": Kind(1.25, 0.84, 0.08, 1.05, (0.60, 0.42, 0.72), 0.04, (0.62, 0.66, 0.86), nucleoli=2),
    "plasma": Kind(1.05, 0.50, 0.42, 1.35, (0.30, 0.16, 0.42), 0.14, (0.38, 0.46, 0.78), halo=True),
    "granulocyte": Kind(1.05, 0.62, 0.12, 1.08, (0.46, 0.26, 0.56), 0.10, (0.90, 0.76, 0.82)),
    "erythroblast": Kind(0.72, 0.62, 0.05, 1.02, (0.24, 0.12, 0.36), 0.05, (0.82, 0.62, 0.68)),
    "lymphocyte": Kind(0.74, 0.86, 0.05, 1.03, (0.36, 0.20, 0.50), 0.08, (0.70, 0.76, 0.92)),
}
NORMAL = ("granulocyte", "erythroblast", "lymphocyte")


def draw_field(kind: str, rng: np.random.Generator) -> np.ndarray:
    """One smear field, `[SIDE, SIDE, 3]` uint8.

    Args:
        kind: one of `CLASSES`.
        rng: of everything random.

    Raises:
        MedVLMError: an unknown class.
    """
    if kind not in CLASSES:
        raise MedVLMError(f"there is no marrow class '{kind}'; choose {', '.join(CLASSES)}.")
    stain = rng.uniform(0.92, 1.04, 3)
    picture = np.ones((SIDE, SIDE, 3)) * np.array((0.95, 0.91, 0.92))
    if kind == "clot":
        _draw_clot(picture, rng)
    else:
        for _ in range(int(rng.integers(26, 38)) if kind == "blood" else int(rng.integers(6, 14))):
            _draw_red_cell(picture, rng)
        for name in [] if kind == "blood" else _population(kind, rng):
            _draw_cell(picture, KINDS[name], rng)
    picture = picture * stain + rng.normal(0, 0.012, picture.shape)
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)


def _population(kind: str, rng: np.random.Generator) -> list[str]:
    """The nucleated cells of a field; the share of the abnormal kind is well above or below its threshold."""
    total = int(rng.integers(8, 13))
    shares = {"aml": ("blast", rng.uniform(0.4, 0.8)), "mm": ("plasma", rng.uniform(0.35, 0.7))}
    name, share = shares.get(kind, ("blast" if rng.random() < 0.5 else "plasma", rng.uniform(0.0, 0.12)))
    abnormal = round(share * total)
    cells = [name] * abnormal + [str(rng.choice(NORMAL)) for _ in range(total - abnormal)]
    rng.shuffle(cells)
    return cells


def _place(picture: np.ndarray, reach: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pixels within `reach` of a random centre (a view), and their coordinates, turned by a random angle."""
    centre = rng.uniform(4, SIDE - 4, 2)
    low, high = np.maximum(centre - reach, 0).astype(int), np.minimum(centre + reach + 1, SIDE).astype(int)
    rows, columns = np.mgrid[low[0] : high[0], low[1] : high[1]] - centre[:, None, None]
    angle = rng.uniform(0, 2 * np.pi)
    part = picture[low[0] : high[0], low[1] : high[1]]
    return part, columns * np.cos(angle) + rows * np.sin(angle), rows * np.cos(angle) - columns * np.sin(angle)


def _paint(picture: np.ndarray, inside: np.ndarray, colour: np.ndarray | tuple[float, ...]) -> None:
    """Blend a colour over the picture; `inside` is coverage 0..1."""
    picture += inside[..., None] * (np.asarray(colour) - picture)


def _edge(distance: np.ndarray) -> np.ndarray:
    """Coverage of pixels at a signed distance (pixels, positive inside) from an edge."""
    return np.clip(distance + 0.5, 0.0, 1.0)


def _draw_red_cell(picture: np.ndarray, rng: np.random.Generator) -> None:
    radius = 0.6 * CELL_PIXELS * rng.uniform(0.85, 1.15)
    picture, x, y = _place(picture, 1.2 * radius, rng)
    away = np.hypot(x, y * rng.uniform(1.0, 1.15))
    pallor = 0.16 * np.clip(1 - away / (0.55 * radius), 0, 1)
    _paint(picture, 0.85 * _edge(radius - away), np.array((0.86, 0.60, 0.62)) + pallor[..., None])


def _draw_cell(picture: np.ndarray, kind: Kind, rng: np.random.Generator) -> None:
    radius = CELL_PIXELS * kind.size * rng.uniform(0.9, 1.1)
    picture, x, y = _place(picture, 1.4 * radius, rng)
    wobble = 1 + 0.05 * np.cos(3 * np.arctan2(y, x) + rng.uniform(0, 6.3))
    away = np.hypot(x / kind.stretch**0.5, y * kind.stretch**0.5) * wobble
    _paint(picture, 0.95 * _edge(radius - away), kind.cytoplasm)
    shift = kind.offset * radius
    size = kind.nucleus * radius
    if kind.halo:
        _paint(picture, 0.6 * np.clip(1 - np.hypot(x - shift + size, y) / (0.5 * size), 0, 1), (0.90, 0.88, 0.95))
    nucleus = np.hypot(x - shift, y)
    clumps = np.cos(x * 1.3 + rng.uniform(0, 6.3)) * np.cos(y * 1.3 + rng.uniform(0, 6.3))
    _paint(picture, _edge(size - nucleus), np.array(kind.nuclear) + kind.texture * clumps[..., None])
    for _ in range(kind.nucleoli):
        a, b = rng.uniform(-0.5, 0.5, 2) * size
        _paint(picture, 0.7 * _edge(0.16 * size - np.hypot(x - shift - a, y - b)), (0.76, 0.66, 0.86))


def _draw_clot(picture: np.ndarray, rng: np.random.Generator) -> None:
    """Waves of fibrin in dark pink, with smudged nuclei."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    fibres = np.zeros((SIDE, SIDE))
    for _ in range(14):
        angle, wave, phase = rng.uniform(0, np.pi), rng.uniform(6, 26), rng.uniform(0, 6.3)
        bend = rng.uniform(0.5, 2.0) * np.sin(3 * (rows * np.cos(angle) - columns * np.sin(angle)) + phase)
        fibres += np.cos(2 * np.pi * wave * (columns * np.cos(angle) + rows * np.sin(angle)) / 2 + bend + phase)
    _paint(picture, 0.55 + 0.3 / (1 + np.exp(-fibres)), (0.62, 0.36, 0.44))
    for _ in range(int(rng.integers(2, 7))):
        part, x, y = _place(picture, 27, rng)
        _paint(part, 0.5 * np.exp(-((x / 9) ** 2) - (y / 5) ** 2), (0.36, 0.20, 0.44))


def make_marrow_cohort(out: Path, patients: int = 300, seed: int = 0) -> Cohort:
    """Write a cohort of smear fields (PNG), one a patient, with the true class as a finding.

    Args:
        out: folder of the cohort; fields that are there are kept.
        patients: how many; the classes follow one another, so that they are equally frequent.
        seed: same seed, same bytes.
    """
    from PIL import Image

    entries = []
    for index in range(patients):
        name, kind = f"BM-{index + 1:04d}", CLASSES[index % len(CLASSES)]
        path, truth = out / "images" / f"{name}.png", out / "truth" / f"{name}.jsonl"
        if not path.is_file():
            picture = draw_field(kind, np.random.default_rng([seed, index]))
            with atomic_path(path) as temporary:
                Image.fromarray(picture).save(temporary, format="PNG")
        if not truth.is_file():
            write_findings(truth, [_truth(name, kind)])
        entries.append(
            CohortEntry(
                id=name,
                patient=f"P-{index + 1:04d}",
                # Blocks of ten patients hold every class twice, so that every split of a cohort has all classes.
                split=split_of(seed, index),
                study=f"images/{name}.png",
                truth=f"truth/{name}.jsonl",
            )
        )
    cohort = Cohort(out, "phantom-marrow", {}, tuple(entries))
    cohort.write()
    return cohort


def _truth(name: str, kind: str) -> Finding:
    return Finding(
        id="specimen",
        study=name,
        concept=code("marrow_specimen"),
        presence="present",
        probability=1.0,
        grade=kind,
        provenance=Provenance("truth", medvlm.__version__),
    )
