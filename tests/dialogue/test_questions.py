"""Phrasings, values, answers and the judging of answers."""

import re
from pathlib import Path

import pytest
import yaml

from medvlm.content import builtin_root, list_content
from medvlm.dialogue.phrasing import expand
from medvlm.dialogue.questions import read_questions, rephrased
from medvlm.dialogue.score import Score
from medvlm.errors import MedVLMError
from tests.dialogue.sample import absent, effusion, heart, nodule


@pytest.fixture(scope="module")
def chest():
    return read_questions("chest_ct")


def test_alternatives_are_written_out():
    assert expand("How [large|big] is [the|] nodule[| here]?") == [
        "How large is the nodule?",
        "How large is the nodule here?",
        "How large is nodule?",
        "How large is nodule here?",
        "How big is the nodule?",
        "How big is the nodule here?",
        "How big is nodule?",
        "How big is nodule here?",
    ]


@pytest.mark.parametrize("template", ["a [b", "a] b", "[a [b] c]"])
def test_unbalanced_brackets_are_refused(template):
    with pytest.raises(ValueError, match="unbalanced"):
        expand(template)


def test_every_question_file_of_the_package_is_read():
    folders = [path for path in list_content("curricula").values() if (path / "questions.yaml").is_file()]
    assert "chest_ct" in {path.name for path in folders}
    for path in folders:
        assert read_questions(path).families


def test_held_out_phrasings_are_never_trained_on(chest):
    train = {phrasing for family in chest.families for phrasing in family.train}
    assert not train & {phrasing for family in chest.families for phrasing in family.held_out}


def test_every_answer_scores_as_right_for_its_own_value(chest):
    findings = [nodule(1, 14.2), nodule(2, 6.4, "left", "lower_lobe"), effusion("left", 243.0), heart(0.56)]
    for family in chest.families:
        answer = family.answer(findings)
        if family.score is not None:
            assert family.score.correct(answer.text, answer.value.exact if answer.value else None), family.name


@pytest.mark.parametrize(
    ("family", "findings", "text"),
    [
        ("nodule_present", [nodule(1, 14.2)], "Yes, a nodule."),
        ("nodule_present", [absent("lung_nodule")], "No nodule."),
        ("nodule_count", [nodule(1, 14.2), nodule(2, 5.0)], "2 nodules."),
        ("nodule_count", [nodule(1, 14.2)], "1 nodule."),
        ("nodule_count", [absent("lung_nodule")], "No nodule."),
        # 14.6 is shown as 15: whole millimetres.
        ("nodule_size", [nodule(1, 5.0), nodule(2, 14.6)], "Largest nodule: right upper lobe, solid, 15 mm."),
        ("nodule_size", [absent("lung_nodule")], "The expert found no nodule."),
        ("nodule_side", [nodule(1, 14.2, "left")], "Largest nodule: left lung."),
        ("nodule_lobe", [nodule(1, 9.0, "right", "middle_lobe")], "Largest nodule: right middle lobe."),
        ("nodule_type", [nodule(1, 9.0, grade="part-solid")], "Largest nodule: right upper lobe, part-solid."),
        ("effusion_side", [effusion("left", 80.0)], "Pleural effusion: left."),
        ("effusion_side", [effusion("left", 80.0), effusion("right", 90.0)], "Pleural effusion: both sides."),
        ("effusion_volume", [effusion("left", 243.4)], "Pleural effusion: left, 243 mL."),
        ("heart_enlarged", [heart(0.56)], "Yes, enlarged."),
        ("heart_enlarged", [heart(0.44)], "No, not enlarged."),
        ("heart_ratio", [heart(0.44)], "Cardiothoracic ratio 0.44."),
        ("modality", [], "A CT scan."),
        (
            "report",
            [nodule(1, 14.2), effusion("left", 80.0), heart(0.44)],
            "Solid nodule, right upper lobe, 14 mm. Left pleural effusion, 80 mL. The heart is not enlarged.",
        ),
        # Nothing is concluded from silence.
        ("nodule_present", [heart(0.44)], "That is uncertain."),
        ("nodule_size", [heart(0.44)], "That is uncertain."),
        ("heart_enlarged", [nodule(1, 9.0)], "That is uncertain."),
        ("report", [absent("lung_nodule")], "No nodule."),
        ("report", [], "That is uncertain."),
        (
            "report",
            [absent("lung_nodule"), absent("pleural_effusion"), heart(0.56)],
            "No nodule. No pleural effusion. The heart is enlarged.",
        ),
    ],
)
def test_answers_follow_the_findings(chest, family, findings, text):
    assert chest.family(family).answer(findings).text == text


def test_size_is_asked_only_where_there_is_a_nodule(chest):
    assert chest.family("nodule_size").applies([nodule(1, 9.0)])
    assert not chest.family("nodule_size").applies([absent("lung_nodule")])
    assert chest.family("nodule_count").applies([absent("lung_nodule")])


def test_volume_is_asked_only_of_a_single_effusion(chest):
    family = chest.family("effusion_volume")
    assert family.applies([effusion("left", 80.0)])
    assert not family.applies([effusion("left", 80.0), effusion("right", 90.0)])


SIZE = Score("number", unit="mm", absolute=2, relative=0.15)


@pytest.mark.parametrize(
    ("score", "answer", "truth", "right"),
    [
        # 14.2 mm: 2.13 mm (15 %) is the larger tolerance.
        (SIZE, "It measures 16 mm.", 14.2, True),
        (SIZE, "It measures 17 mm.", 14.2, False),
        # 6 mm: 2 mm is the larger tolerance.
        (SIZE, "8 mm", 6.0, True),
        (SIZE, "9 mm", 6.0, False),
        (SIZE, "16 of them, 14mm", 14.2, True),
        (SIZE, "14 cm", 14.2, False),
        (SIZE, "No nodule.", 14.2, False),
        (Score("number", absolute=0.03), "The ratio is 0.56.", 0.5432, True),
        (Score("number", absolute=0.03), "The ratio is 0.58.", 0.5432, False),
        (Score("yes_no"), "Yes, a nodule.", True, True),
        (Score("yes_no"), "No nodule.", False, True),
        (Score("yes_no"), "There is a nodule.", True, True),
        (Score("yes_no"), "The heart is not enlarged.", False, True),
        (Score("yes_no"), "A nodule perhaps.", True, False),
        (Score("count"), "2 nodules.", 2, True),
        (Score("count"), "Two nodules.", 2, True),
        (Score("count"), "No nodule.", 0, True),
        (Score("count"), "No more than 3 nodules.", 3, True),
        (Score("count"), "A 2.5 mm nodule.", 2, False),
        (Score("choice", options=("solid", "part-solid")), "It is part-solid.", "part-solid", True),
        (Score("choice", options=("solid", "part-solid")), "It is solid.", "solid", True),
        (Score("choice", options=("solid", "part-solid")), "Solid or part-solid.", "solid", False),
        (Score("choice", options=("right", "left")), "In the left lung.", "left", True),
        (Score("mentions", words=("ct",)), "A CT scan.", None, True),
        (Score("mentions", words=("ct",)), "An electric scan.", None, False),
        (Score("exact"), "Left lung.", "left lung", True),
        (Score("exact"), "Left lungs", "left lung", False),
    ],
)
def test_answers_are_judged(score, answer, truth, right):
    assert score.correct(answer, truth) is right
    assert Score.from_json(score.to_json()) == score


def test_unknown_score_is_refused():
    with pytest.raises(MedVLMError, match="unknown kind of score 'vibes'"):
        Score.from_json({"kind": "vibes"})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("    when: sometimes\n", "when is one of"),
        ("    colour: red\n", "unknown key 'colour'"),
        ("    read: {concept: unicorn, what: present}\n    argument: x\n", "unicorn"),
        ("    argument: nodules\n", "goes together"),
    ],
)
def test_broken_question_file_is_one_sentence(tmp_path, change, reason):
    path = tmp_path / "questions.yaml"
    family = '  a:\n    answers: {any: "A."}\n    train: ["What?"]\n    held_out: ["Which?"]\n'
    path.write_text(f'expert: e\nfailed: "f"\nuncertain: "u"\ndisputed: "d"\nfamilies:\n{family}{change}')
    with pytest.raises(MedVLMError, match=reason):
        read_questions(path)


def test_phrasing_in_both_splits_is_refused(tmp_path):
    path = tmp_path / "questions.yaml"
    family = '  a:\n    answers: {any: "A."}\n    train: ["What[ now|]?"]\n    held_out: ["What now?"]\n'
    path.write_text(f'expert: e\nfailed: "f"\nuncertain: "u"\ndisputed: "d"\nfamilies:\n{family}')
    with pytest.raises(MedVLMError, match=re.escape("is in a (train) and in a (held_out)")):
        read_questions(path)


def test_other_test_phrasings_take_the_place_of_the_held_out_ones() -> None:
    asked = read_questions("chest_ct")
    path = builtin_root() / "curricula" / "chest_ct" / "independent_phrasings.yaml"
    changed = rephrased(asked, path)
    assert [family.train for family in changed.families] == [family.train for family in asked.families]
    assert all(len(family.held_out) >= 8 for family in changed.families)


def test_test_phrasings_that_are_trained_on_are_refused(tmp_path: Path) -> None:
    asked = read_questions("chest_ct")
    rows = {family.name: list(family.held_out) for family in asked.families}
    rows["nodule_size"] = [asked.families[0].train[0]]
    (tmp_path / "rows.yaml").write_text(yaml.safe_dump(rows))
    with pytest.raises(MedVLMError, match="is in"):
        rephrased(asked, tmp_path / "rows.yaml")
    (tmp_path / "rows.yaml").write_text("nodule_size: [How large]")
    with pytest.raises(MedVLMError, match="every family"):
        rephrased(asked, tmp_path / "rows.yaml")
