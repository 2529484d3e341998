"""The closed loop: the model writes a trigger, the expert really runs, the findings come back, the model answers.

`ask_many` is the loop; it runs all its conversations side by side, so that each round is one batch of generation.
`ask` is the same for one question.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.dialogue.inject import CountTokens, check_trigger, count_words, error_turn, expert_turn, system_turn
from medvlm.dialogue.trigger import Trigger, parse_triggers, sanitize
from medvlm.dialogue.views import save_overlay
from medvlm.errors import MedVLMError
from medvlm.experts.card import ExpertCard, ExpertResult
from medvlm.findings.finding import Finding
from medvlm.findings.verbalise import Style
from medvlm.imaging.study import Study

Generate = Callable[[Conversation], str]
GenerateBatch = Callable[[list[Conversation]], list[str]]
LoadStudy = Callable[[], Study]
ASKED = "asked before, its findings are above"


class Offer(Protocol):
    """An expert as far as conversations are written about it: its card, and which Findings an argument asks for."""

    @property
    def card(self) -> ExpertCard: ...

    def select(self, findings: tuple[Finding, ...], argument: str) -> tuple[Finding, ...]: ...


class ExpertLike(Offer, Protocol):
    """An expert that can be run; `medvlm.experts.expert.Expert` is one."""

    def run(self, study: Study, argument: str = "") -> ExpertResult: ...


@dataclass(frozen=True)
class Reply:
    """What came back for one trigger: the turn, the Findings in it (none after an error), and turns that follow it."""

    turn: Turn
    findings: tuple[Finding, ...] = ()
    more: tuple[Turn, ...] = ()


class Desk:
    """Where triggers are answered: knows the experts, runs each at most once a study, remembers what they found."""

    def __init__(
        self,
        experts: Sequence[ExpertLike],
        style: Style = "short",
        pictures: Path | None = None,
        budget: int | None = None,
        count_tokens: CountTokens = count_words,
    ) -> None:
        """
        Args:
            experts: the experts that may be called.
            style: how Findings are written (see `expert_turn`).
            pictures: folder for overlay pictures of the main Finding, shown with the text; None: text only.
            budget: most tokens of one expert turn.
            count_tokens: counts tokens of the model that reads the turns.
        """
        self.experts = {expert.card.trigger_name: expert for expert in experts}
        self.style, self.pictures = style, pictures
        self.budget, self.count_tokens = budget, count_tokens
        self.seconds = 0.0
        self._known: dict[tuple[str, str], ExpertResult | str] = {}

    @property
    def cards(self) -> list[ExpertCard]:
        return [expert.card for expert in self.experts.values()]

    def remember(self, expert: str, annotations: Mapping[str, Sequence[Finding]]) -> None:
        """Take over results of an earlier run (`medvlm annotate`): study key → all Findings of that expert."""
        for study, findings in annotations.items():
            self._known[expert.upper(), study] = ExpertResult(expert, tuple(findings), series="")

    def reply(self, trigger: Trigger, study: str, load: LoadStudy | None) -> Reply:
        """Answer one trigger; whatever goes wrong becomes a turn that the model can read.

        Args:
            trigger: the call.
            study: key of the study, for remembering.
            load: loads the study when the expert has not seen it yet.
        """
        problem = check_trigger(trigger, self.cards)
        if problem:
            return Reply(error_turn(trigger, problem))
        # A prompted network is run for what is asked; of the others one run answers every argument.
        asked = trigger.argument if getattr(self.experts[trigger.name], "prompted", False) else ""
        key = (trigger.name, f"{study} {asked}".strip())
        if key not in self._known:
            self._known[key] = self._run(trigger.name, load, asked)
        result = self._known[key]
        if isinstance(result, str):
            return Reply(error_turn(trigger, result))
        findings = result.findings
        if trigger.argument:
            findings = tuple(self.experts[trigger.name].select(findings, trigger.argument))
        images = self._picture(trigger, study, load, result, findings)
        return Reply(expert_turn(trigger, findings, self.style, images, self.budget, self.count_tokens), findings)

    def _run(self, name: str, load: LoadStudy | None, argument: str = "") -> ExpertResult | str:
        """What one expert finds, or the reason why it finds nothing."""
        if load is None:
            return "the study is not at hand"
        start = time.perf_counter()
        try:
            return self.experts[name].run(load(), argument) if argument else self.experts[name].run(load())
        except MedVLMError as error:
            # The path in the sentence is for the user, not for the model.
            return sanitize(str(error).rpartition(": ")[2], limit=160).rstrip(".")
        finally:
            self.seconds += time.perf_counter() - start

    def _picture(
        self, trigger: Trigger, study: str, load: LoadStudy | None, result: ExpertResult, findings: Sequence[Finding]
    ) -> tuple[str, ...]:
        """The overlay of the first Finding that has a place and a mask, where pictures are wanted."""
        if self.pictures is None or load is None or result.mask is None:
            return ()
        placed = (f for f in findings if f.presence != "absent" and f.evidence and f.evidence[0].slice is not None)
        shown = next(placed, None)
        if shown is None:
            return ()
        name = re.sub(r"[^\w.-]", "-", f"{trigger.name}-{study}-{shown.id}.png")
        if not (self.pictures / name).is_file():
            save_overlay(load(), result, shown, self.pictures / name)
        return (str(self.pictures / name),)


@dataclass
class Case:
    """One question on its way through the loop.

    Attributes:
        start: the conversation up to the question; `open_case` makes one.
        study: key of the study.
        load: loads the study for an expert.
        offered: experts are on offer; otherwise triggers stay plain text.
        calls: triggers written so far.
        findings: Findings shown so far.
    """

    start: Conversation
    study: str
    load: LoadStudy | None = None
    offered: bool = True
    calls: list[Trigger] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def open_conversation(
    question: str, images: Sequence[str], cards: Sequence[ExpertCard], style: str = "short", identity: str = "question"
) -> Conversation:
    """A conversation that begins: the experts (if any), the picture and the user's question."""
    user = Turn("user", sanitize(question), tuple(images))
    return Conversation(identity, "", "test", (*system_turn(cards, style), user))


def ask_many(cases: Sequence[Case], generate: GenerateBatch, desk: Desk, max_calls: int = 3) -> list[Conversation]:
    """Run every case to its answer, all of them side by side.

    A reply with triggers is answered by expert turns and the model continues; after `max_calls` calls of one case
    further triggers stay without an answer and the reply ends the conversation.

    Args:
        cases: what to ask; `calls` and `findings` are filled in.
        generate: conversations → the assistant's next turns.
        desk: answers the triggers.
        max_calls: most expert calls of one case.

    Returns:
        The conversations with all turns, `findings` set to the ids of the Findings shown.
    """
    conversations = [case.start for case in cases]
    waiting = list(range(len(cases)))
    while waiting:
        replies = generate([conversations[index] for index in waiting])
        still = []
        for index, text in zip(waiting, replies, strict=True):
            case = cases[index]
            turns = [Turn("assistant", text)]
            triggers = parse_triggers(text) if case.offered else []
            for trigger in triggers[: max_calls - len(case.calls)]:
                repeated = trigger in case.calls
                reply = Reply(error_turn(trigger, ASKED)) if repeated else desk.reply(trigger, case.study, case.load)
                case.calls.append(trigger)
                case.findings += [finding for finding in reply.findings if finding not in case.findings]
                turns += [reply.turn, *reply.more]
            conversations[index] = conversations[index].add(*turns)
            if len(turns) > 1:
                still.append(index)
        waiting = still
    return [
        Conversation(c.id, c.patient, c.split, c.turns, c.task, tuple(f.id for f in case.findings), c.symbols)
        for c, case in zip(conversations, cases)
    ]


def ask(
    study: Study,
    question: str,
    generate: Generate,
    experts: Sequence[ExpertLike] | Desk,
    images: Sequence[str] = (),
    max_calls: int = 3,
    history: Conversation | None = None,
) -> Conversation:
    """Ask one question about a study and let the model call experts.

    Args:
        study: what it is about.
        question: the user's words.
        generate: conversation → the assistant's next turn.
        experts: experts to offer, or a `Desk` that already knows some results of this study.
        images: paths of the pictures shown with the question.
        max_calls: most expert calls.
        history: an earlier conversation about this study that the question goes on from.

    Returns:
        The whole conversation; its last turn is the answer.
    """
    desk = experts if isinstance(experts, Desk) else Desk(experts)
    if history is None:
        start = open_conversation(question, images, desk.cards)
    else:
        start = history.add(Turn("user", sanitize(question), tuple(images)))
    case = Case(start, study.uid, lambda: study)
    return ask_many([case], lambda batch: [generate(conversation) for conversation in batch], desk, max_calls)[0]
