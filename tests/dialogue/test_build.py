"""Conversations from annotated studies."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from medvlm.dialogue.build import Mix, build_conversations
from medvlm.dialogue.practice import PracticePool
from medvlm.dialogue.questions import read_questions
from medvlm.dialogue.score import Score
from medvlm.dialogue.trigger import format_trigger, parse_triggers
from medvlm.dialogue.trust import Trust
from tests.dialogue.sample import FakeExpert, nodule

MIX = Mix(expert=30, plain=40, practice=120, failed=0.05)


@pytest.fixture(scope="module")
def chest():
    return read_questions("chest_ct")


@pytest.fixture
def built(studies, chest):
    return build_conversations(studies, chest, FakeExpert(), MIX, seed=3)


def kind(conversations, name):
    return [c for c in conversations if c.symbols["kind"] == name]


def replies(conversation):
    return [turn.text for turn in conversation.turns if turn.role == "assistant"]


def test_same_seed_same_conversations(studies, chest, built):
    assert build_conversations(studies, chest, FakeExpert(), MIX, seed=3) == built
    assert build_conversations(studies, chest, FakeExpert(), MIX, seed=4) != built


def test_a_study_gives_the_same_conversations_whatever_else_is_in_the_cohort(studies, chest, built):
    alone = build_conversations([studies[4]], chest, FakeExpert(), MIX, seed=3)
    assert alone == [c for c in built if c.patient == "patient-e"]


def test_ids_are_unique_and_splits_follow_the_patient(built):
    assert max(Counter(c.id for c in built).values()) == 1
    assert {c.split for c in built if c.patient == "patient-f"} == {"test"}


def test_plain_conversations_hold_the_truth_and_no_expert(built, studies, chest):
    for conversation in kind(built, "plain"):
        assert {turn.role for turn in conversation.turns} == {"user", "assistant"}
        assert conversation.images
    # The expert missed the nodule of d; without an expert the true answer is taught.
    texts = {turn.text for c in kind(built, "plain") if c.patient == "patient-d" for turn in c.turns}
    assert "Largest nodule: right upper lobe, solid, 9 mm." in texts
    assert "No nodule." not in texts


def test_expert_conversations_follow_the_expert_even_where_it_is_wrong(built):
    wrong = [c for c in kind(built, "expert") if c.patient == "patient-d"]
    texts = {turn.text for c in wrong for turn in c.turns if turn.role == "assistant"}
    assert "No nodule." in texts
    assert "Largest nodule: right upper lobe, solid, 9 mm." not in texts
    assert not any(c.symbols["agrees"] for c in wrong)
    assert all(c.symbols["agrees"] for c in kind(built, "expert") if c.patient == "patient-a")


def test_every_trigger_is_answered_and_nothing_is_asked_twice(built):
    for conversation in built:
        called = []
        for turn, following in zip(conversation.turns, conversation.turns[1:]):
            triggers = parse_triggers(turn.text) if turn.role == "assistant" else []
            if triggers:
                assert following.role == "expert"
                assert turn.text == format_trigger(triggers[0])
                called += triggers
        assert len(called) == len(set(called))


def test_practice_has_no_picture_and_many_numbers(built):
    practice = kind(built, "practice")
    assert practice
    assert not any(c.images for c in practice)
    assert {c.split for c in practice} == {"train"}
    sizes = {
        turn.text
        for c in practice
        for turn in c.turns
        if turn.text.startswith("Largest nodule:") and " mm." in turn.text
    }
    # Sizes of the training cohort are 6 to 22 mm; the largest of several covers the upper part of that range.
    assert len(sizes) >= 12


def test_failed_calls_teach_the_honest_answer(built):
    failed = [c for c in built if any("error" in turn.text for turn in c.turns if turn.role == "expert")]
    assert failed
    for conversation in failed:
        texts = [turn.text for turn in conversation.turns]
        assert "The expert gave no result." in texts


def test_test_questions_are_held_out_single_and_scored_by_the_truth(built, chest):
    tests = kind(built, "test")
    held_out = {phrasing for family in chest.families for phrasing in family.held_out}
    for conversation in tests:
        users = [turn for turn in conversation.turns if turn.role == "user"]
        assert len(users) == 1
        assert users[0].text in held_out
        assert conversation.images == (f"images/{conversation.symbols['study']}.png",)
        assert bool(conversation.symbols.get("trigger")) == conversation.symbols["needs_expert"]
    (size,) = [c for c in tests if c.id == "g-nodule_size"]
    # The truth is 9 mm, the expert saw none: the reference answer is honest and wrong.
    assert (size.symbols["value"], size.symbols["answer"]) == (9.0, "9")
    assert size.turns[-1].text == "The expert found no nodule."
    assert not Score.from_json(size.symbols["score"]).correct(size.turns[-1].text, 9.0)


def test_test_questions_apply_to_the_truth(built):
    tasks = Counter(c.task for c in kind(built, "test"))
    # f has two effusions, g none: the volume of "the" effusion is never asked, its side once.
    assert tasks["effusion_volume"] == 0
    assert tasks["effusion_side"] == 1
    assert tasks["nodule_size"] == 2


def test_no_expert_questions_take_turns(built, chest):
    others = [family.name for family in chest.families if not family.needs_expert]
    asked = Counter(c.task for c in kind(built, "test") if c.task in others)
    assert sum(asked.values()) == 2 * MIX.test_no_expert
    assert max(asked.values()) == 1


def test_practice_sizes_scale_together(studies):
    pool = PracticePool([study.shown for study in studies[:4]])
    rng = np.random.default_rng(0)
    nodules = [f for _ in range(200) for f in pool.draw(rng) if f.concept == nodule(1, 1.0).concept and f.measurements]
    for finding in nodules:
        # As in conftest: volume = size³ / 1910 before and after scaling.
        assert finding.measure("Volume") == pytest.approx(finding.measure("Long axis") ** 3 / 1910)
        assert 6.4 - 1e-9 <= finding.measure("Long axis") <= 22.0 + 1e-9


def test_practice_draws_come_from_the_training_split_only(studies, chest):
    huge = replace(studies[5], shown=(nodule(1, 99.0),))
    conversations = build_conversations([*studies[:5], huge], chest, FakeExpert(), MIX, seed=0)
    assert not any("99 mm" in turn.text for c in conversations if c.split != "test" for turn in c.turns)


def test_made_up_findings_beside_a_picture_teach_the_truth_with_the_doubt_said(studies, chest):
    mix = Mix(expert=60, plain=0, practice=0, failed=0.0, trust=Trust(wrong=0.5))
    built = [c for c in build_conversations(studies, chest, FakeExpert(), mix, seed=1) if c.split == "train"]
    texts = {text for c in built if c.patient == "patient-b" for text in replies(c)}
    # b has no nodule; an expert that shows one is contradicted.
    assert "The picture disagrees with the expert. No nodule." in texts
    assert any(not c.symbols["agrees"] for c in built if c.patient == "patient-b")


def test_style_of_expert_turns_is_a_choice(studies, chest):
    built = build_conversations(studies[:1], chest, FakeExpert(), Mix(expert=5, practice=0, failed=0.0, style="table"))
    turns = [turn.text for c in built for turn in c.turns if turn.role == "expert"]
    assert turns
    assert all("| finding |" in text for text in turns)


@pytest.mark.parametrize("kind", ["wrong", "doubtful", "conflict"])
def test_trust_training_teaches_the_truth_against_the_expert(studies, expert, kind):
    questions = read_questions("chest_ct")
    mix = Mix(expert=40, plain=0, practice=0, failed=0.0, trust=Trust(**{kind: 1.0}))
    rows = [c for c in build_conversations(studies[:1], questions, expert, mix) if c.symbols["kind"] == "expert"]
    said = {"conflict": "The experts disagree."}.get(kind, "The picture disagrees with the expert.")
    answers = [turn.text for row in rows for turn in row.turns if turn.role == "assistant"]
    assert any(text.startswith(said) for text in answers)
    shown = [turn.text for row in rows for turn in row.turns if turn.role == "expert"]
    assert any(text.startswith("CHEST_CT_2:") for text in shown) == (kind == "conflict")
    if kind == "doubtful":
        assert all("p 0.9" not in text for text in shown)
        assert any("p 0.51" in text for text in shown)
    # The taught answer is that of the truth, whatever the expert says: two nodules, the largest 14 mm.
    for row in rows:
        if row.task == "nodule_count":
            assert row.turns[-1].text.endswith("2 nodules.")
