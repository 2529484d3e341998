"""The table of codes and the JSON form of a Finding."""

from __future__ import annotations

import json
from collections import Counter
from importlib import resources

import jsonschema
import pytest

from medvlm.errors import MedVLMError
from medvlm.findings import Finding, code, concept_of
from medvlm.findings.codes import concepts
from tests.findings.sample import architecture_findings, negative_findings


def test_every_key_code_and_meaning_is_unique():
    rows = list(concepts().values())
    for values in (
        [row.key for row in rows],
        [(row.code.scheme, row.code.value) for row in rows],
        [row.code.meaning for row in rows],
    ):
        assert [value for value, count in Counter(values).items() if count > 1] == []


def test_every_row_says_how_it_is_written():
    kinds = {"list", "line", "state", "site", "side", "measurement"}
    for row in concepts().values():
        assert row.kind in kinds
        assert row.code.value
        assert row.text or row.kind == "measurement"
        assert bool(row.plural) == (row.kind == "list"), row.key


def test_codes_agree_with_the_dictionary_of_pydicom():
    """Where pydicom knows a code, its dictionary has our meaning among the names of that code."""
    from pydicom.sr._concepts_dict import concepts as known

    names: dict[tuple[str, str], set[str]] = {}
    for scheme, table in known.items():
        for by_value in table.values():
            for value, (meaning, _) in by_value.items():
                names.setdefault((scheme, value), set()).add(meaning.lower())
    wrong = []
    for row in concepts().values():
        listed = names.get((row.code.scheme, row.code.value))
        ours = row.code.meaning.lower()
        if listed and not any(ours in name or name in ours for name in listed):
            wrong.append((row.key, ours, sorted(listed)))
    assert wrong == []


def test_an_unknown_key_suggests_near_ones():
    with pytest.raises(MedVLMError, match="pleural_effusion"):
        code("pleural_efusion")


def test_a_code_of_a_users_own_is_written_as_its_meaning():
    own = type(code("lung"))("x1", "MEDVLM", "Brain volume")
    assert concept_of(own).text == "brain volume"


@pytest.mark.parametrize("finding", architecture_findings() + negative_findings(), ids=lambda f: f.id)
def test_the_json_of_a_finding_obeys_the_schema_and_comes_back(finding: Finding):
    schema = json.loads(resources.files("medvlm.findings").joinpath("schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    data = json.loads(json.dumps(finding.to_json()))
    jsonschema.validate(data, schema)
    assert Finding.from_json(data) == finding


def test_the_schema_refuses_what_is_not_a_finding():
    schema = json.loads(resources.files("medvlm.findings").joinpath("schema.json").read_text())
    good = architecture_findings()[0].to_json()
    for change in ({"presence": "maybe"}, {"probability": 1.2}, {"colour": "red"}, {"schema": 2}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(good | change, schema)
