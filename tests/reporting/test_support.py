"""Which sentences pass the check against the measurements, and why the others do not."""

import dataclasses

import pytest

from medvlm.findings.finding import Code, Finding, Measurement
from medvlm.reporting.support import check_sentence, split_sentences
from tests.reporting import sample

# nodule-1: right upper lobe, solid, 14.2 mm, 1.23 mL, p 0.94, slice 12
# nodule-2: left lower lobe, part-solid, 6.4 mm, 0.12 mL, p 0.71; no effusion; heart not enlarged, ratio 0.44


def findings() -> tuple[Finding, ...]:
    second = dataclasses.replace(
        sample.nodule("nodule-2", 6.4, 0.12),
        probability=0.71,
        laterality=Code("7771000", "SCT", "Left"),
        site=Code("41224006", "SCT", "Lower lobe of left lung"),
        grade="part-solid",
        evidence=(),
    )
    heart = Finding(
        id="heart-1",
        study="1.2.3",
        concept=Code("8186001", "SCT", "Cardiomegaly"),
        presence="absent",
        provenance=sample.MADE_BY,
        measurements=(Measurement(Code("CTR", "MEDVLM", "Cardiothoracic ratio"), 0.44, "1"),),
    )
    return (sample.nodule(), second, sample.no_effusion(), heart)


@pytest.mark.parametrize(
    ("sentence", "support"),
    [
        ("There is a 14 mm solid nodule in the right upper lobe.", ["nodule-1"]),
        ("A solid nodule of 1.4 cm, right upper lobe.", ["nodule-1"]),
        ("Part-solid nodule in the left lower lobe, 6 mm, 0.1 mL.", ["nodule-2"]),
        ("Two lung nodules.", ["nodule-1", "nodule-2"]),
        ("lung nodules: 2", ["nodule-1", "nodule-2"]),
        ("One nodule in the right lung.", ["nodule-1"]),
        ("No pleural effusion.", ["effusion-1"]),
        ("The heart is not enlarged, cardiothoracic ratio 0.44.", ["heart-1"]),
        ("The cardiothoracic ratio is 0.44.", ["heart-1"]),
        ("There is no effusion and the heart is normal in size.", ["effusion-1", "heart-1"]),
        ("A 14 mm nodule in the right upper lobe and a 6 mm nodule in the left lower lobe.", ["nodule-1", "nodule-2"]),
    ],
)
def test_supported(sentence, support):
    assert list(check_sentence(sentence, findings()).findings) == support


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("There is a 15 mm nodule in the right upper lobe.", "number"),
        ("There is a 14 mm nodule in the left upper lobe.", "side or site"),
        ("There is a 6 mm nodule in the right upper lobe.", "number"),  # the other nodule's size
        ("A part-solid nodule in the right upper lobe.", "grade"),
        ("Three lung nodules.", "counts 3"),
        ("No lung nodule.", "denies"),
        ("Small right pleural effusion.", "did not find"),
        ("The heart is enlarged.", "did not find"),
        ("The heart is not enlarged, cardiothoracic ratio 0.52.", "number"),
        ("Enlarged heart, cardiothoracic ratio 0.44.", "did not find"),
        ("The liver is normal.", "no expert measured"),
        ("There is a 14 mm nodule in the right upper lobe and the heart is enlarged.", "did not find"),
        ("A 14 mm nodule in the left lower lobe and a 6 mm nodule in the right upper lobe.", "number"),
        ("A spiculated 14 mm nodule in the right upper lobe.", "spiculated"),
        ("The right upper lobe nodule is suspicious for cancer.", "suspicious"),
    ],
)
def test_not_supported(sentence, reason):
    support = check_sentence(sentence, findings())
    assert support.findings == ()
    assert reason in support.reason


def test_a_whole_number_is_not_taken_for_a_probability():
    # p 0.94 rounds to 1, which must not support "grade 1"
    assert not check_sentence("Nodule, right upper lobe, 1.", findings()).findings


def test_changing_a_measurement_changes_the_verdict():
    sentence = "There is a 14 mm solid nodule in the right upper lobe."
    assert check_sentence(sentence, [sample.nodule(long_axis=14.2)]).findings
    assert not check_sentence(sentence, [sample.nodule(long_axis=17.0)]).findings


def test_split_keeps_decimals_and_drops_list_numbers():
    text = "1. Nodule of 1.2 mL. No effusion.\n2. Heart: ratio 0.44"
    assert split_sentences(text) == ["Nodule of 1.2 mL.", "No effusion.", "Heart: ratio 0.44"]
