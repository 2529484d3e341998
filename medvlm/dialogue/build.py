"""An annotated cohort in, conversations out: how a model is taught to ask for findings and to use them.

The kinds of training conversation:

* `expert`: the experts are on offer and the picture is shown; the assistant triggers, reads and answers. The answer
  follows the expert's Findings, right or wrong, because an answer must be supported by the evidence it cites; where
  they disagree with the truth the conversation says so (`symbols["agrees"]`), so that other objectives can use it.
* `plain`: no expert is on offer; the assistant answers from the picture, and is taught the truth. Without these the
  comparison with and without an expert would be unfair.
* `practice`: made-up findings without a picture (`practice.py`), so that reading is learnt, not recalling.

Every kind mixes in questions that need no expert, and follow-up questions whose answer has been shown
already. A small share of expert calls fails, and the honest answer is taught.

Test conversations ask one question each, in held-out phrasings; their `symbols` carry the true value, the rule that
judges answers and whether a trigger is expected.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.dialogue.corrupt import doubt, flip
from medvlm.dialogue.inject import error_turn, expert_turn, second_opinion, system_turn
from medvlm.dialogue.loop import Offer
from medvlm.dialogue.practice import PracticePool
from medvlm.dialogue.questions import Family, Questions
from medvlm.dialogue.trigger import Trigger, format_trigger
from medvlm.findings.finding import Finding
from medvlm.findings.verbalise import Style, verbalise
from medvlm.imaging.cohort import CohortEntry

FAILURE = "the study could not be read"


@dataclass(frozen=True)
class Mix:
    """How many conversations of each kind one study gives, and what is mixed into them.

    Attributes:
        expert: training conversations with experts on offer, a study.
        plain: training conversations without, a study.
        practice: practice conversations, a study.
        turns: most questions in one conversation.
        no_expert: share of questions that need no expert.
        failed: share of expert calls that fail.
        wrong: share of `expert` conversations in which the expert says something made up; the answer taught is the
            truth, with the doubt said (trust training). It is for models that can see.
        doubtful: share of `expert` conversations in which the expert is wrong and says it with little confidence.
        conflict: share of `expert` conversations in which a second expert contradicts the first; the answer taught is
            the truth, with the conflict said.
        style: how Findings are written in expert turns (`short`, `long`, `table`, `json`).
        validation: validation conversations of the kinds `expert` and `plain` each, a study.
        test_no_expert: test questions that need no expert, a study.
    """

    expert: int = 8
    plain: int = 4
    practice: int = 24
    turns: int = 3
    no_expert: float = 0.25
    failed: float = 0.02
    wrong: float = 0.0
    doubtful: float = 0.0
    conflict: float = 0.0
    style: Style = "short"
    validation: int = 2
    test_no_expert: int = 4

    @property
    def mistrust(self) -> float:
        """Share of conversations with an expert in which it is not simply believed."""
        return self.wrong + self.doubtful + self.conflict


@dataclass(frozen=True)
class StudyFacts:
    """What is known of one study: its entry, its picture, the truth and what the expert found.

    `failed` says that the expert could not read the study; `shown` is empty then.
    """

    entry: CohortEntry
    image: str
    truth: tuple[Finding, ...]
    shown: tuple[Finding, ...]
    failed: bool = False


def build_conversations(
    studies: Sequence[StudyFacts], questions: Questions, expert: Offer, mix: Mix, seed: int = 0
) -> list[Conversation]:
    """All conversations of a cohort, in the order of its studies; the same input and seed give the same output."""
    pool = PracticePool([study.shown for study in studies if study.entry.split == "train" and not study.failed])
    conversations: list[Conversation] = []
    for number, study in enumerate(studies):
        rng = np.random.default_rng([seed, zlib.crc32(study.entry.id.encode())])
        author = _Author(study, questions, expert, mix, rng)
        if study.entry.split == "test":
            conversations += author.test(number)
            continue
        train = study.entry.split == "train"
        for n in range(mix.expert if train else mix.validation):
            conversations.append(author.trusted(n, pool) if train and mix.mistrust else author.with_expert(n))
        conversations += [author.plain(n) for n in range(mix.plain if train else mix.validation)]
        if train:
            conversations += [author.practice(n, pool.draw(rng)) for n in range(mix.practice)]
    return conversations


class _Author:
    """Writes the conversations of one study."""

    def __init__(
        self, study: StudyFacts, questions: Questions, expert: Offer, mix: Mix, rng: np.random.Generator
    ) -> None:
        self.study, self.questions, self.expert, self.mix, self.rng = study, questions, expert, mix, rng
        self.asking = [family for family in questions.families if family.needs_expert]
        self.other = [family for family in questions.families if not family.needs_expert]

    def with_expert(self, number: int, made_up: tuple[Finding, ...] | None = None) -> Conversation:
        """Experts on offer, the picture shown; answers follow the expert, or the truth where it makes things up."""
        shown = self.study.shown if made_up is None else made_up
        truth = None if made_up is None else self.study.truth
        return self._dialogue(f"expert-{number}", shown, self._agrees(shown), (self.study.image,), truth)

    def trusted(self, number: int, pool: PracticePool) -> Conversation:
        """A conversation whose expert may be wrong, doubtful or contradicted, at the rates of the mix."""
        draw, mix = self.rng.random(), self.mix
        if draw < mix.wrong:
            # As often another patient's Findings as its own with what is asked about turned round.
            return self.with_expert(number, pool.draw(self.rng) if self.rng.random() < 0.5 else self._flipped(pool))
        if draw < mix.wrong + mix.doubtful:
            return self.with_expert(number, tuple(doubt(self._flipped(pool))))
        if draw < mix.mistrust:
            both = (self.study.truth, self._flipped(pool))
            first, second = both if self.rng.random() < 0.5 else both[::-1]
            return self._dialogue(f"expert-{number}", first, False, (self.study.image,), self.study.truth, second)
        return self.with_expert(number)

    def _flipped(self, pool: PracticePool) -> tuple[Finding, ...]:
        """The truth with one thing turned round in every concept that is asked about."""
        found = list(self.study.truth)
        for concept in dict.fromkeys(family.concept for family in self.asking if family.concept):
            about = [f for f in self.asking if f.concept == concept and f.applies(found)]
            if about:
                found = flip(found, about[int(self.rng.integers(len(about)))], pool, self.rng)
        return tuple(found)

    def practice(self, number: int, shown: tuple[Finding, ...]) -> Conversation:
        """The same with made-up Findings and no picture."""
        return self._dialogue(f"practice-{number}", shown, True, ())

    def plain(self, number: int) -> Conversation:
        """No expert on offer: true answers from the picture."""
        turns: list[Turn] = []
        tasks = []
        for _ in range(self._length()):
            family = self._choose(self.study.truth, quotes=False)
            tasks.append(family.name)
            answer = family.answer(self.study.truth).text
            turns += [Turn("user", self._pick(family.train)), Turn("assistant", answer)]
        return self._finish(f"plain-{number}", turns, (self.study.image,), tasks, (), {"kind": "plain"})

    def test(self, number: int) -> list[Conversation]:
        """One conversation a question that applies to the truth; those without an expert take turns over studies."""
        rotated = [self.other[(number * self.mix.test_no_expert + n) % len(self.other)] for n in range(len(self.other))]
        families = [family for family in self.asking if family.applies(self.study.truth) and not family.quote]
        return [self._test_question(family) for family in [*families, *rotated[: self.mix.test_no_expert]]]

    def _test_question(self, family: Family) -> Conversation:
        truth = family.answer(self.study.truth)
        turns = [Turn("user", self._pick(family.held_out))]
        symbols = {
            "kind": "test",
            "study": self.study.entry.id,
            "needs_expert": family.needs_expert,
            "answer": truth.value.words if truth.value else truth.text,
            "value": truth.value.exact if truth.value else None,
            "score": family.score.to_json() if family.score else None,
        }
        findings: tuple[str, ...] = ()
        if family.argument is not None:
            trigger = Trigger(self.expert.card.trigger_name, family.argument)
            selected = self.expert.select(self.study.shown, family.argument)
            findings = tuple(finding.id for finding in selected)
            said = expert_turn(trigger, selected, self.mix.style)
            turns += [Turn("assistant", format_trigger(trigger)), self._failure(trigger) if self.study.failed else said]
            symbols["trigger"] = format_trigger(trigger)
        failed = self.study.failed and family.needs_expert
        turns.append(Turn("assistant", self.questions.failed if failed else family.answer(self.study.shown).text))
        turns[:0] = system_turn([self.expert.card])
        return self._finish(family.name, turns, (self.study.image,), [family.name], findings, symbols)

    def _dialogue(
        self,
        identity: str,
        shown: tuple[Finding, ...],
        agrees: bool,
        images: tuple[str, ...],
        truth: tuple[Finding, ...] | None = None,
        second: tuple[Finding, ...] | None = None,
    ) -> Conversation:
        """Questions about what an expert shows; where `truth` is given, it is what answers must say.

        `second` is what another expert says to the same calls.
        """
        turns: list[Turn] = [*system_turn([self.expert.card])]
        failed: set[str] = set()
        called: set[str] = set()
        ids: dict[str, None] = {}
        tasks = []
        for _ in range(self._length()):
            family = self._choose(self.study.truth if self.study.failed and images else shown)
            tasks.append(family.name)
            turns.append(Turn("user", self._pick(family.train)))
            if family.argument is None:
                turns.append(Turn("assistant", family.answer(shown).text))
                continue
            selected = self.expert.select(shown, family.argument)
            # What has been shown, by whatever call, is not asked for again.
            shown_already = bool(selected) and all(finding.id in ids for finding in selected)
            if family.argument not in called and not shown_already:
                called.add(family.argument)
                trigger = Trigger(self.expert.card.trigger_name, family.argument)
                turns.append(Turn("assistant", format_trigger(trigger)))
                # Practice findings are not the study's own: they can be shown even where the expert failed on it.
                if self.rng.random() < self.mix.failed or (self.study.failed and shown is self.study.shown):
                    failed.add(family.argument)
                    turns.append(self._failure(trigger))
                else:
                    ids |= dict.fromkeys(finding.id for finding in selected)
                    turns.append(expert_turn(trigger, selected, self.mix.style))
                    if second is not None:
                        again = self.expert.select(second, family.argument)
                        turns.append(expert_turn(second_opinion(trigger), again, self.mix.style))
            reply = self._reply(family, family.argument in failed, shown, selected, truth, second)
            turns.append(Turn("assistant", reply))
        symbols = {"kind": identity.partition("-")[0], "agrees": agrees}
        return self._finish(identity, turns, images, tasks, tuple(ids), symbols)

    def _failure(self, trigger: Trigger) -> Turn:
        return error_turn(trigger, FAILURE)

    def _reply(
        self,
        family: Family,
        failed: bool,
        shown: tuple[Finding, ...],
        selected: tuple[Finding, ...],
        truth: tuple[Finding, ...] | None,
        second: tuple[Finding, ...] | None,
    ) -> str:
        """The answer to teach after an expert call."""
        if failed:
            return self.questions.failed
        if family.quote:
            return verbalise(selected, self.mix.style)
        said = family.answer(shown)
        true = said if truth is None else family.answer(truth)
        if second is not None and family.answer(second).text != said.text:
            return self.questions.conflicting.format(answer=true.text)
        return said.text if true.text == said.text else self.questions.disputed.format(answer=true.text)

    def _finish(
        self,
        identity: str,
        turns: list[Turn],
        images: tuple[str, ...],
        tasks: list[str],
        findings: tuple[str, ...],
        symbols: Mapping[str, object],
    ) -> Conversation:
        """Put the picture on the first question and the labels on the whole."""
        first = next(index for index, turn in enumerate(turns) if turn.role == "user")
        turns[first] = Turn("user", turns[first].text, images)
        entry = self.study.entry
        return Conversation(
            id=f"{entry.id}-{identity}",
            patient=entry.patient,
            split=entry.split,
            turns=tuple(turns),
            task="+".join(dict.fromkeys(tasks)),
            findings=findings,
            symbols=dict(symbols),
        )

    def _choose(self, findings: Sequence[Finding], quotes: bool = True) -> Family:
        """A question that makes sense for these Findings; now and then one that does not, for the honest answer."""
        if self.other and self.rng.random() < self.mix.no_expert:
            return self.other[int(self.rng.integers(len(self.other)))]
        silly = self.rng.random() < 0.05
        families = [f for f in self.asking if f.applies(findings) or (silly and f.nothing)]
        families = [f for f in families if quotes or not f.quote]
        weights = np.array([family.weight for family in families])
        return families[int(self.rng.choice(len(families), p=weights / weights.sum()))]

    def _length(self) -> int:
        """Number of questions: one in half of the conversations, else up to `turns`."""
        return 1 if self.rng.random() < 0.5 else int(self.rng.integers(1, self.mix.turns + 1))

    def _pick(self, phrasings: Sequence[str]) -> str:
        return phrasings[int(self.rng.integers(len(phrasings)))]

    def _agrees(self, shown: Sequence[Finding]) -> bool:
        """Whether every question has the same answer from these Findings as from the truth, within its tolerance."""
        for family in self.asking:
            true, said = family.answer(self.study.truth), family.answer(shown)
            if (true.value is None) != (said.value is None):
                return False
            if true.value and family.score and not family.score.correct(said.text, true.value.exact):
                return False
        return True
