from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from medvlm.training.batches import TokenBudgetBatches

LENGTHS = np.random.default_rng(0).integers(10, 200, 300).tolist()


def test_every_row_comes_once_and_no_batch_exceeds_the_budget():
    batches = TokenBudgetBatches(LENGTHS, budget=1000).batches(0)
    assert sorted(row for batch in batches for row in batch) == list(range(300))
    assert all(len(batch) * max(LENGTHS[row] for row in batch) <= 1000 for batch in batches)


def test_a_row_longer_than_the_budget_makes_a_batch_of_its_own():
    batches = TokenBudgetBatches([5000, 10, 10], budget=100, shuffle=False).batches(0)
    assert batches == [[0], [1, 2]]


def test_grouping_by_length_saves_padding():
    def waste(group: int) -> float:
        batches = TokenBudgetBatches(LENGTHS, budget=2000, group=group).batches(0)
        padded = sum(len(batch) * max(LENGTHS[row] for row in batch) for batch in batches)
        return 1 - sum(LENGTHS) / padded

    assert waste(16) < 0.1 < waste(1)


def test_batches_of_all_lengths_are_full_and_each_longest_first():
    batches = TokenBudgetBatches(LENGTHS, budget=1000, group=1, packed=True).batches(0)
    sizes = [sum(LENGTHS[row] for row in batch) for batch in batches]
    # A batch is closed by a row of at most 199 tokens that does not fit; only the last one may be shorter.
    assert sum(size <= 801 for size in sizes) <= 1
    assert max(sizes) <= 1000
    assert sorted(row for batch in batches for row in batch) == list(range(300))
    assert all(LENGTHS[one] >= LENGTHS[other] for batch in batches for one, other in pairwise(batch))


def test_the_order_depends_on_seed_and_epoch_only():
    one, other = (TokenBudgetBatches(LENGTHS, 1000, seed=3) for _ in range(2))
    assert one.batches(2) == other.batches(2)
    assert one.batches(2) != one.batches(3)
    assert one.batches(2) != TokenBudgetBatches(LENGTHS, 1000, seed=4).batches(2)


def test_a_restored_sampler_goes_on_with_the_next_batch():
    whole = TokenBudgetBatches(LENGTHS, 1000)
    expected = [*whole, *whole]
    stopped = TokenBudgetBatches(LENGTHS, 1000)
    iterator = iter(stopped)
    seen = [next(iterator) for _ in range(7)]
    resumed = TokenBudgetBatches(LENGTHS, 1000)
    resumed.load_state_dict(stopped.state_dict())
    assert [*seen, *resumed, *resumed] == expected


def test_a_reader_that_stops_at_the_last_batch_gets_the_next_epoch_next():
    whole = TokenBudgetBatches(LENGTHS, 1000)
    expected = [*whole, *whole, *whole]
    sampler = TokenBudgetBatches(LENGTHS, 1000)
    seen = [batch for _ in range(3) for _, batch in zip(range(len(sampler)), sampler, strict=False)]
    assert seen == expected


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_share_the_same_batches_and_take_as_many_steps(ranks):
    samplers = [TokenBudgetBatches(LENGTHS, 1000, rank=rank, ranks=ranks) for rank in range(ranks)]
    parts = [list(sampler) for sampler in samplers]
    assert len({len(part) for part in parts}) == 1
    assert {row for part in parts for batch in part for row in batch} == set(range(300))
    assert samplers[0].steps(1) == len(parts[0])
