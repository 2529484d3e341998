"""What a curriculum would do: conversations, steps, time and memory of every stage, before anything is trained.

A few cases are made in a temporary folder and their conversations are measured; counts are scaled to all patients.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from medvlm.curricula.run import Run
from medvlm.curricula.spec import Curriculum, Stage
from medvlm.dialogue.conversation import Conversation, write_conversations
from medvlm.imaging.cohort import read_cohort

CASES = 20
SCRIPTS = 8
# A pass forward costs a third of one forward and backward.
FORWARD = 1 / 3


@dataclass(frozen=True)
class StagePlan:
    """One stage to come.

    Attributes:
        id, objective: of the stage.
        sources: what it shows, replay included.
        conversations: training conversations (scripts of a policy or preference stage) of one epoch.
        epochs: most passes over them.
        steps: optimiser steps of all epochs.
        tokens: mean tokens of a conversation.
        seconds: estimated on this machine, without the tests.
        gib: memory at the peak.
    """

    id: str
    objective: str
    sources: tuple[str, ...]
    conversations: int
    epochs: int
    steps: int
    tokens: int
    seconds: float
    gib: float


def plan_curriculum(curriculum: Curriculum) -> list[StagePlan]:
    """Plan every stage.

    Raises:
        MedVLMError: the cohort, an expert or a model is not there.
    """
    with TemporaryDirectory() as folder, _scaled(curriculum, Path(folder)) as (run, scale):
        start = run.start()
        return [
            _plan_stage(run, stage, curriculum.before(stage), start, scale, Path(folder) / stage.id)
            for stage in curriculum.stages
        ]


@contextmanager
def _scaled(curriculum: Curriculum, folder: Path) -> Iterator[tuple[Run, float]]:
    """A run on few patients, prepared, and how many times more the curriculum has."""
    from rich.console import Console

    few, scale = curriculum, 1.0
    if curriculum.cases.phantom:
        patients = min(CASES, curriculum.cases.patients)
        few = replace(curriculum, cases=replace(curriculum.cases, patients=patients))
        scale = curriculum.cases.patients / patients
    else:
        read_cohort(curriculum.cases.cohort)
    run = Run(few, folder / "run", Console(quiet=True), workers=1)
    run.prepare()
    yield run, scale


def _plan_stage(run: Run, stage: Stage, earlier: Sequence[Stage], start: str, scale: float, folder: Path) -> StagePlan:
    from medvlm.commands.plan import make_plan

    rows = run.shelf.mixture(stage, earlier, "train")
    write_conversations(folder / "data" / "train.jsonl", rows)
    config = _settings(run, stage, folder, start)
    plan = make_plan(config)
    count = round(len(rows) * scale)
    epochs = max(1, int(config.trainer.max_epochs or 1))
    each = plan.work.rows
    seconds = plan.seconds
    sampling = 0.0
    if stage.objective == "contrastive":
        count = round(len({row.images for row in rows}) * scale)
        each = int(stage.settings.get("data.pictures", 64))
        half = sum(part.flops for part in plan.parts if part.part != "language") / max(1, plan.flops)
        seconds *= half * each / max(1, plan.work.images)
    elif stage.objective != "finetune":
        seconds *= 1 + FORWARD  # the reference
        sampling = _sampling_seconds(stage, rows[:SCRIPTS], start) * count
    if stage.objective == "preference":
        # At most one pair for each sample, and one for each kind of other picture; a pair has two sides.
        count = count * (stage.group + len(stage.images))
        each = max(1, each // 2)
    elif stage.objective == "policy":
        group, episodes = _group(stage), int(stage.settings.get("data.episodes", 16))
        seconds *= episodes * group / each
        each = episodes
    steps = math.ceil(count / each) * epochs
    most = int(config.trainer.max_steps)
    steps = min(steps, most) if most > 0 else steps
    shown = {name for past in earlier for name in past.sources} if stage.replay else set()
    return StagePlan(
        stage.id,
        stage.objective,
        (*stage.sources, *sorted(shown - set(stage.sources))),
        count,
        epochs,
        steps,
        plan.work.length,
        steps * seconds + sampling * (epochs if stage.objective == "policy" else 1),
        plan.bytes / 2**30,
    )


def _group(stage: Stage) -> int:
    """Conversations sampled for one script."""
    if stage.objective == "preference":
        return stage.group
    from medvlm.training.policy import PolicySettings

    return int(stage.settings.get("model.policy.group", PolicySettings().group))


def _settings(run: Run, stage: Stage, folder: Path, start: str) -> Any:
    """The settings of a stage's run as the planner of `medvlm plan` reads them."""
    from medvlm.commands.plan import add_options
    from medvlm.commands.run_settings import SettingsCLI, parse_run

    plain = replace(stage, objective="finetune", stop=None, settings=_plain(stage))
    argv = run.fit_options(folder, plain, start)[1:]
    return parse_run(SettingsCLI, "medvlm curriculum plan", "", argv, add_options).config


def _plain(stage: Stage) -> dict[str, Any]:
    """Settings that fine-tuning knows, too: those of objectives are left out."""
    own: tuple[str, ...] = ("model.policy", "model.preference", "model.contrastive", "model.pathway", "model.knowledge")
    own += ("data.episodes", "data.updates", "data.pictures")
    return {key: value for key, value in stage.settings.items() if not key.startswith(own)}


def _sampling_seconds(stage: Stage, rows: Sequence[Conversation], start: str) -> float:
    """Seconds to sample one script's group, timed with the untrained model and answers of a usual length."""
    from medvlm.models.load import load_model
    from medvlm.training.rollouts import Rollouts, Script

    answers = [len(turn.text.split()) for row in rows for turn in row.turns if turn.role == "assistant"]
    # About two tokens a word.
    rollouts = Rollouts(load_model(start), max_new_tokens=max(4, 2 * sum(answers) // max(1, len(answers))))
    begin = time.perf_counter()
    rollouts([Script.of(row) for row in rows], _group(stage))
    return (time.perf_counter() - begin) / len(rows)
