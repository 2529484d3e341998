"""Greedy answers for many conversations at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medvlm.dialogue.conversation import Conversation
from medvlm.models.chat import ChatEncoder, collate

if TYPE_CHECKING:
    from medvlm.models.load import LoadedModel


class Generator:
    """Answers conversations in batches: greedy, left-padded, longest prompts first.

    Example:
        generator = Generator(load_model("runs/quickstart/model"), root="data")
        answers = generator(conversations)
    """

    def __init__(
        self, loaded: LoadedModel, max_new_tokens: int = 64, batch_size: int = 16, root: Path | str = "."
    ) -> None:
        """
        Args:
            loaded: model and processor; the model is used on the device it is on.
            max_new_tokens: longest answer.
            batch_size: conversations decoded together.
            root: folder that relative image paths start from.
        """
        self.loaded = loaded
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self.encoder = ChatEncoder(loaded.processor, root, loaded.name)
        ends = loaded.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        # The token that ends a turn in the template is not always among those the model was published with.
        self.stop_ids = sorted({self.encoder.stop_id, *(end for end in ends if end is not None)})

    def __call__(self, conversations: Sequence[Conversation]) -> list[str]:
        """The assistant's next turn for each conversation, in the given order."""
        encoded = [self.encoder.encode(conversation, reply=True) for conversation in conversations]
        order = sorted(range(len(encoded)), key=lambda index: -len(encoded[index]))
        answers = [""] * len(encoded)
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            for index, text in zip(chosen, self._batch([encoded[index] for index in chosen])):
                answers[index] = text
        return answers

    def answer(self, conversation: Conversation) -> str:
        """The assistant's next turn for one conversation."""
        return self([conversation])[0]

    def _batch(self, rows: list) -> list[str]:
        import torch

        model, tokenizer = self.loaded.model, self.loaded.processor.tokenizer
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        inputs = {name: value.to(model.device) for name, value in collate(rows, pad, side="left").items()}
        for name, value in inputs.items():
            if value.is_floating_point():
                inputs[name] = value.to(model.dtype)
        was_training = model.training
        model.eval()
        with torch.inference_mode():
            generated = model.generate(
                **inputs,
                max_new_tokens=self.max_new_tokens,
                do_sample=False,
                pad_token_id=pad,
                eos_token_id=self.stop_ids,
                use_cache=True,
            )
        model.train(was_training)
        return [self.encoder.decode(row[inputs["input_ids"].shape[1] :]) for row in generated]
