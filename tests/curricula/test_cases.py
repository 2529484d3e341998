"""True symbols of studies: from a class, from variables, from bound findings; spoilt copies; patients of a share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from medvlm.curricula import load_curriculum
from medvlm.curricula.cases import study_cases, true_case
from medvlm.curricula.sources import chosen, pathway_conversations
from medvlm.curricula.spec import Curriculum
from medvlm.errors import MedVLMError
from medvlm.findings.codes import code
from medvlm.findings.finding import Finding, Measurement, Provenance, write_findings
from medvlm.imaging.cohort import Cohort, CohortEntry
from medvlm.pathways.loader import load_pathway
from medvlm.pathways.reward import Scorer
from medvlm.storage import write_json


def found(key: str, grade: str, *measurements: Measurement) -> Finding:
    return Finding(
        id="t",
        study="S-1",
        concept=code(key),
        presence="present",
        probability=1.0,
        grade=grade,
        measurements=measurements,
        provenance=Provenance("truth", "1"),
    )


def one_study(folder: Path, findings: list[Finding], split: str = "train") -> Cohort:
    (folder / "s").mkdir()
    write_findings(folder / "s" / "truth.jsonl", findings)
    (folder / "images").mkdir()
    Image.new("RGB", (32, 32), (90, 20, 160)).save(folder / "images" / "S-1.png")
    return Cohort(folder, "test", {}, (CohortEntry("S-1", "P-1", split, "s", truth="s/truth.jsonl"),))  # type: ignore[arg-type]


def of(name: str) -> tuple[Curriculum, Scorer]:
    curriculum = load_curriculum(name)
    return curriculum, Scorer(load_pathway(curriculum.pathway))


def test_a_class_gives_its_symbols_and_what_follows(tmp_path: Path) -> None:
    curriculum, scorer = of("blood_smear")
    cohort = one_study(tmp_path, [found("cell_type", "lymphocyte")])
    case = true_case(curriculum, scorer, cohort, cohort.entries[0])
    # A lymphocyte is a mononuclear cell with a round nucleus and no granules, by the rules of the pathway.
    expected = {"cell_type": "lymphocyte", "lineage": "mononuclear", "nucleus": "round", "granules": "none"}
    assert {slot: case[slot] for slot in expected} == expected


def test_an_unknown_class_is_one_sentence(tmp_path: Path) -> None:
    curriculum, scorer = of("blood_smear")
    cohort = one_study(tmp_path, [found("cell_type", "blast")])
    with pytest.raises(MedVLMError, match="class 'blast' is not among"):
        true_case(curriculum, scorer, cohort, cohort.entries[0])


def test_variables_beside_the_truth_are_taken_as_they_are(tmp_path: Path) -> None:
    curriculum, scorer = of("retina_amd")
    cohort = one_study(tmp_path, [])
    write_json(tmp_path / "s" / "variables.json", {"gradable": False})
    case = true_case(curriculum, scorer, cohort, cohort.entries[0])
    assert case["stage"] == case["referral"] == "not_assessable"


def test_bound_numbers_are_rounded_to_the_steps_of_the_pathway(tmp_path: Path) -> None:
    curriculum, scorer = of("chest_ct")
    size = Measurement(code("long_axis"), 9.4, "mm")
    cohort = one_study(tmp_path, [found("lung_nodule", "solid", size)])
    case = true_case(curriculum, scorer, cohort, cohort.entries[0])
    # A solid nodule of 9 mm is above 8 mm.
    assert (case["nodule"], case["size"], case["next_step"]) == (True, 9.0, "workup")


def test_spoilt_copies_are_unreadable_and_training_pictures_turned(tmp_path: Path) -> None:
    curriculum, scorer = of("blood_smear")
    curriculum = replace(curriculum, cases=replace(curriculum.cases, spoilt=1.0))
    cohort = one_study(tmp_path, [found("cell_type", "monocyte")])
    cell, spoilt = study_cases(curriculum, scorer, cohort, {"S-1": "images/S-1.png"}, tmp_path)
    assert len(cell.pictures) == len(spoilt.pictures) == 8
    assert spoilt.symbols["quality"] is False
    assert spoilt.symbols["cell_type"] == "not_assessable"
    rows = list(pathway_conversations(curriculum, scorer, [cell, spoilt], "look", "train"))
    assert {row.images[0] for row in rows} == {*cell.pictures, *spoilt.pictures}


def test_a_smaller_share_is_a_part_of_a_larger_one(tmp_path: Path) -> None:
    curriculum, scorer = of("retina_amd")
    cohort = one_study(tmp_path, [])
    write_json(tmp_path / "s" / "variables.json", {"gradable": True, "stage": "healthy"})
    (case, *_) = study_cases(curriculum, scorer, cohort, {"S-1": "images/S-1.png"}, tmp_path)
    source = curriculum.sources["advanced"]

    def patients(share: float) -> set[int]:
        some = replace(source, share=share)
        return {n for n in range(200) if chosen(curriculum, some, "advanced", replace(case, patient=f"P-{n}"))}

    assert patients(0.2) < patients(0.5) < patients(1.0)
    # 200 draws at 0.5: within four standard deviations (28) of 100.
    assert abs(len(patients(0.5)) - 100) < 28
