"""Trust training: experts that are wrong, doubtful, contradicted or missing beside a picture that shows the truth.

What is taught is the truth, with the disagreement said. A model can only learn to distrust what it can check, so two
things are kept from giving a wrong expert away by its words: a wrong expert states its probabilities like a right one,
and a doubtful one is right as often as its probability says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medvlm.dialogue.corrupt import confident, doubt, flip
from medvlm.dialogue.practice import PracticePool
from medvlm.dialogue.questions import Family
from medvlm.errors import MedVLMError
from medvlm.findings.finding import Finding

# How one rate is divided: wrong, doubtful, conflict, missing.
SHARES = (0.6, 0.2, 0.1, 0.1)


@dataclass(frozen=True)
class Trust:
    """How often the expert of a training conversation is not one to be believed.

    Attributes:
        wrong: it says something untrue, with confidence.
        doubtful: it says with a probability of 0.51 what is true half of the time.
        conflict: a second expert contradicts it; one of the two is right.
        missing: it gives nothing, and the picture has to do.
    """

    wrong: float = 0.0
    doubtful: float = 0.0
    conflict: float = 0.0
    missing: float = 0.0

    def __post_init__(self) -> None:
        rates = (self.wrong, self.doubtful, self.conflict, self.missing)
        if min(rates) < 0 or sum(rates) > 1 + 1e-9:
            raise MedVLMError(f"the rates of trust training lie between 0 and 1 together, not {sum(rates):g}.")

    @property
    def rate(self) -> float:
        """Share of conversations in which the expert is not simply right."""
        return self.wrong + self.doubtful + self.conflict + self.missing

    @classmethod
    def of_rate(cls, rate: float) -> Trust:
        """The usual division of one rate."""
        return cls(*(round(rate * share, 6) for share in SHARES))


@dataclass(frozen=True)
class Shown:
    """What the expert of one conversation says: its Findings, those of a second one, or nothing (`failed`)."""

    findings: tuple[Finding, ...] = ()
    second: tuple[Finding, ...] | None = None
    failed: bool = False


def draw_shown(
    trust: Trust,
    truth: Sequence[Finding],
    asking: Sequence[Family],
    pool: PracticePool,
    rng: np.random.Generator,
) -> Shown | None:
    """What an expert that is not to be believed says, or None where it is right this time.

    Args:
        trust: the rates.
        truth: what is true of the study.
        asking: the questions that it can answer.
        pool: gives Findings of other patients.
        rng: of the draws.
    """
    draw = rng.random()
    if draw >= trust.rate:
        return None
    if draw < trust.wrong:
        # As often another patient's Findings as its own with what is asked about turned round.
        made_up = pool.draw(rng) if rng.random() < 0.5 else flip_all(truth, asking, pool, rng)
        return Shown(confident(made_up, rng))
    if draw < trust.wrong + trust.doubtful:
        said = truth if rng.random() < 0.5 else flip_all(truth, asking, pool, rng)
        return Shown(tuple(doubt(said)))
    if draw < trust.rate - trust.missing:
        both = [confident(truth, rng), confident(flip_all(truth, asking, pool, rng), rng)]
        first = int(rng.random() < 0.5)
        return Shown(both[first], both[1 - first])
    return Shown(failed=True)


def flip_all(
    truth: Sequence[Finding], asking: Sequence[Family], pool: PracticePool, rng: np.random.Generator
) -> tuple[Finding, ...]:
    """The truth with one thing turned round in every concept that is asked about."""
    found = list(truth)
    for concept in dict.fromkeys(family.concept for family in asking if family.concept):
        about = [family for family in asking if family.concept == concept and family.applies(found)]
        if about:
            found = flip(found, about[int(rng.integers(len(about)))], pool, rng)
    return tuple(found)
