"""Greedy answers for many conversations at once, computing nothing twice.

Prompts about one picture share its prefill, and the next turn of a conversation goes on from the keys and values of the
last one (`memory.py`). What is written is what plain `generate` writes, token for token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvlm.dialogue.conversation import Conversation
from medvlm.errors import MedVLMError
from medvlm.models.chat import ChatEncoder, Encoded, collate

if TYPE_CHECKING:
    import torch

    from medvlm.models.load import LoadedModel
    from medvlm.models.memory import Memory


class Generator:
    """Answers conversations in batches: greedy, left-padded, longest prompts first.

    Example:
        generator = Generator(load_model("runs/quickstart/model"), root="data")
        answers = generator(conversations)
    """

    def __init__(
        self,
        loaded: LoadedModel,
        max_new_tokens: int = 64,
        batch_size: int = 16,
        root: Path | str = ".",
        reuse: bool = False,
        lookup: int = 0,
        choices: Sequence[str] = (),
    ) -> None:
        """
        Args:
            loaded: model and processor; the model is used on the device it is on.
            max_new_tokens: longest answer.
            batch_size: conversations decoded together.
            root: folder that relative image paths start from.
            reuse: share the prefill of pictures and keep what was computed for the next call; for families
                that allow it, the others are asked from the start.
            lookup: draft so many tokens from the prompt and check them at once, where one conversation is asked alone;
                quick for reports, which repeat their findings.
            choices: the only answers allowed; none: any.
        """
        from medvlm.models.memory import can_remember

        self.loaded = loaded
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self.lookup = lookup
        self.encoder = ChatEncoder(loaded.processor, root, loaded.name)
        ends = loaded.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        # The token that ends a turn in the template is not always among those the model was published with.
        self.stop_ids = sorted({self.encoder.stop_id, *(end for end in ends if end is not None)})
        base = loaded.model.get_base_model() if loaded.is_adapter else loaded.model
        self.reuse = reuse and can_remember(base, self.encoder.dialect.prefix)
        self.computed = 0
        self._memories: list[Memory] = []
        self._allowed = [self._ids(choice) for choice in choices]

    @property
    def pad(self) -> int:
        tokenizer = self.loaded.processor.tokenizer
        return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)

    def forget(self) -> None:
        """Give back the memory of what was computed."""
        self._memories.clear()

    def __call__(self, conversations: Sequence[Conversation]) -> list[str]:
        """The assistant's next turn for each conversation, in the given order."""
        import torch

        encoded = [self.encoder.encode(conversation, reply=True) for conversation in conversations]
        answers = [""] * len(encoded)
        was_training = self.loaded.model.training
        self.loaded.model.eval()
        # The next turns go on from the last ones: older memories are not needed any more.
        earlier, self._memories = self._memories, []
        with torch.inference_mode():
            jobs = self._remembered(encoded, earlier) if self.reuse else [(None, list(range(len(encoded))), [])]
            for memory, numbers, where in jobs:
                order = sorted(range(len(numbers)), key=lambda index: -len(encoded[numbers[index]]))
                for start in range(0, len(order), self.batch_size):
                    chosen = order[start : start + self.batch_size]
                    rows = [encoded[numbers[index]] for index in chosen]
                    if memory is None:
                        texts = self._fresh(rows)
                    else:
                        texts = self._continued(memory, rows, [where[index] for index in chosen])
                    for index, text in zip(chosen, texts, strict=True):
                        answers[numbers[index]] = text
        self.loaded.model.train(was_training)
        return answers

    def answer(self, conversation: Conversation) -> str:
        """The assistant's next turn for one conversation."""
        return self([conversation])[0]

    def _fresh(self, rows: list[Encoded]) -> list[str]:
        """Answer prompts from their first token."""
        inputs = self._inputs(collate(rows, self.pad, side="left"))
        self.computed += int(inputs["attention_mask"].sum())
        return self._write(inputs, rows)

    def _continued(self, memory: Memory, rows: list[Encoded], where: list[tuple[int, int]]) -> list[str]:
        """Answer prompts that begin as rows of a memory do.

        Args:
            memory: what is known.
            rows: the whole prompts.
            where: for each, the row of the memory and how many of its tokens fit.
        """
        import torch

        known = memory.fork([row for row, _ in where], [kept for _, kept in where])
        rest = [
            Encoded(row.input_ids[kept:], row.supervised[kept:], {n: v[kept:] for n, v in row.per_token.items()})
            for row, (_, kept) in zip(rows, where, strict=True)
        ]
        inputs = self._inputs(collate(rest, self.pad, side="left"))
        self.computed += int(inputs["attention_mask"].sum())
        for name, before in (("input_ids", known.ids), ("attention_mask", known.mask)):
            inputs[name] = torch.cat([before, inputs[name]], dim=1)
        return self._write(inputs, rows, known.cache)

    def _remembered(
        self, encoded: list[Encoded], earlier: list[Memory]
    ) -> list[tuple[Memory | None, list[int], list[tuple[int, int]]]]:
        """Which prompts go on from which memory: those of the last call, or shared beginnings computed now."""
        from medvlm.models.memory import SHORTEST, overlap, pictures, shared_start

        seen = [pictures(row) for row in encoded]
        tokens = [row.input_ids.tolist() for row in encoded]
        known = [(memory, memory.rows()) for memory in earlier]
        jobs: dict[int, tuple[Memory | None, list[int], list[tuple[int, int]]]] = {}
        groups: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        for number, wanted in enumerate(tokens):
            best: tuple[int, int, int] = (0, 0, 0)
            for index, (memory, rows) in enumerate(known):
                for row, have in enumerate(rows):
                    fits = overlap(have, wanted) if memory.vision[row] == seen[number] else 0
                    best = max(best, (fits, index, row))
            # All placeholders must lie in what is known: the pictures are not shown again.
            if best[0] >= max(SHORTEST, self._after_pictures(encoded[number])):
                memory = known[best[1]][0]
                job = jobs.setdefault(best[1], (memory, [], []))
                job[1].append(number)
                job[2].append((best[2], best[0]))
            else:
                groups.setdefault((seen[number], tuple(wanted[:SHORTEST])), []).append(number)
        ready = list(jobs.values())
        alone: list[int] = []
        starts: list[tuple[Encoded, list[int]]] = []
        for members in groups.values():
            length = shared_start([tokens[number] for number in members])
            first = encoded[members[0]]
            if len(members) < 2 or length < max(SHORTEST, self._after_pictures(first)):
                alone += members
            else:
                per_token = {name: value[:length] for name, value in first.per_token.items()}
                starts.append(
                    (Encoded(first.input_ids[:length], first.supervised[:length], per_token, first.vision), members)
                )
        for begin in range(0, len(starts), self.batch_size):
            part = starts[begin : begin + self.batch_size]
            memory = self._prefill([row for row, _ in part])
            numbers = [number for _, members in part for number in members]
            where = [(row, len(start)) for row, (start, members) in enumerate(part) for _ in members]
            ready.append((memory, numbers, where))
        return [*ready, (None, alone, [])] if alone else ready

    def _prefill(self, rows: list[Encoded]) -> Memory:
        """Run shared beginnings through the model."""
        from medvlm.models.memory import Memory, pictures

        inputs = self._inputs(collate(rows, self.pad, side="left"))
        self.computed += int(inputs["attention_mask"].sum())
        mask = inputs["attention_mask"]
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        outputs = self.loaded.model(**inputs, position_ids=positions, use_cache=True, logits_to_keep=1)
        return Memory(inputs["input_ids"], mask, outputs.past_key_values, tuple(pictures(row) for row in rows))

    def _write(self, inputs: dict[str, torch.Tensor], rows: list[Encoded], cache: Any = None) -> list[str]:
        """Greedy decoding; with `reuse` the keys and values are kept for the next turn."""
        import torch

        from medvlm.models.memory import Memory, pictures

        before = inputs["input_ids"].shape[1]
        options: dict[str, Any] = {"past_key_values": cache} if cache is not None else {}
        if self.lookup and len(rows) == 1 and not self.reuse and not self._allowed:
            options["prompt_lookup_num_tokens"] = self.lookup
        if self._allowed:
            options["prefix_allowed_tokens_fn"] = self._chooser(before)
        outputs = self.loaded.model.generate(
            **inputs,
            **options,
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            pad_token_id=self.pad,
            eos_token_id=self.stop_ids,
            use_cache=True,
            return_dict_in_generate=True,
        )
        written = outputs.sequences[:, before:]
        if self.reuse:
            length = outputs.past_key_values.get_seq_length()
            ids = outputs.sequences[:, :length]
            mask = torch.cat([inputs["attention_mask"], torch.ones_like(written)], dim=1)[:, :length]
            ends = torch.isin(ids[:, before:], torch.tensor(self.stop_ids, device=ids.device)).long()
            # A row's own end token counts, the padding behind it does not.
            mask[:, before:] *= (ends.cumsum(dim=1) - ends == 0).long()
            seen = tuple(pictures(row) for row in rows)
            self._memories.append(Memory(ids, mask, outputs.past_key_values, seen))
        return [self.encoder.decode(row) for row in written]

    def _after_pictures(self, row: Encoded) -> int:
        """Position behind the last image placeholder."""
        if not row.vision:
            return 0
        image = getattr(self.loaded.processor, "image_token_id", None)
        tokenizer = self.loaded.processor.tokenizer
        image = getattr(tokenizer, "image_token_id", image) if image is None else image
        places = row.input_ids.eq(-1 if image is None else int(image)).nonzero()
        return int(places[-1]) + 1 if len(places) else len(row)

    def _inputs(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        model = self.loaded.model
        inputs = {name: value.to(model.device) for name, value in batch.items()}
        return {name: value.to(model.dtype) if value.is_floating_point() else value for name, value in inputs.items()}

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.loaded.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise MedVLMError("an allowed answer is empty.")
        return [*ids, self.encoder.stop_id]

    def _chooser(self, before: int) -> Callable[[int, torch.Tensor], list[int]]:
        """Which tokens may come next, so that the answer is one of the choices."""

        def allowed(_: int, ids: torch.Tensor) -> list[int]:
            said = ids[before:].tolist()
            following = {
                choice[len(said)] for choice in self._allowed if choice[: len(said)] == said and len(said) < len(choice)
            }
            return sorted(following) or [self.pad]

        return allowed
