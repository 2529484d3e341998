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
from dataclasses import dataclass, field

import numpy as np

from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.dialogue.corrupt import confident
from medvlm.dialogue.inject import error_turn, expert_turn, second_opinion, system_turn
from medvlm.dialogue.loop import Offer
from medvlm.dialogue.practice import PracticePool
from medvlm.dialogue.questions import Family, Questions
from medvlm.dialogue.trigger import Trigger, format_trigger
from medvlm.dialogue.trust import Shown, Trust, draw_shown
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
        trust: shares of `expert` conversations whose expert is wrong, doubtful, contradicted or missing; the answer
            taught is the truth, with the disagreement said. It is for models that can see.
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
    trust: Trust = field(default_factory=Trust)
    style: Style = "short"
    validation: int = 2
    test_no_expert: int = 4


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
            conversations.append(author.with_expert(n, pool if train and mix.trust.rate else None))
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

    def with_expert(self, number: int, pool: PracticePool | None = None) -> Conversation:
        """Experts on offer, the picture shown; answers follow the expert, or the truth where it is not to be believed.

        With a `pool` it may be wrong, doubtful, contradicted or missing, at the rates of the mix.
        """
        study, name = self.study, f"expert-{number}"
        said = None if pool is None else draw_shown(self.mix.trust, study.truth, self.asking, pool, self.rng)
        if said is not None:
            return self._dialogue(name, said, self._agrees(said.findings), (study.image,), study.truth)
        found = study.shown
        if pool is not None and found == study.truth:
            # An expert that is the truth itself states what it says like the wrong ones do.
            found = confident(found, self.rng)
        return self._dialogue(name, Shown(found, failed=study.failed), self._agrees(found), (study.image,))

    def practice(self, number: int, shown: tuple[Finding, ...]) -> Conversation:
        """The same with made-up Findings and no picture."""
        return self._dialogue(f"practice-{number}", Shown(shown), True, ())

    def plain(self, number: int) -> Conversation:
        """No expert on offer: true answers from the picture."""
        turns: list[Turn] = []
        tasks = []
        for _ in range(self._length()):
            family = self._choose(self.study.truth, quotes=False)
            tasks.append(family.name)
            answer = self.questions.plain_answer(family, self.study.truth).text
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
        said: Shown,
        agrees: bool,
        images: tuple[str, ...],
        truth: tuple[Finding, ...] | None = None,
    ) -> Conversation:
        """Questions about what an expert says; where `truth` is given, it is what answers must say."""
        turns: list[Turn] = [*system_turn([self.expert.card])]
        failed: set[str] = set()
        called: set[str] = set()
        ids: dict[str, None] = {}
        tasks = []
        for _ in range(self._length()):
            # Where nothing is shown, the questions are those that the study itself answers.
            family = self._choose(self.study.truth if said.failed else said.findings, not (said.failed and truth))
            tasks.append(family.name)
            turns.append(Turn("user", self._pick(family.train)))
            if family.argument is None:
                turns.append(Turn("assistant", family.answer(said.findings).text))
                continue
            selected = self.expert.select(said.findings, family.argument)
            # What has been shown, by whatever call, is not asked for again.
            shown_already = bool(selected) and all(finding.id in ids for finding in selected)
            if family.argument not in called and not shown_already:
                called.add(family.argument)
                trigger = Trigger(self.expert.card.trigger_name, family.argument)
                turns.append(Turn("assistant", format_trigger(trigger)))
                if self.rng.random() < self.mix.failed or said.failed:
                    failed.add(family.argument)
                    turns.append(self._failure(trigger))
                else:
                    ids |= dict.fromkeys(finding.id for finding in selected)
                    turns.append(expert_turn(trigger, selected, self.mix.style))
                    if said.second is not None:
                        again = self.expert.select(said.second, family.argument)
                        turns.append(expert_turn(second_opinion(trigger), again, self.mix.style))
            reply = self._reply(family, family.argument in failed, said, selected, truth, images)
            turns.append(Turn("assistant", reply))
        symbols = {"kind": identity.partition("-")[0], "agrees": agrees}
        return self._finish(identity, turns, images, tasks, tuple(ids), symbols)

    def _failure(self, trigger: Trigger) -> Turn:
        return error_turn(trigger, FAILURE)

    def _reply(
        self,
        family: Family,
        failed: bool,
        said: Shown,
        selected: tuple[Finding, ...],
        truth: tuple[Finding, ...] | None,
        images: tuple[str, ...],
    ) -> str:
        """The answer to teach after an expert call."""
        if failed:
            return self._missing(family) if images and self.mix.trust.missing else self.questions.failed
        if family.quote:
            return verbalise(selected, self.mix.style)
        stated = family.answer(said.findings).text
        true = stated if truth is None else family.answer(truth).text
        split = said.second is not None and family.answer(said.second).text != stated
        if truth is None or (true == stated and not split):
            return stated
        template = self.questions.conflicting if split else self.questions.disputed
        return template.format(answer=self.questions.plain_answer(family, truth).text)

    def _missing(self, family: Family) -> str:
        """The answer from the picture after a call that gave nothing; an expert that said nothing cannot be quoted."""
        if family.quote:
            return self.questions.failed
        return self.questions.missing.format(answer=self.questions.plain_answer(family, self.study.truth).text)

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
