"""Conversation in, token ids, supervised positions and image tensors out: the same for training and generation.

The chat template renders the text; the spans that the assistant says are found in that text and carried through the
processor's expansion of image placeholders to token positions. Nothing is ever truncated here: a caller that has a
limit measures and drops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvlm.dialogue.conversation import Conversation
from medvlm.errors import MedVLMError
from medvlm.models.dialect import Message, begin_reply, dialect_of, fold_system, render
from medvlm.models.remember import RememberingImageProcessor

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import ProcessorMixin

Span = tuple[int, int]
# Behind every text, and small enough to be shifted and compared with tensors of integers.
END = 2**31


@dataclass(frozen=True, eq=False)
class Encoded:
    """One conversation as tensors.

    Attributes:
        input_ids: `[T]` int64, image placeholders expanded.
        supervised: `[T]` bool, the assistant's own words and end tokens.
        per_token: further `[T]` tensors some families want (`token_type_ids`).
        vision: everything about images (`pixel_values` `[n, 3, H, W]`, grids), first axis images or patches.
    """

    input_ids: torch.Tensor
    supervised: torch.Tensor
    per_token: dict[str, torch.Tensor] = field(default_factory=dict)
    vision: dict[str, torch.Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])


class ChatEncoder:
    """Turns Conversations into `Encoded`, for any processor with a chat template."""

    def __init__(self, processor: ProcessorMixin, root: Path | str = ".", name: str = "model") -> None:
        """
        Args:
            processor: tokenizer and image processor of a VLM.
            root: folder that relative image paths start from.
            name: how errors call the model.
        """
        self.processor = processor
        self.root = Path(root)
        self.name = name
        tokenizer = processor.tokenizer
        self._pictures = RememberingImageProcessor(processor.image_processor)
        self._control = sorted({*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}, key=len, reverse=True)
        self.dialect = dialect_of(processor, name, self._control)

    @property
    def stop_id(self) -> int:
        """The token that ends an assistant turn."""
        return int(self.processor.tokenizer.convert_tokens_to_ids(self.dialect.stop))

    def encode(self, conversation: Conversation, reply: bool = False) -> Encoded:
        """Encode one conversation.

        Args:
            conversation: the turns so far.
            reply: end with the prompt for the assistant's next turn instead of marking what it said.

        Raises:
            MedVLMError: an image is missing or unreadable, or the assistant's words cannot be told apart.
        """
        import torch

        messages = self._messages(conversation)
        spans: list[Span] = []
        if reply:
            text = self._begin_reply(messages)
        else:
            text, spans = self._render_with_spans(conversation, messages)
        images = [load_image(str(self.root / path)) for path in conversation.images]
        with self._remembering():
            outputs = self._process(text, images)
        data = {key: value for key, value in outputs.items() if isinstance(value, torch.Tensor)}
        input_ids = data.pop("input_ids")[0]
        offsets = data.pop("offset_mapping")[0]
        for unused in ("attention_mask", "labels", "text_replacement_offsets"):
            data.pop(unused, None)
        length = input_ids.shape[0]
        per_token = {key: data.pop(key)[0] for key in list(data) if data[key].shape[:2] == (1, length)}
        replacements = outputs.get("text_replacement_offsets", [[]])[0]
        lead = self._lead(len(images))

        def tokens(span: Span) -> torch.Tensor:
            start, end = _after_expansion(span, replacements, lead)
            return (offsets[:, 0] < end) & (offsets[:, 1] > start)

        supervised = torch.zeros(length, dtype=torch.bool)
        for span in spans:
            supervised |= tokens(span)
        if self.dialect.prefix:
            per_token["token_type_ids"] = tokens((self._first_answer(messages, text), END)).long()
        return Encoded(input_ids, supervised, per_token, data)

    def decode(self, ids: torch.Tensor | Sequence[int]) -> str:
        """Text of generated ids without control tokens."""
        return str(self.processor.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        """Within the context the processor makes the tensors of a picture once."""
        self.processor.image_processor, plain = self._pictures, self.processor.image_processor
        try:
            yield
        finally:
            self.processor.image_processor = plain

    def _process(self, text: str, images: list[Image]) -> Any:
        """The processor's outputs for one text and its images, with character offsets."""
        options: dict[str, Any] = {"return_offsets_mapping": True, "return_tensors": "pt"}
        if not self.dialect.prefix:
            options |= {"add_special_tokens": not self._starts_with_bos(text), "return_text_replacement_offsets": True}
            return self.processor(text=[text], images=images or None, **options)
        # PaliGemma's processor writes the images' placeholders and <bos> first and a newline last, but needs an image.
        options |= {"add_special_tokens": False}
        text = text.removesuffix("\n")
        if not images:
            return self.processor.tokenizer([f"{self.processor.tokenizer.bos_token}{text}\n"], **options)
        options |= {"return_text_replacement_offsets": True}
        return self.processor(text=["<image>" * len(images) + text], images=[images], **options)

    def _lead(self, images: int) -> int:
        """Characters that `_process` and the processor write before the text, not counting what images expand to."""
        return len("<image>") * images + len(self.processor.tokenizer.bos_token) if self.dialect.prefix else 0

    def _first_answer(self, messages: list[Message], text: str) -> int:
        """Where the first answer begins in the text; its end when there is none yet."""
        first = next((index for index, message in enumerate(messages) if message["role"] == "assistant"), None)
        return len(text) if first is None else len(self._begin_reply(messages[:first]))

    def _messages(self, conversation: Conversation) -> list[Message]:
        turns = tuple(replace(turn, text=self._neutral(turn.text)) for turn in conversation.turns)
        messages = replace(conversation, turns=turns).to_messages()
        for message in messages:
            if message["role"] == "assistant":
                message["content"][-1]["text"] += self.dialect.closing
        return messages if self.dialect.takes_system else fold_system(messages)

    def _neutral(self, text: str) -> str:
        """Break control tokens in a turn's text: what comes from a file can never open a role or an image."""
        for token in self._control:
            if token in text and len(token) > 1:
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    def _starts_with_bos(self, text: str) -> bool:
        bos = self.processor.tokenizer.bos_token
        return bos is None or text.startswith(bos)

    def _render(self, messages: list[Message]) -> str:
        return render(self.processor, messages, self.name, self.dialect.template)

    def _begin_reply(self, messages: list[Message]) -> str:
        return begin_reply(self.processor, messages, self.name, self.dialect)

    def _render_with_spans(self, conversation: Conversation, messages: list[Message]) -> tuple[str, list[Span]]:
        """The rendered text and the character spans of the assistant messages that are to be learnt."""
        learn = _learnt_messages(conversation)[-len(messages) :]  # a folded system turn is gone
        text = self._render(messages)
        spans = []
        for index, message in enumerate(messages):
            if message["role"] != "assistant" or not learn[index]:
                continue
            # What the template adds when the message is appended to its prompt is what the model must write.
            prompt = self._begin_reply(messages[:index])
            through = self._render(messages[: index + 1])
            if not (text.startswith(through.rstrip()) and through.startswith(prompt)):
                raise MedVLMError(
                    f"{self.name}: its chat template rewrites earlier turns, so that the assistant's words cannot be "
                    "told apart; choose a model with a plain template."
                )
            spans.append((len(prompt), len(through.rstrip())))
        return text, spans


def _learnt_messages(conversation: Conversation) -> list[bool]:
    """Which messages of `to_messages` are learnt; turns joined into one message are learnt if all are."""
    learn: list[bool] = []
    last = ""
    for turn in conversation.turns:
        role = "user" if turn.role == "expert" else turn.role
        if role == last:
            learn[-1] = learn[-1] and turn.train
        else:
            learn.append(turn.train)
        last = role
    return learn


def _after_expansion(span: Span, replacements: Sequence[dict[str, Any]], lead: int) -> Span:
    """A character span of the rendered text in the text that was tokenised.

    Args:
        span: in the rendered text.
        replacements: the image placeholders that the processor has expanded, in the text that it was given.
        lead: characters written before the rendered text.
    """
    gain = lead
    for row in replacements:
        if row["span"][1] <= span[0] + lead:
            gain = lead + row["new_span"][1] - row["span"][1]
    return span[0] + gain, span[1] + gain


@lru_cache(maxsize=4096)
def load_image(path: str) -> Image:
    """Load an image as RGB (kept in memory: views are small and met again every epoch).

    Raises:
        MedVLMError: missing or not an image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise MedVLMError(f"{path}: no such image; image paths are relative to the conversation file.") from None
    except (UnidentifiedImageError, OSError) as error:
        raise MedVLMError(f"{path}: not a readable image ({error}).") from None


def collate(batch: Sequence[Encoded], pad_id: int, side: str) -> dict[str, torch.Tensor]:
    """Pad and stack to what `forward` takes: `input_ids`, `attention_mask` `[B, T]`, vision tensors concatenated.

    Vision tensors whose second axis (tiles of an image) differs are padded with zeros there, which the families that
    tile (Idefics3, SmolVLM, LLaVA-NeXT) skip. Where tokens look at images across (`cross_attention_mask`), vision
    tensors have one entry a row, blank for a row without images.
    """
    import torch

    longest = max(len(row) for row in batch)
    stacked: dict[str, torch.Tensor] = {
        "input_ids": torch.full((len(batch), longest), pad_id),
        "attention_mask": torch.zeros((len(batch), longest), dtype=torch.long),
    }
    for name in {name for row in batch for name in row.per_token}:
        shapes = [row.per_token[name].shape[1:] for row in batch if name in row.per_token]
        widest = [max(sizes) for sizes in zip(*shapes)]
        stacked[name] = torch.zeros((len(batch), longest, *widest), dtype=torch.long)
    for index, row in enumerate(batch):
        where = slice(longest - len(row), longest) if side == "left" else slice(0, len(row))
        stacked["input_ids"][index, where] = row.input_ids
        stacked["attention_mask"][index, where] = 1
        for name, value in row.per_token.items():
            stacked[name][index, where][tuple(slice(size) for size in value.shape)] = value
    for name in {name for row in batch for name in row.vision}:
        present = [row.vision[name] for row in batch if name in row.vision]
        if "cross_attention_mask" in stacked:
            present = [row.vision.get(name, torch.zeros_like(present[0])) for row in batch]
        stacked[name] = _concatenate(present)
    return stacked


def _concatenate(tensors: list[torch.Tensor]) -> torch.Tensor:
    import torch

    if len({tensor.shape[1:] for tensor in tensors}) > 1:
        tiles = max(tensor.shape[1] for tensor in tensors)
        padded = []
        for tensor in tensors:
            blank = tensor.new_zeros((tensor.shape[0], tiles - tensor.shape[1], *tensor.shape[2:]))
            padded.append(torch.cat([tensor, blank], dim=1))
        tensors = padded
    return torch.cat(tensors)
