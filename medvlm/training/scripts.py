"""What is said in a rollout: the script of user and expert, and the conversation that a model makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.dialogue.trigger import parse_triggers
from medvlm.errors import MedVLMError
from medvlm.models.chat import Encoded

if TYPE_CHECKING:
    from torch import Tensor

GIVEN = -1


@dataclass(frozen=True)
class Script:
    """What the user says, question by question, and what the expert says to a call.

    Attributes:
        conversation: the row that the script was read from.
        asked: per question, the turns that put it (a system turn comes with the first).
        expert: per question, the expert's turn, or None where none is at hand.
    """

    conversation: Conversation
    asked: tuple[tuple[Turn, ...], ...]
    expert: tuple[Turn | None, ...]

    @classmethod
    def of(cls, conversation: Conversation) -> Script:
        """Read the script of a conversation whose assistant turns are all to be written anew.

        Raises:
            MedVLMError: the conversation has no question.
        """
        asked: list[tuple[Turn, ...]] = []
        expert: list[Turn | None] = []
        waiting: list[Turn] = []
        for turn in conversation.turns:
            if turn.role == "assistant":
                if waiting:
                    asked.append(tuple(waiting))
                    expert.append(None)
                    waiting = []
            elif turn.role == "expert" and expert:
                expert[-1] = turn
            else:
                waiting.append(turn)
        if not asked:
            raise MedVLMError(f"{conversation.id}: a conversation without a question cannot be rolled out.")
        return cls(conversation, tuple(asked), tuple(expert))

    def opening(self) -> Conversation:
        """The conversation up to the first answer."""
        return Conversation(self.conversation.id, self.conversation.patient, self.conversation.split, self.asked[0])


@dataclass
class Sample:
    """One sampled conversation.

    Attributes:
        script: what it followed.
        opening: its first prompt, encoded.
        ids: all tokens after the opening.
        turns: for each of them the number of the question that it answers, or `GIVEN` for text of user and expert.
        answers: the last assistant message of each question.
        cut: numbers of the questions whose answer was ended by the length limit.
        per_token: further tensors of the tokens after the opening, piece by piece.
        vision: image tensors of later turns.
    """

    script: Script
    opening: Encoded
    ids: list[int] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    cut: set[int] = field(default_factory=set)
    per_token: dict[str, list[Tensor]] = field(default_factory=dict)
    vision: list[dict[str, Tensor]] = field(default_factory=list)
    _called: bool = False

    @property
    def said(self) -> list[str]:
        """The answers as a guideline is to read them: one that did not come to an end says nothing."""
        return ["" if number in self.cut else answer for number, answer in enumerate(self.answers)]

    @property
    def question(self) -> int:
        """Number of the question that is being answered."""
        return len(self.answers)

    @property
    def wrote(self) -> list[int]:
        """For each token that the model wrote, the number of the question that it answers."""
        return [turn for turn in self.turns if turn != GIVEN]

    @property
    def images(self) -> dict[str, Tensor]:
        """All its image tensors."""
        parts = [part for part in (self.opening.vision, *self.vision) if part]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else {}

    def encoded(self, images: dict[str, Tensor] | None = None) -> Encoded:
        """The whole conversation as training input; what the model wrote is supervised.

        Args:
            images: image tensors to show instead of its own, of the same shapes.
        """
        given = torch.tensor(self.ids, dtype=torch.long)
        wrote = torch.tensor(self.turns, dtype=torch.long) != GIVEN
        before = torch.zeros(len(self.opening), dtype=torch.bool)
        per_token = {
            name: torch.cat([first, *self.per_token.get(name, ())]) for name, first in self.opening.per_token.items()
        }
        vision = images if images is not None else self.images
        return Encoded(torch.cat([self.opening.input_ids, given]), torch.cat([before, wrote]), per_token, vision)

    def take(self, ids: list[int], kind: dict[str, Tensor]) -> None:
        """Append tokens that the model wrote.

        Args:
            ids: the tokens.
            kind: what `per_token` says of a written token, each `[1, ...]`; else what it says of the token before.
        """
        self.ids += ids
        self.turns += [self.question] * len(ids)
        for name, first in self.opening.per_token.items():
            pieces = self.per_token.setdefault(name, [])
            one = kind[name] if name in kind else (pieces[-1] if pieces else first)[-1:]
            pieces.append(one.expand(len(ids), *one.shape[1:]))

    def hear(self, closing: list[int], said: Encoded) -> None:
        """Append what user or expert said.

        Args:
            closing: end tokens that the assistant's message lacks.
            said: the tokens of the turns and the next prompt.
        """
        self.ids += [*closing, *said.input_ids.tolist()]
        self.turns += [GIVEN] * (len(closing) + len(said))
        for name, first in self.opening.per_token.items():
            pieces = self.per_token.setdefault(name, [])
            last = (pieces[-1] if pieces else first)[-1:]
            pieces.append(last.expand(len(closing), *last.shape[1:]))
            pieces.append(said.per_token.get(name, last.expand(len(said), *last.shape[1:])))
        if said.vision:
            self.vision.append(said.vision)

    def follow(self, text: str) -> tuple[Turn, ...] | None:
        """What is said after the assistant's message `text`, or None at the end of the conversation."""
        expert = self.script.expert[self.question]
        if expert is not None and not self._called and parse_triggers(text):
            self._called = True
            return (expert,)
        self._called = False
        self.answers.append(text)
        return self.script.asked[self.question] if self.question < len(self.script.asked) else None
