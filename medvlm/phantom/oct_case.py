"""One case of the OCT phantom: a B-scan with labels and truth from a seed and a number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

import medvlm
from medvlm.errors import MedVLMError
from medvlm.findings.codes import code
from medvlm.findings.finding import Evidence, Finding, Measurement, Provenance, write_findings
from medvlm.phantom.oct_eye import Eye, draw_eye
from medvlm.phantom.oct_scan import FRAMES, LABELS, NUMBER, Frame, expose, lay_surfaces, render
from medvlm.storage import atomic_path, write_json, write_text

__all__ = ["LABELS", "OctCase", "find_frame", "generate_oct", "write"]


@dataclass(frozen=True, eq=False)
class OctCase:
    """A synthetic B-scan with known truth.

    Attributes:
        id: `OCT-0001`; `patient_id`: `P-0001`.
        seed, index: what it was made from.
        eye: anatomy and disease.
        frame: geometry of the picture.
        pixels: `[rows, columns]` uint8, the upper edge towards the vitreous.
        labels: `[rows, columns]` uint8, see `LABELS`.
    """

    id: str
    patient_id: str
    seed: int
    index: int
    eye: Eye
    frame: Frame
    pixels: np.ndarray
    labels: np.ndarray

    def uid(self, what: str) -> str:
        """A DICOM UID made from the seed, the case number and what it names."""
        digest = hashlib.sha256(f"medvlm oct phantom {self.seed} {self.index} {what}".encode()).digest()
        return f"2.25.{int.from_bytes(digest[:16], 'big')}"

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """The truth as Findings (expert `truth`)."""
        return tuple(_truth(self))


def find_frame(preset: str) -> Frame:
    """The geometry of a preset.

    Raises:
        MedVLMError: there is none of that name.
    """
    if preset not in FRAMES:
        raise MedVLMError(f"no phantom preset '{preset}'; there are: {', '.join(FRAMES)}.")
    return FRAMES[preset]


def generate_oct(seed: int, index: int, preset: str = "small") -> OctCase:
    """Make case `index` (0, 1, 2, ...) of the cohort with that seed, without touching a file.

    The same arguments give the same pixels; both presets show the same eye.

    Raises:
        MedVLMError: there is no preset of that name.
    """
    frame = find_frame(preset)
    eye = draw_eye(np.random.default_rng([seed, index, 10]), 3000.0)
    rng = np.random.default_rng([seed, index, 11])
    surfaces = lay_surfaces(rng, eye, frame)
    grey, labels = render(rng, eye, frame, surfaces)
    pixels, labels = expose(rng, eye, grey, labels, frame)
    return OctCase(f"OCT-{index + 1:04d}", f"P-{index + 1:04d}", seed, index, eye, frame, pixels, labels)


def write(seed: int, index: int, preset: str, folder: Path) -> None:
    """Make one case and write `bscan.dcm`, `bscan.png`, `mask.png`, `truth.jsonl`, `variables.json` and `report.txt`.

    `variables.json` holds the variables of the pathway `retina_amd`.
    """
    from PIL import Image

    from medvlm.phantom.oct_dicom import write_bscan
    from medvlm.phantom.oct_report import oct_report

    case = generate_oct(seed, index, preset)
    with atomic_path(folder) as temporary:
        temporary.mkdir(parents=True)
        write_bscan(case, temporary / "bscan.dcm")
        Image.fromarray(case.pixels).save(temporary / "bscan.png")
        Image.fromarray(case.labels).save(temporary / "mask.png")
        write_findings(temporary / "truth.jsonl", case.findings)
        write_json(temporary / "variables.json", case.eye.variables())
        write_text(temporary / "report.txt", oct_report(case))


def _truth(case: OctCase) -> Iterator[Finding]:
    """One Finding a variable of the pathway; of an ungradable picture only that nothing can be said."""
    eye = case.eye
    quality = "sufficient" if eye.gradable else "insufficient"
    yield _finding(case, "quality", "image_quality", True, grade=quality)
    yield _finding(case, "stage", "amd_stage", True, grade=eye.stage if eye.gradable else "not_assessable")
    if not eye.gradable:
        return
    yield _finding(case, "referral", "referral", True, grade=eye.referral)
    yield _finding(
        case, "drusen", "drusen", eye.drusen != "none", "drusen", grade=None if eye.drusen == "none" else eye.drusen
    )
    detached = "pigment epithelial detachment"
    for key, present, structure in (
        ("ped", bool(eye.kinds("drusenoid", "serous", "fibrovascular")), detached),
        ("drusenoid_ped", bool(eye.kinds("drusenoid", "serous")), detached),
        ("fibrovascular_ped", bool(eye.kinds("fibrovascular")), detached),
        ("pigment_abnormality", bool(eye.foci), ""),
        ("geographic_atrophy", bool(eye.atrophy), "atrophy"),
        ("hypertransmission", bool(eye.atrophy or eye.leaks), "hypertransmission"),
        ("subretinal_fibrosis", bool(eye.scar), "subretinal material"),
        ("shrm", bool(eye.material), "subretinal material"),
        ("subretinal_material", bool(eye.material or eye.scar), "subretinal material"),
        ("subretinal_fluid", bool(eye.fluid), "subretinal fluid"),
        ("intraretinal_fluid", bool(eye.cysts), "intraretinal fluid"),
    ):
        yield _finding(case, key.replace("_", "-"), key, present, structure)


def _finding(
    case: OctCase, identity: str, key: str, present: bool, structure: str = "", grade: str | None = None
) -> Finding:
    label = NUMBER.get(structure)
    area = 0.0 if label is None else float((case.labels == label).sum()) * case.frame.deep_um * case.frame.wide_um
    # An area only of what one lesion alone can have drawn.
    measured = (Measurement(code("area"), round(area / 1e6, 4), "mm2"),) if structure in AREAS and present else ()
    return Finding(
        id=identity,
        study=case.uid("study"),
        concept=code(key),
        presence="present" if present else "absent",
        probability=float(present),
        laterality=code(case.eye.laterality),
        grade=grade,
        measurements=measured,
        evidence=(Evidence(case.uid("series"), label=label),) if present else (),
        provenance=Provenance("truth", medvlm.__version__),
    )


AREAS = ("drusen", "subretinal fluid", "intraretinal fluid")
