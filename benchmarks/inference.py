"""Two rounds of a closed loop over many studies: one by one, in batches, and computing nothing twice.

    python benchmarks/inference.py --model runs/small/fit/model --conversations runs/quickstart/conversations

The first round asks every test question of some studies; the second goes on after a call and the expert's findings, as
they stand in the file, so that all ways get the same prompts. The peer is transformers' `generate`, a prompt at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path

from medvlm.dialogue.conversation import Conversation, read_conversations
from medvlm.models.generate import Generator
from medvlm.models.load import load_model


def rounds(file: Path, studies: int) -> list[list[Conversation]]:
    """The prompts of both rounds."""
    rows = read_conversations(file)
    chosen = list(dict.fromkeys(row.symbols["study"] for row in rows))[:studies]
    rows = [row for row in rows if row.symbols["study"] in chosen]
    first, second = [], []
    for row in rows:
        users = [number for number, turn in enumerate(row.turns) if turn.role == "user"]
        experts = [number for number, turn in enumerate(row.turns) if turn.role == "expert"]
        name = (row.id, row.patient, row.split)
        first.append(Conversation(*name, row.turns[: users[0] + 1]))
        if experts:
            second.append(Conversation(*name, row.turns[: experts[0] + 1]))
    return [first, second]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--conversations", type=Path, required=True)
    parser.add_argument("--studies", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/inference.json"))
    arguments = parser.parse_args()
    loaded = load_model(arguments.model)
    asked = rounds(arguments.conversations / "test.jsonl", arguments.studies)
    ways = {
        "one by one": {"batch_size": 1},
        "one by one, drafts from the prompt": {"batch_size": 1, "lookup": 10},
        "batches": {"batch_size": arguments.batch},
        "batches, nothing twice": {"batch_size": arguments.batch, "reuse": True},
    }
    rows, reference = [], []
    for name, options in ways.items():
        generator = Generator(loaded, arguments.tokens, root=arguments.conversations, **options)
        start = time.perf_counter()
        answers = [text for prompts in asked for text in generator(prompts)]
        seconds = time.perf_counter() - start
        reference = reference or answers
        same = sum(a == b for a, b in zip(answers, reference, strict=True)) / len(answers)
        rows.append(
            {
                "way": name,
                "answers": len(answers),
                "seconds": round(seconds, 2),
                "answers a second": round(len(answers) / seconds, 2),
                "prompt tokens computed": generator.computed,
                "same words": round(same, 3),
            }
        )
        print(rows[-1], flush=True)
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    said = {"machine": machine, "dtype": str(loaded.model.dtype), "rows": rows}
    arguments.out.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
