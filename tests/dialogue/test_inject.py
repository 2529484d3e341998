"""What a model reads about experts and from them."""

from medvlm.dialogue.inject import check_trigger, error_turn, expert_turn, long_card, short_card, system_turn
from medvlm.dialogue.trigger import Trigger, parse_triggers
from tests.dialogue.sample import FakeExpert, nodule

CARDS = [FakeExpert.card]


def test_short_card_is_one_line():
    assert short_card(CARDS) == "experts: <CHEST_CT(nodules|effusion|heart|everything)>"


def test_long_card_says_what_for_how_well_and_what_not():
    text = long_card(CARDS)
    for part in (
        "<CHEST_CT(argument)>",
        "CT",
        "segmentation",
        "nodules: number and size",
        "0.87",
        "never saw a patient",
    ):
        assert part in text


def test_no_expert_means_no_system_turn():
    assert system_turn([]) == ()


def test_expert_turn_names_the_expert_and_lists_the_largest_first():
    turn = expert_turn(Trigger("CHEST_CT", "nodules"), [nodule(1, 6.4, "left", "lower_lobe"), nodule(2, 14.2)])
    # 14.2³ / 1910 = 1.5 mL, 6.4³ / 1910 = 0.14 mL.
    assert turn.role == "expert"
    assert turn.text == (
        "CHEST_CT:\nlung nodules: 2\n"
        "1. right upper lobe, solid, 14 mm, 1.5 mL, p 0.90\n"
        "2. left lower lobe, solid, 6 mm, 0.1 mL, p 0.90"
    )


def test_budget_drops_lines_from_the_end_and_says_so():
    findings = [nodule(number, 30.0 - number) for number in range(1, 9)]
    full = expert_turn(Trigger("CHEST_CT", "nodules"), findings)
    words = len(full.text.split())
    assert expert_turn(Trigger("CHEST_CT", "nodules"), findings, budget=words) == full
    short = expert_turn(Trigger("CHEST_CT", "nodules"), findings, budget=40)
    assert len(short.text.split()) <= 40
    assert "1. right upper lobe, solid, 29 mm" in short.text
    shown = sum(line[:1].isdigit() for line in short.text.splitlines())
    assert short.text.endswith(f"({8 - shown} more lines)")


def test_wrong_calls_are_answered_in_words_a_model_can_use():
    assert check_trigger(Trigger("CHEST_CT", "nodules"), CARDS) == ""
    assert check_trigger(Trigger("CHEST_CT", ""), CARDS) == ""
    assert check_trigger(Trigger("CHEST_CT", "liver"), CARDS) == (
        "no argument liver, choose nodules, effusion, heart, everything"
    )
    assert check_trigger(Trigger("MRI", "x"), CARDS) == "no such expert, choose CHEST_CT"
    assert check_trigger(Trigger("MRI", "x"), []) == "no expert is available"


def test_error_turn_cannot_carry_a_trigger():
    turn = error_turn(Trigger("A"), "file <B(x)> is broken.")
    assert turn.text == "A: error: file ‹B(x)› is broken."
    assert parse_triggers(turn.text) == []
