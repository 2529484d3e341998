"""`medvlm ask`: put a question to a fine-tuned model and watch it call experts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from medvlm.dialogue.conversation import Conversation
    from medvlm.experts.expert import Expert
    from medvlm.imaging.study import Study

STYLES = {"system": "dim", "user": "bold", "assistant": "green", "expert": "cyan"}


def ask(
    study: Path,
    question: str,
    *,
    model: str,
    experts: list[str] | None = None,
    no_experts: bool = False,
    device: str = "cpu",
    max_calls: int = 3,
    max_new_tokens: int = 96,
) -> None:
    """Ask a model about a study; it calls experts by itself, and the exchange is shown.

    Example:
        medvlm ask path/to/dicom "How large is the largest nodule?" --model runs/quickstart/model

    Args:
        study: DICOM file or folder, NIfTI file or image.
        question: what to ask.
        model: folder of a fine-tuned model or adapter, or a hub id.
        experts: names of the experts on offer (default: every installed one).
        no_experts: offer none; the model answers from the picture.
        device: where model and experts run: cpu, cuda, cuda:1, ...
        max_calls: most expert calls.
        max_new_tokens: longest reply of the model, in tokens.
    """
    from tempfile import TemporaryDirectory

    from rich.console import Console

    from medvlm.dialogue.loop import ask as run
    from medvlm.dialogue.views import save_overview, shown_series
    from medvlm.imaging.reader import load_study
    from medvlm.models.generate import Generator
    from medvlm.models.load import load_model

    console = Console()
    loaded = load_study(study)
    with console.status("loading"), TemporaryDirectory() as folder:
        generator = Generator(load_model(model, device=device), max_new_tokens)
        offered = [] if no_experts else applicable_experts(console, loaded, experts, device)
        image = Path(folder) / "overview.png"
        save_overview(offered[0].choose(loaded) if offered else shown_series(loaded), image)
        conversation = run(loaded, question, generator.answer, offered, [str(image)], max_calls)
    print_exchange(console, conversation)


def applicable_experts(console: Console, study: Study, names: list[str] | None, device: str) -> list[Expert]:
    """The experts that may read this study; says why the others are not on offer."""
    from medvlm.errors import MedVLMError
    from medvlm.reporting.generate import open_experts

    offered = []
    for expert in open_experts(names, device)[0]:
        try:
            expert.choose(study)
            offered.append(expert)
        except MedVLMError as reason:
            console.print(f"not on offer: {reason}", style="dim", markup=False, highlight=False)
    return offered


def print_exchange(console: Console, conversation: Conversation) -> None:
    """Every turn with its role in colour."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for turn in conversation.turns:
        style = STYLES[turn.role]
        shown = f"{turn.text}  (1 picture)" if len(turn.images) == 1 else turn.text
        grid.add_row(Text(turn.role, style=style), Text(shown, style=style))
    console.print(grid)
    console.print(Text("research draft, not for diagnosis", style="dim"))


COMMAND = ask
