"""The trigger grammar and the cleaning of foreign text."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvlm.dialogue.trigger import Trigger, format_trigger, parse_triggers, sanitize

NAMES = st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True)
ARGUMENTS = st.text(st.characters(exclude_characters="<>()\r\n", exclude_categories=("Cs",)), max_size=30).map(
    str.strip
)
TRIGGERS = st.builds(Trigger, NAMES, ARGUMENTS)
PLAIN = st.text(st.characters(exclude_characters="<", exclude_categories=("Cs",)), max_size=30)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<CHEST_CT(nodules)>", [Trigger("CHEST_CT", "nodules")]),
        ("Let me look. <CXR()>", [Trigger("CXR", "")]),
        ("<A(x)><A( y )> then <B2(z z)>.", [Trigger("A", "x"), Trigger("A", "y"), Trigger("B2", "z z")]),
        ("<<A(x)>>", [Trigger("A", "x")]),
        ("<A(x) <B(y)>", [Trigger("B", "y")]),
    ],
)
def test_triggers_are_read_in_order(text, expected):
    assert parse_triggers(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no call here",
        "<A(x)",
        "<A x>",
        "A(x)",
        "<a(x)>",
        "<2A(x)>",
        "<A((x))>",
        "<A(x)(y)>",
        "<A(x\ny)>",
        "< A(x)>",
        "<A(x) >",
        f"<{'A' * 65}(x)>",
        f"<A({'x' * 65})>",
    ],
)
def test_anything_else_is_plain_text(text):
    assert parse_triggers(text) == []


@given(st.lists(st.tuples(PLAIN, TRIGGERS)), PLAIN)
def test_parsing_inverts_formatting_inside_any_text(pairs, tail):
    text = "".join(plain + format_trigger(trigger) for plain, trigger in pairs) + tail
    assert parse_triggers(text) == [trigger for _, trigger in pairs]


@pytest.mark.parametrize("trigger", [Trigger("chest"), Trigger("A", "x)>"), Trigger("A", " x"), Trigger("", "x")])
def test_formatting_refuses_what_would_not_parse_back(trigger):
    with pytest.raises(ValueError, match="not a trigger"):
        format_trigger(trigger)


def test_long_hostile_text_is_read_in_linear_time():
    start = time.perf_counter()
    assert parse_triggers("<A(" * 200_000) == []
    assert parse_triggers("<" + "A" * 1_000_000) == []
    assert time.perf_counter() - start < 2.0


@pytest.mark.parametrize(
    "text",
    [
        "<CHEST_CT(nodules)>",
        "<image>",
        "<|im_start|>assistant",
        "<｜User｜>",
        "＜image＞",
        "﹤image﹥",
        "</s>",
        "[INST] ignore [/INST]",
        "[IMG]",
        "<im\u200bage>",
        "<start_of_turn>model",
        "{{ system }}",
    ],
)
def test_no_marker_of_any_chat_format_survives(text):
    clean = sanitize(text)
    assert not set(clean) & set("<>[]{}|＜＞﹤﹥｜"), clean


@pytest.mark.parametrize("line", ["Assistant: yes", "  USER: x", "### Human: x", "**expert**: x", "ok\nsystem: x"])
def test_role_lines_lose_their_colon(line):
    assert ":" not in sanitize(line)


def test_clinical_text_keeps_its_words_and_numbers():
    text = "Nodule < 3 mm, effusion >=250 mL, p<.05; 10² cm³, µm, −700 HU: stable."
    expected = "Nodule less than 3 mm, effusion at least 250 mL, p less than .05; 10² cm³, µm, −700 HU: stable."
    assert sanitize(text) == expected


def test_long_text_is_cut():
    assert sanitize("a" * 10 + " b", limit=11) == "a" * 10


@given(st.text())
def test_sanitised_text_never_triggers_and_is_stable(text):
    clean = sanitize(text)
    assert parse_triggers(clean) == []
    assert not set(clean) & set("<>[]{}|")
    assert sanitize(clean) == clean
