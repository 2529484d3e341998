"""Every mistake in a pathway file gives one sentence with file, line and remedy."""

from __future__ import annotations

import re

import pytest

from medvlm.pathways import PathwayError, parse_pathway
from tests.pathways.small import SMALL

# (what is replaced, by what, words of the message that name problem and remedy)
MISTAKES = [
    ("version:", "verson:", "did you mean 'version'"),
    ("id: small", "id: Small One", "use small letters"),
    (", source: [a test]", "", "add 'source:'"),
    ("balance: grade", "balance: grad", "did you mean 'grade'"),
    ("type: ordinal", "type: ordnal", "did you mean 'ordinal'"),
    ("unit: mm", "unit: parsec", "is not known; use mm"),
    ("range: [1, 20]", "range: [20, 1]", "the smaller first"),
    ("range: [1, 20]", "range: 20", "must be a list"),
    ("tolerance: 1", "tolerance: one", "must be a number"),
    ("when: lesion}", "when: leson}", "did you mean 'lesion'"),
    ("when: lesion}", "when: size > 3}", "its own prerequisite"),
    ("concept: [lesion]", "concpt: [lesion]", "did you mean 'concept'"),
    ("  size: {type", "  lesion: {type", "is written twice"),
    ("  size: {type", "  count: {type", "word of the language"),
    ("concept: [lesion]", "unit: mm, concept: [lesion]", "'unit' is for numbers"),
    ('"grade == high"', '"grade == hih"', "did you mean 'high'"),
    ('"grade == high"', '"grade = high"', "cannot read"),
    ('"grade == high"', '"grade"', "is not a yes/no value"),
    ('"grade == high"', '"(grade == high"', "check the brackets"),
    ('"size < 10", then: middle', '"size < 10", then: medium', "has no value 'medium'"),
    ('"size < 10"', '"sise < 10"', "did you mean 'size'"),
    ('"size < 10"', '"grade == low"', "reads its own target"),
    ("    rows:", "    hit: frist\n    rows:", "did you mean 'first'"),
    ("  grade:\n    rows", "  grde:\n    rows", "did you mean 'grade'"),
    ("size: 5}", "size: 50}", "stay within 1 to 20 mm"),
    (
        "{given: {lesion: false}, expect: {grade: low}}",
        "{given: {lesion: maybe}, expect: {grade: low}}",
        "true or false",
    ),
    ("{given: {lesion: false}, expect: {grade: low}}", "{given: {lesion: false}}", "expects nothing"),
    ("    frame: category", "    frame: categry", "did you mean 'category'"),
    ("      high: {say", "      not_assessable: {say", "is reserved"),
    ("rules:", "rules: [1, 2", "not valid YAML"),
    ("tests:", "reward: {consistency: 3}\ntests:", "between 0 and 1"),
    ("tests:", "turns: {conclusion: grades}\ntests:", "did you mean 'grade'"),
    ("tests:", "bindings: [{variable: siz, concept: Nodule}]\ntests:", "did you mean 'size'"),
]


@pytest.mark.parametrize(("old", "new", "says"), MISTAKES, ids=[f"{new[:30]}" for _, new, _ in MISTAKES])
def test_a_mistake_names_file_line_and_remedy(old: str, new: str, says: str) -> None:
    assert old in SMALL
    text = SMALL.replace(old, new, 1)
    with pytest.raises(PathwayError) as caught:
        parse_pathway(text, "my/pathway.yaml")
    message = str(caught.value)
    assert says in message
    assert message.endswith(".")
    assert "\n" not in message
    found = re.match(r"my/pathway\.yaml, line (\d+): ", message)
    assert found, message
    # The line named is the changed one, or for a missing entry or a bracket left open, near it.
    changed = SMALL[: SMALL.index(old)].count("\n") + 1 + new.split(old[:3])[0].count("\n")
    assert abs(int(found.group(1)) - changed) <= 2, message


def test_there_are_at_least_twenty_kinds_of_mistake() -> None:
    assert len(MISTAKES) >= 20


def test_a_missing_file_and_a_hostile_expression_are_refused() -> None:
    with pytest.raises(PathwayError, match="nested too deep"):
        parse_pathway(SMALL.replace('"grade == high"', '"' + "(" * 500 + "lesion" + ")" * 500 + '"'))
