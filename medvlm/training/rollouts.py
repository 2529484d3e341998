"""Multi-turn rollouts: scripted user turns, the model's own answers, expert turns where it calls one.

One prefill of image and first question is shared by the samples of a group. The key-value cache is kept over the
turns: what the user or an expert says next is appended to it, rows that wait for the others are not computed, and a
conversation that has ended leaves the batch. Families whose cache cannot be continued so (several positions a token,
prefixes seen in both directions, windows) are asked with plain `generate`, turn by turn.

A conversation depends on the weights, the seed and its own script only, not on who else is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.errors import MedVLMError
from medvlm.models.chat import ChatEncoder, Encoded, collate
from medvlm.models.memory import can_remember
from medvlm.training.kept_cache import repeat, roomy_cache, select, write_back
from medvlm.training.loss import only_positions
from medvlm.training.sampling import Noise, pick
from medvlm.training.scripts import GIVEN, Sample, Script

if TYPE_CHECKING:
    from medvlm.models.load import LoadedModel

__all__ = ["GIVEN", "Rollouts", "Sample", "Script"]

# Rows that still write go on by themselves when they are at most this share of the batch: picking them out costs
# about what computing all rows once more would.
ALONE = 0.5
# Columns that hold nothing for most rows are dropped between turns when they are more than this share.
HOLES = 0.25


class _Writer(Protocol):
    """Writes one assistant message in every conversation, and hears what is said next."""

    def write(self, noise: Noise) -> list[list[int]]: ...

    def hear(self, going: list[int], said: list[Encoded]) -> None: ...


class Rollouts:
    """Samples whole conversations in one batch."""

    def __init__(
        self,
        loaded: LoadedModel,
        root: Path | str = ".",
        max_new_tokens: int = 48,
        temperature: float = 1.0,
        quick: bool = True,
    ) -> None:
        """
        Args:
            loaded: model and processor.
            root: folder that relative image paths start from.
            max_new_tokens: longest assistant message.
            temperature: of sampling; 0 takes the likeliest token.
            quick: keep the cache over the turns, for families that allow it.
        """
        self.loaded, self.max_new_tokens, self.temperature = loaded, max_new_tokens, temperature
        self.encoder = ChatEncoder(loaded.processor, root, loaded.name)
        base: Any = loaded.model.get_base_model() if loaded.is_adapter else loaded.model
        self.quick = quick and can_remember(base, self.encoder.dialect.prefix)
        ends = loaded.model.generation_config.eos_token_id
        self.stop_ids = {self.encoder.stop_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        tokenizer = loaded.processor.tokenizer
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        # Placeholders of images and openings of roles are not the assistant's to write: they would break the input.
        control = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()} - self.stop_ids
        self._forbidden = torch.tensor(sorted(control))
        self._said: dict[tuple[tuple[str, str], ...], Encoded] = {}
        self._kind: dict[str, Tensor] | None = None

    @property
    def forbidden(self) -> Tensor:
        """Tokens that are never sampled, on the device of the model."""
        return self._forbidden.to(self.loaded.model.device)

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
            return self._roll(scripts, group, seed)
        finally:
            model.train(was_training)

    def _roll(self, scripts: Sequence[Script], group: int, seed: int) -> list[Sample]:
        openings = [self.encoder.encode(script.opening(), reply=True) for script in scripts]
        samples = [
            Sample(script, opening) for script, opening in zip(scripts, openings, strict=True) for _ in range(group)
        ]
        names = [script.conversation.id for script in scripts for _ in range(group)]
        noise = Noise(seed, names, list(range(group)) * len(scripts))
        writer: _Writer = _Cached(self, openings, group) if self.quick else _Plain(self, samples)
        going = samples
        while going:
            said: list[tuple[Turn, ...] | None] = []
            for sample, ids in zip(going, writer.write(noise), strict=True):
                sample.take(ids, self.kind)
                # Of a question that calls an expert first, the last message counts.
                (sample.cut.discard if ids[-1] in self.stop_ids else sample.cut.add)(sample.question)
                said.append(sample.follow(self.encoder.decode(ids)))
            rows = [row for row, turns in enumerate(said) if turns is not None]
            going = [going[row] for row in rows]
            heard = [self._hear(sample, turns) for sample, turns in zip(going, (said[row] or () for row in rows))]
            noise.keep(rows)
            if going:
                writer.hear(rows, heard)
        return samples

    def _hear(self, sample: Sample, turns: tuple[Turn, ...]) -> Encoded:
        """Tell a conversation what is said next; returns it with the last written token and all that closes it."""
        last = sample.ids[-1]
        following = self._next(turns)
        if following.vision and (self.encoder.dialect.prefix or "cross_attention_mask" in sample.opening.per_token):
            raise MedVLMError(
                f"{self.loaded.name}: this family sees all pictures at the first question; "
                f"{sample.script.conversation.id} shows one later."
            )
        # A message that the limit cut is closed for it: what follows must look like every other turn.
        closing = [] if last in self.stop_ids else [self.encoder.stop_id]
        sample.hear(closing, following)
        ids = torch.cat([torch.tensor([last, *closing]), following.input_ids])
        return Encoded(ids, torch.zeros_like(ids, dtype=torch.bool), {}, following.vision)

    def _next(self, turns: tuple[Turn, ...]) -> Encoded:
        """Everything between an assistant's end token and its next message, as tokens and image tensors."""
        key = tuple((turn.role, turn.text) for turn in turns)
        known = None if any(turn.images for turn in turns) else self._said.get(key)
        if known is None:
            frame = (Turn("user", "-"), Turn("assistant", "-"))
            conversation = Conversation("rollout", "", "train", (*frame, *turns))
            end = int(self.encoder.encode(conversation).supervised.nonzero()[-1]) + 1
            prompt = self.encoder.encode(conversation, reply=True)
            known = Encoded(
                prompt.input_ids[end:],
                torch.zeros(len(prompt) - end, dtype=torch.bool),
                {name: value[end:] for name, value in prompt.per_token.items()},
                prompt.vision,
            )
            self._said[key] = known
        return known

    @property
    def kind(self) -> dict[str, Tensor]:
        """What `per_token` says of a token that the assistant wrote, each `[1, ...]`."""
        if self._kind is None:
            frame = Conversation("rollout", "", "train", (Turn("user", "-"), Turn("assistant", "-")))
            encoded = self.encoder.encode(frame)
            place = int(encoded.supervised.nonzero()[0])
            self._kind = {name: value[place : place + 1] for name, value in encoded.per_token.items()}
        return self._kind

    def inputs(self, rows: Sequence[Encoded], side: str) -> dict[str, Tensor]:
        """Rows as `forward` inputs on the device and in the precision of the model."""
        model = self.loaded.model
        moved = {name: value.to(model.device) for name, value in collate(rows, self.pad, side=side).items()}
        return {name: value.to(model.dtype) if value.is_floating_point() else value for name, value in moved.items()}


class _Cached:
    """The quick writer: a cache for all rows, which of its columns hold tokens, and the logits of the next token."""

    def __init__(self, rollouts: Rollouts, openings: Sequence[Encoded], group: int) -> None:
        self.rollouts, self.model = rollouts, rollouts.loaded.model
        inputs = rollouts.inputs(openings, "left")
        mask = inputs.pop("attention_mask")
        outputs = self.model(
            **inputs,
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
            past_key_values=roomy_cache(),
            use_cache=True,
            logits_to_keep=1,
        )
        self.cache = outputs.past_key_values
        repeat(self.cache, group)
        self.mask = mask.repeat_interleave(group, dim=0)
        self.logits = outputs.logits[:, -1].repeat_interleave(group, dim=0)
        self.stops = torch.tensor(sorted(rollouts.stop_ids), device=mask.device)

    def write(self, noise: Noise) -> list[list[int]]:
        """One assistant message a row; its last token is not in the cache yet."""
        settings, device = self.rollouts, self.mask.device
        count, longest = len(self.mask), settings.max_new_tokens
        uniform = noise.draw(longest, device)
        forbidden = settings.forbidden
        written = torch.full((count, longest), settings.pad, device=device)
        length = torch.ones(count, dtype=torch.long, device=device)
        rows = torch.arange(count, device=device)  # of the batch that `part` holds
        part, since = self.cache, 0
        logits, active = self.logits, torch.ones(count, dtype=torch.bool, device=device)
        for number in range(longest):
            token = pick(logits, forbidden, settings.temperature, uniform[rows, number])
            written[rows, number] = torch.where(active, token, settings.pad)
            active = active & ~torch.isin(token, self.stops)
            live = int(active.sum())
            if not live or number == longest - 1:
                break
            if live <= ALONE * len(rows):
                if part is not self.cache:
                    write_back(self.cache, part, rows, since)
                chosen = active.nonzero()[:, 0]
                part = select(part, chosen)
                rows, token, active = rows[chosen], token[chosen], active[chosen]
                since = self.mask.shape[1]
            added = torch.zeros_like(self.mask[:, :1])
            added[rows, 0] = active.long()
            positions = self.mask[rows].sum(dim=1, keepdim=True)
            self.mask = torch.cat([self.mask, added], dim=1)
            length[rows] += active.long()
            logits = self._forward(part, rows, token[:, None], positions)
        if part is not self.cache:
            write_back(self.cache, part, rows, since)
        return [ids[:end] for ids, end in zip(written.tolist(), length.tolist(), strict=True)]

    def _forward(self, cache: Any, rows: Tensor, ids: Tensor, positions: Tensor) -> Tensor:
        """Logits `[B, V]` after one more token a row."""
        outputs = self.model(
            input_ids=ids,
            attention_mask=self.mask[rows],
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        logits: Tensor = outputs.logits[:, -1]
        return logits

    def hear(self, going: list[int], said: list[Encoded]) -> None:
        """Drop the rows that do not go on; put what is said into the cache of the others."""
        self._keep(torch.tensor(going, device=self.mask.device))
        inputs = self.rollouts.inputs(said, "right")
        added = inputs.pop("attention_mask")
        positions = self.mask.sum(dim=1, keepdim=True) + added.cumsum(dim=1) - 1
        self.mask = torch.cat([self.mask, added], dim=1)
        last = added.cumsum(dim=1).eq(added.sum(dim=1, keepdim=True)) & added.bool()
        with only_positions(self.model.get_output_embeddings(), last):
            outputs = self.model(
                **inputs,
                attention_mask=self.mask,
                position_ids=positions.clamp(min=0),
                past_key_values=self.cache,
                use_cache=True,
            )
        self.logits = outputs.logits

    def _keep(self, rows: Tensor) -> None:
        """Drop rows, and columns where there are many that hold nothing."""
        mask = self.mask[rows]
        longest = int(mask.sum(dim=1).max())
        if longest < (1 - HOLES) * mask.shape[1]:
            columns = mask.argsort(dim=1, descending=True, stable=True)[:, :longest]
            self.cache, self.mask = select(self.cache, rows, columns), mask.gather(1, columns)
        elif len(rows) < len(self.mask):
            self.cache, self.mask = select(self.cache, rows), mask


class _Plain:
    """The plain writer: every prompt from its first token, by the family's own `generate`."""

    def __init__(self, rollouts: Rollouts, samples: Sequence[Sample]) -> None:
        self.rollouts, self.samples = rollouts, list(samples)

    def write(self, noise: Noise) -> list[list[int]]:
        settings = self.rollouts
        inputs = settings.inputs([sample.encoded() for sample in self.samples], "left")
        before = inputs["input_ids"].shape[1]
        uniform = noise.draw(settings.max_new_tokens, inputs["input_ids"].device)
        forbidden = settings.forbidden

        def only_picked(ids: Tensor, scores: Tensor) -> Tensor:
            """Leave `generate` one choice: our own."""
            token = pick(scores.clone(), forbidden, settings.temperature, uniform[:, ids.shape[1] - before])
            return torch.full_like(scores, -torch.inf).scatter_(1, token[:, None], 0.0)

        outputs = settings.loaded.model.generate(
            **inputs,
            max_new_tokens=settings.max_new_tokens,
            do_sample=False,
            logits_processor=[only_picked],
            pad_token_id=settings.pad,
            eos_token_id=sorted(settings.stop_ids),
        )
        written = outputs[:, before:]
        ended = torch.isin(written, torch.tensor(sorted(settings.stop_ids), device=written.device))
        length = torch.where(ended.any(dim=1), ended.long().argmax(dim=1) + 1, written.shape[1])
        return [ids[:end] for ids, end in zip(written.tolist(), length.tolist(), strict=True)]

    def hear(self, going: list[int], said: list[Encoded]) -> None:
        """The conversations hold all that was said: they are read again."""
        self.samples = [self.samples[row] for row in going]
