"""Curriculum files: what is read, and one sentence for what is wrong."""

from pathlib import Path

import pytest
import yaml

from medvlm.content import list_content
from medvlm.curricula import load_curriculum
from medvlm.errors import MedVLMError

PLAIN = {
    "id": "try",
    "title": "A try",
    "pathway": "bone_marrow",
    "cases": {"phantom": "marrow", "concept": "marrow_specimen", "classes": {"aml": {"diagnosis": "aml"}}},
    "sources": {"look": {"slots": ["cells"]}},
    "skills": {"cells": {"source": "look"}},
    "stages": [{"id": "look", "sources": {"look": 1}}],
}


def write(folder: Path, **changes: object) -> Path:
    path = folder / "curriculum.yaml"
    path.write_text(yaml.safe_dump(PLAIN | changes))
    return path


def test_every_shipped_curriculum_is_read() -> None:
    shipped = [path for path in list_content("curricula").values() if (path / "curriculum.yaml").is_file()]
    assert shipped
    for path in shipped:
        assert load_curriculum(path).stages


def test_defaults_are_filled_in(tmp_path: Path) -> None:
    curriculum = load_curriculum(write(tmp_path))
    assert curriculum.model == "tiny"
    assert curriculum.stages[0].objective == "finetune"
    assert curriculum.sources["look"].slots == ("cells",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stages": []}, "has no stages"),
        ({"stages": [{"id": "a", "sources": {"nowhere": 1}}]}, "'nowhere' is not defined; defined are look"),
        ({"stages": [{"id": "a", "sources": {"look": 1}, "gate": {"x": 0.5}}]}, "gate: 'x' is not defined"),
        ({"stages": [{"id": "a", "sources": {"look": 1}, "objective": "magic"}]}, "not 'magic'"),
        ({"stages": [{"id": "a", "sources": {"look": 1}}] * 2}, "two stages have this id"),
        ({"stages": [{"id": "a"}]}, "has no sources"),
        ({"stages": [{"sources": {"look": 1}}]}, "'id' is missing"),
        ({"skills": {"cells": {"source": "elsewhere"}}}, "skill 'cells': 'elsewhere' is not defined"),
        ({"stages": [{"id": "a", "sources": {"look": 1}, "start": "later"}]}, "start: 'later' is not defined"),
        ({"stages": [{"id": "a", "sources": {"look": 1}, "stop": {"skill": "x"}}]}, "stop: 'x' is not defined"),
        ({"stages": [{"id": "a", "sources": {"look": 1}, "stop": {"reached": 1}}]}, "'skill' is missing"),
        ({"stages": [{"id": "a", "sources": {"look": 1}, "images": ["x"]}]}, "images: 'x' is not defined"),
        (
            {
                "skills": {"s": {"source": "look"}},
                "stages": [{"id": "a", "sources": {"look": 1}, "tested": False, "gate": {"s": 0.5}}],
            },
            "a gate needs the stage's tests",
        ),
        ({"cases": {}}, "one of 'phantom' and 'cohort'"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"sources": ["look"]}, "expected a mapping of names"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_file(tmp_path: Path, changes: dict, said: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(MedVLMError, match=said) as caught:
        load_curriculum(path)
    assert str(path) in str(caught.value)
