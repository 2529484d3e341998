"""Multi-turn rollouts: scripted user turns, the model's own answers, expert turns where it calls one.

One prefill of image and first question is shared by the samples of a group. The key-value cache is kept over the
turns: what the user or an expert says next is appended to it, and a conversation that has ended leaves the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.dialogue.trigger import parse_triggers
from medvlm.errors import MedVLMError
from medvlm.models.chat import ChatEncoder, Encoded, collate

if TYPE_CHECKING:
    from medvlm.models.load import LoadedModel

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
        cut: an answer was ended by the length limit.
        vision: image tensors of later turns.
    """

    script: Script
    opening: Encoded
    ids: list[int] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    cut: bool = False
    vision: list[dict[str, Tensor]] = field(default_factory=list)
    _called: bool = False

    @property
    def question(self) -> int:
        """Number of the question that is being answered."""
        return len(self.answers)

    def encoded(self, images: dict[str, Tensor] | None = None) -> Encoded:
        """The whole conversation as training input; what the model wrote is supervised.

        Args:
            images: image tensors to show instead of its own, of the same shapes.
        """
        given = torch.tensor(self.ids, dtype=torch.long)
        wrote = torch.tensor(self.turns) != GIVEN
        before = torch.zeros(len(self.opening), dtype=torch.bool)
        vision = images if images is not None else self.images
        return Encoded(torch.cat([self.opening.input_ids, given]), torch.cat([before, wrote]), {}, vision)

    @property
    def images(self) -> dict[str, Tensor]:
        """All its image tensors."""
        parts = [part for part in (self.opening.vision, *self.vision) if part]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else {}

    def take(self, token: int) -> None:
        """Append a token that the model wrote."""
        self.ids.append(token)
        self.turns.append(self.question)

    def follow(self, text: str) -> tuple[Turn, ...] | None:
        """What is said after the assistant's message `text`, or None at the end of the conversation."""
        expert = self.script.expert[self.question]
        if expert is not None and not self._called and parse_triggers(text):
            self._called = True
            return (expert,)
        self._called = False
        self.answers.append(text)
        return self.script.asked[self.question] if self.question < len(self.script.asked) else None


class Rollouts:
    """Samples whole conversations in one batch.

    Raises:
        MedVLMError: the family has positions of its own (several numbers a token) or template prefixes.
    """

    def __init__(
        self, loaded: LoadedModel, root: Path | str = ".", max_new_tokens: int = 48, temperature: float = 1.0
    ) -> None:
        """
        Args:
            loaded: model and processor.
            root: folder that relative image paths start from.
            max_new_tokens: longest assistant message.
            temperature: of sampling; 0 takes the likeliest token.
        """
        self.loaded, self.max_new_tokens, self.temperature = loaded, max_new_tokens, temperature
        self.encoder = ChatEncoder(loaded.processor, root, loaded.name)
        base: Any = loaded.model.get_base_model() if loaded.is_adapter else loaded.model
        if hasattr(getattr(base, "model", base), "get_rope_index") or self.encoder.dialect.prefix:
            raise MedVLMError(
                f"{loaded.name}: rollouts keep one position a token, and this family needs more; choose another model."
            )
        ends = loaded.model.generation_config.eos_token_id
        self.stop_ids = {self.encoder.stop_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        tokenizer = loaded.processor.tokenizer
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        # Placeholders of images and openings of roles are not the assistant's to write: they would break the input.
        control = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()} - self.stop_ids
        self.forbidden = torch.tensor(sorted(control), device=loaded.model.device)
        self._said: dict[tuple[tuple[str, str], ...], Encoded] = {}

    @torch.inference_mode()
    def __call__(self, scripts: Sequence[Script], group: int = 1, seed: int = 0) -> list[Sample]:
        """Sample `group` conversations for each script; those of one script stand together.

        Args:
            scripts: what the user says.
            group: conversations a script.
            seed: of the sampling; the same seed and weights give the same conversations.
        """
        model: Any = self.loaded.model
        was_training = model.training
        model.eval()
        try:
            return self._roll(model, scripts, group, torch.Generator(device=model.device).manual_seed(seed))
        finally:
            model.train(was_training)

    def _roll(self, model: Any, scripts: Sequence[Script], group: int, random: torch.Generator) -> list[Sample]:
        openings = [self.encoder.encode(script.opening(), reply=True) for script in scripts]
        samples = [
            Sample(script, opening) for script, opening in zip(scripts, openings, strict=True) for _ in range(group)
        ]
        inputs = self._to_device(model, collate(openings, self.pad, side="left"))
        mask = inputs.pop("attention_mask")
        outputs = model(
            **inputs,
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
        )
        cache, logits = outputs.past_key_values, outputs.logits[:, -1]
        if group > 1:
            cache.batch_repeat_interleave(group)
            mask, logits = mask.repeat_interleave(group, dim=0), logits.repeat_interleave(group, dim=0)
        batch = _Batch(samples, cache, mask, logits)
        while batch.samples:
            texts = self._write(model, batch, random)
            said = [sample.follow(text) for sample, text in zip(batch.samples, texts, strict=True)]
            going = [row for row, turns in enumerate(said) if turns is not None]
            if not going:
                break
            if len(going) < len(batch.samples):
                batch.keep(going)
            self._append(model, batch, [self._next(turns) for turns in said if turns is not None])
        return samples

    def _write(self, model: Any, batch: _Batch, random: torch.Generator) -> list[str]:
        """Sample one assistant message in every row; its last token is not in the cache yet."""
        rows = len(batch.samples)
        written: list[list[int]] = [[] for _ in range(rows)]
        active = torch.ones(rows, dtype=torch.bool, device=batch.mask.device)
        stops = torch.tensor(sorted(self.stop_ids), device=batch.mask.device)
        for number in range(self.max_new_tokens):
            token = self._sample(batch.logits, random)
            last = torch.isin(token, stops) | (number == self.max_new_tokens - 1)
            values, live = token.tolist(), active.tolist()
            for row in range(rows):
                if live[row]:
                    written[row].append(values[row])
            active = active & ~last
            if not bool(active.any()):
                break
            batch.feed(model, token, active)
        for sample, ids in zip(batch.samples, written, strict=True):
            for one in ids:
                sample.take(one)
            sample.cut |= ids[-1] not in self.stop_ids
        return [self.encoder.decode(ids) for ids in written]

    def _sample(self, logits: Tensor, random: torch.Generator) -> Tensor:
        logits = logits.index_fill(1, self.forbidden, -torch.inf)
        if self.temperature == 0:
            return logits.argmax(dim=-1)
        shares = (logits.float() / self.temperature).softmax(dim=-1)
        return torch.multinomial(shares, 1, generator=random)[:, 0]

    def _next(self, turns: tuple[Turn, ...]) -> Encoded:
        """Everything between an assistant's end token and its next message, as tokens and image tensors."""
        key = tuple((turn.role, turn.text) for turn in turns)
        known = None if any(turn.images for turn in turns) else self._said.get(key)
        if known is None:
            frame = (Turn("user", "-"), Turn("assistant", "-"))
            conversation = Conversation("rollout", "", "train", (*frame, *turns))
            end = int(self.encoder.encode(conversation).supervised.nonzero()[-1]) + 1
            prompt = self.encoder.encode(conversation, reply=True)
            known = Encoded(prompt.input_ids[end:], torch.zeros(len(prompt) - end, dtype=torch.bool), {}, prompt.vision)
            self._said[key] = known
        return known

    def _append(self, model: Any, batch: _Batch, said: list[Encoded]) -> None:
        """Put each row's last written token and what is said next into the cache."""
        rows = []
        for sample, following in zip(batch.samples, said, strict=True):
            last = sample.ids[-1]
            # A message that the limit cut is closed for it: what follows must look like every other turn.
            closing = [] if last in self.stop_ids else [self.encoder.stop_id]
            given = [*closing, *following.input_ids.tolist()]
            sample.ids += given
            sample.turns += [GIVEN] * len(given)
            if following.vision:
                sample.vision.append(following.vision)
            ids = torch.tensor([last, *given])
            rows.append(Encoded(ids, torch.zeros_like(ids, dtype=torch.bool), {}, following.vision))
        inputs = self._to_device(model, collate(rows, self.pad, side="right"))
        batch.extend(model, inputs)

    def _to_device(self, model: Any, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        moved = {name: value.to(model.device) for name, value in inputs.items()}
        return {name: value.to(model.dtype) if value.is_floating_point() else value for name, value in moved.items()}


class _Batch:
    """The rows that go on: samples, their cache, which of its columns hold tokens, and the logits of the next token."""

    def __init__(self, samples: list[Sample], cache: Any, mask: Tensor, logits: Tensor) -> None:
        self.samples, self.cache, self.mask, self.logits = list(samples), cache, mask, logits

    def keep(self, rows: list[int]) -> None:
        """Drop all other rows."""
        index = torch.tensor(rows, device=self.mask.device)
        self.samples = [self.samples[row] for row in rows]
        self.cache.batch_select_indices(index)
        self.mask, self.logits = self.mask[index], self.logits[index]

    def feed(self, model: Any, token: Tensor, active: Tensor) -> None:
        """Put one token a row into the cache; a row that is not active gets a column that is never looked at."""
        positions = self.mask.sum(dim=1, keepdim=True)
        self.mask = torch.cat([self.mask, active[:, None].long()], dim=1)
        outputs = model(
            input_ids=token[:, None],
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.logits = outputs.logits[:, -1]

    def extend(self, model: Any, inputs: dict[str, Tensor]) -> None:
        """Put several tokens a row into the cache (right-padded) and take the logits after the last of each."""
        added = inputs.pop("attention_mask")
        positions = self.mask.sum(dim=1, keepdim=True) + added.cumsum(dim=1) - 1
        self.mask = torch.cat([self.mask, added], dim=1)
        outputs = model(
            **inputs,
            attention_mask=self.mask,
            position_ids=positions.clamp(min=0),
            past_key_values=self.cache,
            use_cache=True,
        )
        ends = added.sum(dim=1) - 1
        self.logits = outputs.logits[torch.arange(len(ends), device=ends.device), ends]
