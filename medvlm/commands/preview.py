"""`medvlm preview`: what a run will learn, leave out, train and cost, before hours are spent on it."""

from __future__ import annotations

import html
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvlm.errors import MedVLMError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from medvlm.models.chat import ChatEncoder, Encoded

EXAMPLE = "Example:  medvlm preview --config configs/stage4.yaml --model.name ORG/NAME --data.train my/train.jsonl"
BARS = 10
PAGE = """<!doctype html><meta charset="utf-8"><title>medvlm preview</title>
<style>body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
pre{white-space:pre-wrap;background:#f5f6f7;padding:1rem;border-radius:6px}mark{background:#bfe8cf;color:#000}
img{height:224px;margin-right:1rem;border-radius:4px}h2{margin-top:2.5rem;font-size:1.1rem}</style>
<h1>What will be learnt</h1><p>Marked: the tokens that are supervised. Everything else is context.
Synthetic or real, this page holds the training data: keep it where they are kept.</p>"""


@dataclass(frozen=True)
class Trial:
    """One training step with the largest batch: conversations, tokens, loss a token, seconds, peak memory in bytes."""

    rows: int
    tokens: int
    loss: float
    seconds: float
    peak: int


def main(argv: Sequence[str]) -> None:
    """Show a run before it starts; takes all options of `medvlm fit`."""
    from rich.console import Console

    from medvlm.commands.plan import add_options as plan_options
    from medvlm.commands.plan import make_plan
    from medvlm.commands.plan import show as show_plan
    from medvlm.commands.run_settings import RunCLI, SettingsCLI, parse_run

    def options(parser: Any) -> None:
        plan_options(parser)
        parser.add_argument("--show", type=int, default=4, help="conversations to show")
        parser.add_argument("--page", type=str, default=None, help="HTML page (default: preview.html of the run)")

    cli = parse_run(RunCLI, "medvlm preview", EXAMPLE, argv, options)
    console = Console(highlight=False, width=max(100, Console().width))
    module, data = attach(cli)
    page = Path(cli.config.page or Path(cli.trainer.default_root_dir) / "preview.html")
    show_conversations(console, data, module.loaded, cli.config.show, page)
    show_lengths(console, data)
    show_parts(console, module)
    trial = try_largest(module, data)
    console.print(
        f"largest    {trial.rows} conversations, {trial.tokens:,} tokens: loss {trial.loss:.2f}, "
        f"{trial.seconds:.1f} s, {trial.peak / 2**30:.1f} GiB at the peak"
    )
    planned = make_plan(parse_run(SettingsCLI, "medvlm preview", EXAMPLE, argv, options).config)
    if cli.config.hardware == "here":
        share = planned.work.rows * planned.work.length / trial.tokens
        planned = replace(planned, seconds=trial.seconds * share)  # measured beats reckoned
    show_plan(console, planned, cli.config)


def attach(cli: Any) -> tuple[Any, Any]:
    """Model and data as they are when training begins."""
    trainer, module, data = cli.trainer, cli.model, cli.datamodule
    trainer.strategy.connect(module)
    trainer._data_connector.attach_datamodule(module, data)
    module.trainer = trainer
    trainer.training = True
    data.setup("fit")
    module.setup("fit")
    return module, data


def show_conversations(console: Console, data: Any, loaded: Any, count: int, page: Path) -> None:
    """Print a few conversations, what is learnt in green, and write them with their pictures to a page."""
    from medvlm.models.chat import ChatEncoder
    from medvlm.storage import write_text

    parts = [PAGE]
    path, conversations = data.conversations("train")[0]
    encoder = ChatEncoder(loaded.processor, path.parent, loaded.name)
    for conversation in conversations[:: max(1, len(conversations) // max(1, count))][:count]:
        row = encoder.encode(conversation)
        pieces = spans(encoder, row)
        console.rule(f"{conversation.id} · {len(row)} tokens, {int(row.supervised.sum())} learnt", style="dim")
        console.print(_coloured(pieces))
        pictures = "".join(f'<img alt="" src="{_data_uri(path.parent / image)}">' for image in conversation.images)
        text = "".join(f"<mark>{html.escape(t)}</mark>" if learnt else html.escape(t) for t, learnt in pieces)
        parts.append(f"<h2>{html.escape(conversation.id)}</h2>{pictures}<pre>{text}</pre>")
    write_text(page, "\n".join(parts))
    console.rule(style="dim")
    console.print(f"pictures   {page}")


def spans(encoder: ChatEncoder, row: Encoded) -> list[tuple[str, bool]]:
    """The tokens of a row as texts with whether they are learnt; runs of image tokens are counted, not printed."""
    decode = encoder.processor.tokenizer.decode
    pieces: list[tuple[str, bool]] = []
    for learnt, part in groupby(zip(row.supervised.tolist(), row.input_ids.tolist()), key=itemgetter(0)):
        waiting: list[int] = []
        for token, same in groupby(token for _, token in part):
            run = list(same)
            if len(run) <= 3:
                waiting += run
                continue
            pieces += [(decode(waiting), learnt), (f"{decode([token])} x {len(run)} ", learnt)]
            waiting = []
        pieces.append((decode(waiting), learnt))
    return [piece for piece in pieces if piece[0]]


def _coloured(pieces: list[tuple[str, bool]]) -> Text:
    from rich.text import Text

    text = Text()
    for piece, learnt in pieces:
        text.append(piece, style="bold green" if learnt else "dim")
    return text


def _data_uri(path: Path) -> str:
    import base64

    kind = "jpeg" if path.suffix.lower() in (".jpg", ".jpeg") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def show_lengths(console: Console, data: Any) -> None:
    """A histogram of tokens, and what is left out and why."""
    for split, rows in data.sets.items():
        lengths = sorted(rows.lengths)
        console.print(
            f"{split:<11}{len(lengths):,} conversations, {sum(lengths):,} tokens, {rows.supervised_tokens:,} learnt"
        )
        width = max(1, -(-(lengths[-1] + 1 - lengths[0]) // BARS))
        counts = [0] * BARS
        for length in lengths:
            counts[(length - lengths[0]) // width] += 1
        for number, count in enumerate(counts):
            low = lengths[0] + number * width
            if low <= lengths[-1]:
                bar = "█" * round(40 * count / max(counts))
                console.print(f"  {low:>6}-{min(low + width - 1, lengths[-1]):<6} {bar} {count:,}", style="dim")
        for reason, ids in rows.dropped.items():
            console.print(f"  [yellow]left out[/yellow] {len(ids):,}: {reason} (for example {ids[0]})")
    if data.stream:
        console.print(f"train      {len(data.stream):,} conversations, read from disk batch by batch")


def show_parts(console: Console, module: Any) -> None:
    """Parameters by part, and the quick paths that will be taken."""
    from medvlm.models.parts import table

    for row in table(module.loaded):
        console.print(f"{row.part:<11}{row.total:>14,} parameters {row.trainable:>14,} train ({row.how})")
    for notice in module.chosen.notices:
        console.print(notice)


def try_largest(module: Any, data: Any) -> Trial:
    """One step forward and backward with the largest batch of the first epoch: what fails later fails now.

    Raises:
        MedVLMError: memory does not suffice (says what to change).
    """
    import resource

    loader = data.train_dataloader()
    sampler = loader.batch_sampler
    lengths = sampler.lengths

    def size(rows: Sequence[int]) -> tuple[int, int]:
        """Tokens, and the longest conversation."""
        return sum(int(lengths[row]) for row in rows), max(int(lengths[row]) for row in rows)

    largest = max(sampler.batches(0), key=size)
    batch = loader.collate_fn([loader.dataset[row] for row in largest])
    batch = {name: value.to(module.device) if hasattr(value, "to") else value for name, value in batch.items()}
    for name, value in batch.items():
        if hasattr(value, "is_floating_point") and value.is_floating_point():
            batch[name] = value.to(module.model.dtype)
    seconds = []
    try:
        for _ in range(2):  # the first step prepares kernels and memory
            start = time.perf_counter()
            loss, tokens = module.loss(batch)
            loss.backward()
            seconds.append(time.perf_counter() - start)
            module.zero_grad()
    except (MemoryError, RuntimeError) as error:
        if "memory" not in str(error).lower():
            raise
        raise MedVLMError(
            f"the largest batch ({len(largest)} conversations) does not fit in memory: lower data.batch_tokens or set "
            "model.paths.checkpointing."
        ) from None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Trial(len(largest), size(largest)[0], float(loss.detach() / tokens), min(seconds), peak)


MAIN = main
