"""The OCT phantom: truth that agrees with the pathway, labels that agree with the truth, files that agree with both."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvlm.errors import MedVLMError
from medvlm.findings.finding import read_findings
from medvlm.imaging.cohort import read_cohort
from medvlm.imaging.reader import load_study
from medvlm.pathways import load_pathway
from medvlm.phantom.cohort import make_cohort
from medvlm.phantom.oct_case import generate_oct
from medvlm.phantom.oct_eye import STAGES, Eye, draw_eye
from medvlm.phantom.oct_scan import NUMBER
from medvlm.storage import read_json


def eyes(count: int) -> list[Eye]:
    return [draw_eye(np.random.default_rng([3, index, 10]), 3000.0) for index in range(count)]


def test_every_stage_follows_from_the_lesions_as_the_published_staging_says() -> None:
    seen = set()
    for eye in eyes(600):
        known = eye.variables()
        seen.add(known["stage"])
        if not eye.gradable:
            assert set(known) == {"gradable", "stage", "referral"}
            continue
        fluid = known["subretinal_fluid"] or known["intraretinal_fluid"]
        tissue = known["shrm"] or known["fibrosis"] or known["fibrovascular_ped"]
        dry = known["atrophy"] or known["hypertransmission"]
        middle = known["drusen"] == "large" or known["drusenoid_ped"] or known["pigment"]
        signs = (fluid, tissue, dry, middle, known["drusen"] == "small")
        names = ("wet_active", "wet_inactive", "late_dry", "intermediate", "early")
        assert known["stage"] == next((name for sign, name in zip(signs, names, strict=True) if sign), "healthy")
        assert not known["atrophy"] or known["hypertransmission"]
    assert seen == {*STAGES, "not_assessable"}


def test_the_variables_are_those_of_the_pathway() -> None:
    pathway = load_pathway("retina_amd")
    eye = next(eye for eye in eyes(50) if eye.gradable)
    assert set(eye.variables()) <= set(pathway.variables)


def test_a_case_is_the_same_every_time_and_shows_the_same_eye_in_both_sizes() -> None:
    first, again = generate_oct(5, 2), generate_oct(5, 2)
    assert (first.pixels == again.pixels).all()
    assert (first.labels == again.labels).all()
    large = generate_oct(5, 2, "full")
    assert large.pixels.shape == (496, 512)
    assert large.eye == first.eye
    with pytest.raises(MedVLMError, match="no phantom preset"):
        generate_oct(0, 0, "huge")


def test_what_the_truth_names_is_in_the_labels() -> None:
    structures = {
        "subretinal_fluid": "subretinal fluid",
        "atrophy": "atrophy",
        "hypertransmission": "hypertransmission",
    }
    for index in range(25):
        case = generate_oct(9, index)
        known = case.eye.variables()
        if not known["gradable"]:
            continue
        for variable, structure in structures.items():
            assert bool(known[variable]) == bool((case.labels == NUMBER[structure]).any()), (index, structure)
        if known["drusen"] == "none":
            assert not (case.labels == NUMBER["drusen"]).any()


def test_layers_lie_in_their_order_and_fluid_is_dark() -> None:
    case = next(
        case for case in (generate_oct(9, index) for index in range(60)) if case.eye.gradable and case.eye.fluid
    )
    rows = np.arange(case.labels.shape[0])[:, None]

    def middle(structure: str) -> float:
        return float((rows * (case.labels == NUMBER[structure])).sum() / (case.labels == NUMBER[structure]).sum())

    assert middle("retina") < middle("pigment epithelium") < middle("choroid")
    brightness = {name: case.pixels[case.labels == NUMBER[name]].mean() for name in ("retina", "subretinal fluid")}
    assert brightness["subretinal fluid"] < 0.6 * brightness["retina"]


def test_a_cohort_holds_dicom_masks_truth_and_variables_that_agree(tmp_path: Path) -> None:
    make_cohort(tmp_path, patients=3, seed=1, kind="oct", show_progress=False)
    cohort = read_cohort(tmp_path)
    assert cohort.name == "phantom-oct"
    for entry in cohort.entries:
        series = load_study(tmp_path / entry.study).series[0]
        assert series.modality == "OPT"
        picture = np.asarray(Image.open(tmp_path / entry.id / "bscan.png"))
        assert (series.volume.array[:, :, 0] == picture.T).all()
        # 18.75 µm along the scan, 6.2 µm in depth.
        assert series.volume.spacing[:2] == pytest.approx([0.01875, 0.0062])
        assert load_study(tmp_path / str(entry.mask)).series[0].volume.array.shape == series.volume.array.shape
        known = read_json(tmp_path / entry.id / "variables.json")
        stage = next(f for f in read_findings(tmp_path / str(entry.truth)) if f.concept.value == "amd_stage")
        assert stage.grade == known["stage"]
    with pytest.raises(MedVLMError, match="of another kind"):
        make_cohort(tmp_path, patients=3, seed=1, show_progress=False)
