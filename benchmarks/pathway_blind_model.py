"""What a model earns that cannot see: a small text-only transformer trained on a pathway's conversations.

    python benchmarks/pathway_blind_model.py bone_marrow --out blind.jsonl
    medvlm pathway score bone_marrow blind.jsonl

It learns the sentences and the order of the questions but has no image, so a reward that is corrected for chance gives
it about nothing. It is asked in conversations of a seed that it was not trained on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from transformers import GPT2Config, GPT2LMHeadModel

from medvlm.models.tiny import train_tokenizer
from medvlm.pathways import load_pathway
from medvlm.pathways.dialogues import message_text
from medvlm.pathways.reward import Scorer
from medvlm.pathways.simulate import Simulator
from medvlm.storage import write_jsonl


def transcript(messages: list[dict[str, Any]]) -> str:
    """A conversation as plain lines, `Q:` and `A:`."""
    marks = {"user": "Q:", "assistant": "A:", "expert": "E:"}
    return "\n".join(f"{marks[message['role']]} {message_text(message)}" for message in messages)


def train(texts: list[str], steps: int, seed: int) -> tuple[GPT2LMHeadModel, Any]:
    """A two-layer transformer trained on the transcripts."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(texts, 1500)
    end = tokenizer.convert_tokens_to_ids(tokenizer.eos_token)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=128, n_layer=2, n_head=4, n_positions=512, bos_token_id=end, eos_token_id=end
    )
    model = GPT2LMHeadModel(config)
    rows = [torch.tensor(tokenizer(text + "\n")["input_ids"][:512]) for text in texts]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in track(range(steps), "training"):
        batch = [rows[(step * 16 + number) % len(rows)] for number in range(16)]
        ids = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=end)
        labels = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=-100)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f"last loss {loss.item():.3f}")
    return model.eval(), tokenizer


@torch.no_grad()
def answer(model: GPT2LMHeadModel, tokenizer: Any, text: str) -> str:
    """The model's next line."""
    ids = torch.tensor([tokenizer(text)["input_ids"][-440:]])
    made = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=24,
        do_sample=False,
        pad_token_id=model.config.eos_token_id,
    )
    return str(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)).split("\n")[0].strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pathway")
    parser.add_argument("--out", type=Path, default=Path("blind.jsonl"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    simulator = Simulator(Scorer(load_pathway(options.pathway)))
    texts = [transcript(row["messages"]) for row in simulator.conversations(1600, options.seed)]
    model, tokenizer = train(texts, options.steps, options.seed)
    rows = list(simulator.conversations(options.count, options.seed + 1))
    for row in track(rows, "answering"):
        said: list[dict[str, Any]] = []
        for message in row["messages"]:
            if message["role"] == "assistant":
                text = answer(model, tokenizer, transcript(said) + "\nA:")
                message["content"] = [{"type": "text", "text": text}]
            said.append(message)
    write_jsonl(options.out, rows)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
