from __future__ import annotations

from medvlm.training.batches import TokenBudgetBatches
from medvlm.training.drill import drill


def test_a_drill_is_said_again_word_for_word(conversation):
    for row in drill([conversation], 20):
        user, assistant = row.turns
        assert user.text == assistant.text
        assert 6 <= len(user.text.split()) <= 20


def test_the_words_are_numbers_and_words_of_the_experts(conversation):
    words = {word for row in drill([conversation], 50) for word in row.turns[0].text.split()}
    assert {word for word in words if not word.isdigit()} == {
        "lung",
        "nodules",
        "right",
        "upper",
        "lobe",
        "solid",
        "mm",
    }
    assert {str(digit) for digit in range(10)} <= words


def test_the_same_seed_gives_the_same_drills(conversation):
    assert drill([conversation], 5, seed=1) == drill([conversation], 5, seed=1) != drill([conversation], 5, seed=2)


def test_drills_come_first_and_only_once():
    batches = TokenBudgetBatches([10] * 30, budget=100, lead=20, lead_budget=50)
    first, second = batches.batches(0), batches.batches(1)
    assert [len(batch) for batch in first] == [5, 5, 5, 5, 10]
    assert sorted(row for batch in first[:4] for row in batch) == list(range(20))
    assert [sorted(batch) for batch in second] == [list(range(20, 30))]
    assert batches.steps(2) == 6
