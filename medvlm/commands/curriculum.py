"""`medvlm curriculum`: staged specialisation of one model."""

from __future__ import annotations

from pathlib import Path


def run(name: str, out: Path | None = None, cohort: str = "", seed: int | None = None, workers: int = 2) -> None:
    """Run a curriculum; run it again to continue after an interruption.

    Example:
        medvlm curriculum run bone_marrow --out runs/bone_marrow

    Args:
        name: name, folder or file of the curriculum.
        out: folder of the run (default: runs/ and its name).
        cohort: folder with cohort.json to take the cases from, instead of what the file says.
        seed: of everything random (default: what the file says).
        workers: processes that draw and render pictures.
    """
    from dataclasses import replace

    from rich.console import Console

    from medvlm.curricula.run import Run
    from medvlm.curricula.spec import load_curriculum

    curriculum = load_curriculum(name).on(cohort)
    if seed is not None:
        curriculum = replace(curriculum, seed=seed)
    out = out or Path("runs") / curriculum.id
    Run(curriculum, out, Console(highlight=False), workers)()
    print(f"card        {out / 'card.json'}")


def plan(name: str, cohort: str = "") -> None:
    """Print what a curriculum would run: conversations, steps, estimated time and memory of every stage.

    Example:
        medvlm curriculum plan bone_marrow

    Args:
        name: name, folder or file of the curriculum.
        cohort: folder with cohort.json to take the cases from, instead of what the file says.
    """
    from rich.console import Console
    from rich.table import Table

    from medvlm.commands.curriculum_plan import plan_curriculum
    from medvlm.curricula.spec import load_curriculum

    curriculum = load_curriculum(name).on(cohort)
    table = Table(title=f"{curriculum.id}: {curriculum.title}", title_justify="left")
    for title in ("stage", "objective", "shows", "conversations", "tokens each", "epochs", "steps", "minutes", "GiB"):
        table.add_column(title, justify="left" if title in ("stage", "objective", "shows") else "right")
    stages = plan_curriculum(curriculum)
    for row in stages:
        numbers = (f"{row.conversations:,}", f"{row.tokens}", f"{row.epochs}", f"{row.steps:,}")
        shown = ", ".join(row.sources)
        table.add_row(row.id, row.objective, shown, *numbers, f"{row.seconds / 60:.1f}", f"{row.gib:.1f}")
    console = Console(highlight=False, width=max(110, Console().width))
    console.print(table)
    total = sum(row.seconds for row in stages) / 60
    skills = ", ".join(curriculum.skills)
    console.print(f"{total:.0f} minutes of learning on this machine, if no stage stops early; tests come on top")
    console.print(f"tested after every stage: {skills}; beside blank and exchanged pictures, too")


def list_curricula() -> None:
    """List the curricula that can be run.

    Example:
        medvlm curriculum list
    """
    from medvlm.content import list_content
    from medvlm.curricula.spec import load_curriculum

    for name, folder in sorted(list_content("curricula").items()):
        if (folder / "curriculum.yaml").is_file():
            curriculum = load_curriculum(folder)
            cases = curriculum.cases.phantom or curriculum.cases.cohort
            print(f"{name:<14}{curriculum.title}")
            print(f"{'':<14}{' → '.join(stage.id for stage in curriculum.stages)}   cases: {cases}")


COMMANDS = {"run": run, "plan": plan, "list": list_curricula}
