"""Pairs, credit, clipped objectives, values and the guard, on numbers that can be checked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.models.chat import Encoded
from medvlm.pathways.consistency import Conflict
from medvlm.training.advantage import contradictions, turn_advantages
from medvlm.training.critic import Critic, advantages, first_of_each, value_loss
from medvlm.training.grounding import guarded, other_images, weights
from medvlm.training.preference import PreferenceSettings, pair_loss
from medvlm.training.scripts import GIVEN, Sample, Script
from medvlm.training.surrogate import Variant, divergence, surrogate


@pytest.mark.parametrize(
    ("settings", "lead", "loss"),
    [
        # log(1 + exp(-0.5 * 2))
        (PreferenceSettings("dpo", beta=0.5), 2.0, math.log(1 + math.exp(-1))),
        # At no lead DPO is at log 2, whatever its strength.
        (PreferenceSettings("dpo", beta=0.1), 0.0, math.log(2)),
        # IPO wants a lead of 1 / (2 * 0.5) = 1, no more and no less.
        (PreferenceSettings("ipo", beta=0.5), 3.0, 4.0),
        # SimPO: 2 * 0.5 - 0.5 above its margin.
        (PreferenceSettings("simpo", beta=2.0, margin=0.5), 0.5, math.log(1 + math.exp(-0.5))),
    ],
)
def test_losses_of_a_pair(settings: PreferenceSettings, lead: float, loss: float) -> None:
    assert pair_loss(torch.tensor([lead]), settings).item() == pytest.approx(loss)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def test_turn_credit_of_a_known_group() -> None:
    # Two turns; own rewards minus their means are +-1 and 0, totals 2, 0 minus 1 are +-1; weight of the whole 0.5.
    rewards = torch.tensor([[1.0, 1.0], [-1.0, 1.0]])
    credit = turn_advantages(rewards, discount=0.0, whole=0.5, scaled=False)
    assert torch.allclose(credit, torch.tensor([[1.5, 0.5], [-1.5, -0.5]]))


def test_a_discount_pays_a_turn_for_what_follows() -> None:
    # Only the second turn earns; with discount 0.5 the first gets half of it.
    rewards = torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    credit = turn_advantages(rewards, discount=0.5, whole=0.0, scaled=False)
    assert torch.allclose(credit, torch.tensor([[0.5, 1.0], [-0.5, -1.0]]))


def test_a_group_that_earned_the_same_has_no_credit() -> None:
    assert not turn_advantages(torch.full((4, 3), 0.3)).any()


def test_the_later_of_two_answers_that_clash_contradicts() -> None:
    clash = Conflict(("diagnosis", "proliferation"), ("rule",), ("text",))
    assert contradictions([clash], ["quality", "diagnosis", "proliferation"]) == [0, 0, 1]
    assert contradictions([clash], ["proliferation", "quality", "diagnosis"]) == [0, 0, 1]
    assert contradictions([], ["quality"]) == [0]
    # A question that is asked twice and answered in two ways: the second time.
    assert contradictions([Conflict(("quality",), (), ())], ["quality", "cells", "quality"]) == [0, 0, 1]


def test_a_small_spread_is_not_blown_up_to_one() -> None:
    # The spread of +-0.01 is 0.01; divided by itself it would be +-1, by at least 0.1 it is +-0.1.
    rewards = torch.tensor([[0.01], [-0.01]])
    assert turn_advantages(rewards, whole=0.0, least=0.1)[0, 0] == pytest.approx(0.1, rel=1e-2)


@pytest.mark.parametrize(
    ("variant", "total", "normaliser"),
    [
        # Ratios 1.5 (advantage 1) and 0.5 (advantage -1), clipped at 1.2 and 0.8: -1.2 + 0.8.
        ("ppo", -0.4, 2),
        ("grpo", -0.4, 2),
        # The upper bound of DAPO is 1.28.
        ("dapo", -0.48, 2),
        # A constant divides: two conversations of at most four tokens.
        ("dr_grpo", -0.4, 8),
    ],
)
def test_ratios_are_clipped_where_that_is_pessimistic(variant: Variant, total: float, normaliser: int) -> None:
    change, place = torch.log(tensor(1.5, 0.5)), torch.tensor([0, 1])
    found = surrogate(variant, change, tensor(1, -1), place, place, samples=2, longest=4)
    assert found.total.item() == pytest.approx(total)
    assert found.normaliser.item() == normaliser
    assert found.clipped.item() == 1.0


def test_variants_weigh_tokens_differently() -> None:
    # Two tokens of a good conversation, one of a bad one, all ratios 1. Mean over each conversation: -1 + 1.
    change, advantage, rows = torch.zeros(3), tensor(1, 1, -1), torch.tensor([0, 0, 1])
    by_conversation = surrogate("grpo", change, advantage, rows, rows, 2, 4)
    assert (by_conversation.total.item(), by_conversation.normaliser.item()) == (0.0, 2.0)
    by_token = surrogate("dapo", change, advantage, rows, rows, 2, 4)
    assert (by_token.total.item(), by_token.normaliser.item()) == (-1.0, 3.0)


def test_gspo_has_one_ratio_an_answer_and_a_gradient_for_each_token() -> None:
    # Log ratios 0 and 2e-4: their mean 1e-4 is inside 4e-4, so both tokens have the ratio exp(1e-4).
    change = tensor(0.0, 2e-4).requires_grad_()
    place = torch.zeros(2, dtype=torch.long)
    found = surrogate("gspo", change, tensor(1, 1), place, place, 1, 4)
    assert found.total.item() == pytest.approx(-math.exp(1e-4))
    found.total.backward()
    # Half each: the mean over the conversation.
    assert torch.allclose(change.grad, torch.full((2,), -0.5), atol=1e-3)


def test_the_divergence_is_never_negative_and_nought_at_the_reference() -> None:
    # exp(g) - g - 1 at g = ln 2 is 2 - ln 2 - 1.
    found = divergence(torch.log(tensor(0.25, 0.5)), torch.log(tensor(0.5, 0.5)))
    assert torch.allclose(found, tensor(1 - math.log(2), 0.0))


def test_generalised_advantages_over_turns() -> None:
    # discount 0.9, lambda 0.5; backwards:
    #   delta_2 = 2 - 1 = 1                   A_2 = 1
    #   delta_1 = 0 + 0.9 * 1 - 0.5 = 0.4     A_1 = 0.4 + 0.45 * 1 = 0.85
    #   delta_0 = 1 + 0.9 * 0.5 - 0.5 = 0.95  A_0 = 0.95 + 0.45 * 0.85 = 1.3325
    found, returns = advantages(tensor(1, 0, 2), tensor(0.5, 0.5, 1.0), discount=0.9, smoothing=0.5)
    assert torch.allclose(found, tensor(1.3325, 0.85, 1.0))
    assert torch.allclose(returns, tensor(1.8325, 1.35, 2.0))


def test_without_discount_a_turn_is_paid_for_itself() -> None:
    found, returns = advantages(tensor(1, 0), tensor(0.25, 0.25), discount=0.0, smoothing=0.95)
    assert torch.allclose(found, tensor(0.75, -0.25))
    assert torch.allclose(returns, tensor(1, 0))


def test_the_value_loss_takes_the_worse_of_value_and_clipped_value() -> None:
    # From 0.5 to 1.0 is clipped to 0.7: (2 - 0.7)^2 / 2. From 0.5 to 0.6 is not: (2 - 0.6)^2 / 2.
    found = value_loss(tensor(1.0, 0.6), tensor(0.5, 0.5), tensor(2, 2))
    assert torch.allclose(found, tensor(0.845, 0.98))


def test_the_critic_begins_at_nought_and_reads_the_first_token_of_each_answer() -> None:
    assert first_of_each(torch.tensor([0, 0, 1, 2, 2, 2])).tolist() == [0, 2, 3]
    assert Critic(8)(torch.randn(3, 8)).tolist() == [0.0, 0.0, 0.0]


def sample(name: str, truth: str, picture: float, wide: int = 2, patient: str = "") -> Sample:
    row = Conversation(
        name, patient or name, "train", (Turn("user", "?"), Turn("assistant", "!")), symbols={"truth": {"a": truth}}
    )
    opening = Encoded(torch.arange(2), torch.zeros(2, dtype=torch.bool), {}, {"pixels": torch.full((1, wide), picture)})
    return Sample(Script.of(row), opening, ids=[5, 6, 7, 8], turns=[0, 0, GIVEN, 1], answers=["x", "y"])


def test_an_answer_weighs_what_another_picture_takes_away() -> None:
    # First answer: two tokens that lose 1 nat together. Second: as likely beside the other picture.
    (found,) = weights(tensor(-1, -1, -1), tensor(-1.5, -1.5, -1), [sample("a", "x", 1.0)])
    assert torch.allclose(found, tensor(1 - math.exp(-1), 0.0))


def test_an_answer_that_another_picture_makes_likelier_weighs_nothing() -> None:
    (found,) = weights(tensor(-1, -1, -3), tensor(-1, -1, -1), [sample("a", "x", 1.0)])
    assert torch.allclose(found, tensor(0.0, 0.0))


def test_a_right_answer_from_a_cue_earns_what_a_wrong_one_earns() -> None:
    # Right by the picture (0.8 of its likelihood), right by a cue, wrong by the picture; second turn: all wrong.
    rewards = torch.tensor([[1.0, -0.5], [1.0, -0.5], [-0.7, -0.5]])
    shares = torch.tensor([[0.8, 1.0], [0.0, 0.5], [0.9, 0.0]])
    # (1 + 0.7) * 0.8 = 1.36.
    assert torch.allclose(guarded(rewards, shares), torch.tensor([[1.36, 0.0], [0.0, 0.0], [0.0, 0.0]]))


def test_the_guard_shows_pictures_of_another_patient_with_another_truth() -> None:
    same = [sample("a", "x", 1.0), sample("a", "x", 1.0), sample("b", "x", 2.0), sample("c", "y", 3.0)]
    shown = [images["pixels"][0, 0].item() for images in other_images(same, "shuffled")]
    # c has another truth than a and b; from c on, a is the next one.
    assert shown == [3.0, 3.0, 3.0, 1.0]


def test_where_no_picture_fits_the_guard_shows_a_blank_one() -> None:
    alone = [sample("a", "x", 1.0), sample("b", "y", 2.0, wide=3), sample("c", "y", 4.0, patient="a")]
    shown = [images["pixels"].tolist() for images in other_images(alone, "shuffled")]
    assert shown == [[[0.0, 0.0]], [[0.0, 0.0, 0.0]], [[0.0, 0.0]]]
    assert not other_images(alone, "blank")[1]["pixels"].any()
