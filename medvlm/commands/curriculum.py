"""`medvlm curriculum`: staged specialisation of one model."""

from __future__ import annotations

from pathlib import Path


def run(name: str, out: Path | None = None, seed: int | None = None, workers: int = 2) -> None:
    """Run a curriculum; run it again to continue after an interruption.

    Example:
        medvlm curriculum run bone_marrow --out runs/bone_marrow

    Args:
        name: name, folder or file of the curriculum.
        out: folder of the run (default: runs/ and its name).
        seed: of everything random (default: what the file says).
        workers: processes that render pictures.
    """
    from dataclasses import replace

    from rich.console import Console

    from medvlm.curricula.run import Run
    from medvlm.curricula.spec import load_curriculum

    curriculum = load_curriculum(name)
    if seed is not None:
        curriculum = replace(curriculum, seed=seed)
    out = out or Path("runs") / curriculum.id
    Run(curriculum, out, Console(highlight=False), workers)()
    print(f"card        {out / 'card.json'}")


COMMANDS = {"run": run}
