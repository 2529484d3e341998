"""Run a curriculum stage by stage; what is finished is never done again."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvlm.curricula.card import forgetting_table, make_card, settings_hash
from medvlm.curricula.cases import given_cohort
from medvlm.curricula.prepare import FINDINGS, prepare
from medvlm.curricula.shelf import Shelf
from medvlm.curricula.skills import SkillTests
from medvlm.curricula.spec import Curriculum, Stage
from medvlm.dialogue.conversation import Conversation, write_conversations
from medvlm.errors import MedVLMError
from medvlm.pathways.loader import load_pathway
from medvlm.pathways.reward import Scorer
from medvlm.storage import read_json, write_json

if TYPE_CHECKING:
    from rich.console import Console

SCRIPTS = 64


class Run:
    """One curriculum in one folder."""

    def __init__(self, curriculum: Curriculum, out: Path, console: Console, workers: int = 2) -> None:
        """
        Args:
            curriculum: what to run.
            out: folder of the run; one that was begun with the same curriculum is continued.
            console: where progress is written.
            workers: processes that draw and render pictures.

        Raises:
            MedVLMError: the folder holds a run of another curriculum or seed, or there are no such cases; nothing is
                written then.
        """
        given_cohort(curriculum)
        self.curriculum, self.out, self.console, self.workers = curriculum, out, console, workers
        self.scorer = Scorer(load_pathway(curriculum.pathway))
        self.data = out / "conversations"
        self.shelf = Shelf(curriculum, self.scorer, self.data)
        self.tests = SkillTests(self.shelf, out / FINDINGS)
        self._claim()

    def _claim(self) -> None:
        digest = settings_hash(self.curriculum)
        marker = self.out / "curriculum.json"
        if marker.is_file() and read_json(marker).get("settings") != digest:
            raise MedVLMError(f"{self.out}: holds a run with other settings; choose another folder with --out.")
        write_json(marker, {"curriculum": self.curriculum.id, "settings": digest, "seed": self.curriculum.seed})

    def __call__(self) -> dict[str, Any]:
        """Run what is left; returns the card that is also in `card.json`."""
        self.prepare()
        models = {"new": self.start()}
        last = "new"
        finished: list[dict[str, Any]] = []
        for number, stage in enumerate(self.curriculum.stages, start=1):
            folder = self.out / f"{number:02d}-{stage.id}"
            if not (folder / "stage.json").is_file():
                self._run_stage(folder, stage, self.curriculum.before(stage), models[stage.start or last])
            finished.append(read_json(folder / "stage.json"))
            models[stage.id], last = str(folder / "fit" / "model"), stage.id
            self._show(finished[-1])
            self._write_card(finished)
            self._gate(stage, finished[-1])
        card = self._write_card(finished)
        self.console.print("\n".join(forgetting_table(card)))
        return card

    def prepare(self) -> None:
        """Cohort, pictures and the conversations of every source and split."""
        prepare(self.curriculum, self.scorer, self.out, self.data, self.workers)

    def start(self) -> str:
        """The model that the first stage begins with; `tiny` learns its words from all sources."""
        if self.curriculum.model != "tiny":
            return self.curriculum.model
        folder = self.out / "start"
        if not (folder / "config.json").is_file():
            from medvlm.models.load import load_model

            texts = [
                turn.text
                for name in self.curriculum.sources
                for row in self.shelf.rows(name, "train")
                for turn in row.turns
            ]
            load_model("tiny", corpus=texts, tiny_config=self.curriculum.tiny_config).save(folder)
        return str(folder)

    def _run_stage(self, folder: Path, stage: Stage, earlier: Sequence[Stage], model: str) -> None:
        from medvlm.models.load import load_model

        begin = time.monotonic()
        self.console.print(f"[bold]{stage.id}[/bold]  {stage.objective}  {', '.join(stage.sources)}")
        counts = self._write_data(folder / "data", stage, earlier, model)
        self._fit(folder, stage, model)
        fitted = time.monotonic() - begin
        trained = str(folder / "fit" / "model")
        tests = self.tests(load_model(trained), folder / "outcomes.jsonl") if stage.tested else {}
        write_json(
            folder / "stage.json",
            {
                "id": stage.id,
                "objective": stage.objective,
                "data": counts,
                "seconds": {"learning": round(fitted, 1), "testing": round(time.monotonic() - begin - fitted, 1)},
                "tests": tests,
            },
        )

    def _write_data(self, folder: Path, stage: Stage, earlier: Sequence[Stage], model: str) -> dict[str, int]:
        """`train.jsonl` and `validation.jsonl` of a stage; pairs for a preference stage."""
        counts = folder / "counts.json"
        if not counts.is_file():
            written = {}
            for split in ("train", "validation"):
                rows = self.shelf.mixture(stage, earlier, split)
                path = folder / f"{split}.jsonl"
                if stage.objective == "preference":
                    written[split] = self._write_pairs(path, stage, rows, model)
                else:
                    written[split] = write_conversations(path, rows)
            write_json(counts, written)
        found: dict[str, int] = read_json(counts)
        return found

    def _write_pairs(self, path: Path, stage: Stage, rows: list[Conversation], model: str) -> int:
        """Sample the model on the stage's scripts, find its wrong answers, and add the pictures' own pairs."""
        from medvlm.models.load import load_model
        from medvlm.training.pairs import answer_pairs, picture_pairs
        from medvlm.training.preference import write_pairs
        from medvlm.training.rollouts import Rollouts, Script

        scripts = [Script.of(row) for row in rows]
        rollouts = Rollouts(load_model(model))
        samples = []
        for begin in range(0, len(scripts), SCRIPTS):
            samples += rollouts(scripts[begin : begin + SCRIPTS], stage.group, seed=self.curriculum.seed + begin)
        pairs = list(answer_pairs(samples, self.scorer))
        for kind in stage.images:
            pairs += picture_pairs(scripts, kind, self.shelf.other_pictures(rows, kind))
        write_pairs(path, pairs)
        return len(pairs)

    def _fit(self, folder: Path, stage: Stage, model: str) -> None:
        """The stage through the same command line that users call; a run that was killed goes on."""
        from medvlm.training.cli import main

        fit = folder / "fit"
        if (fit / "model" / "config.json").is_file() or (fit / "model" / "adapter_config.json").is_file():
            return
        main(self.fit_options(folder, stage, model))

    def fit_options(self, folder: Path, stage: Stage, model: str) -> list[str]:
        """The options of `medvlm fit` for a stage."""
        fit = folder / "fit"
        settings = dict(self.curriculum.settings) | dict(stage.settings)
        if stage.objective in ("contrastive", "policy"):
            settings["model.pathway"] = str(self.scorer.pathway.file)
        argv = ["fit", "--objective", stage.objective, "--seed_everything", str(self.curriculum.seed)]
        argv += [f"--model.name={model}", f"--trainer.default_root_dir={fit}", "--samples.count=0"]
        argv += [f"--data.train=[{folder / 'data' / 'train.jsonl'}]"]
        if stage.stop is not None:
            argv.append(f"--trainer.callbacks={json.dumps([self._stop(stage)])}")
        argv += [f"--{key}={value}" for key, value in settings.items()]
        last = fit / "checkpoints" / "last.ckpt"
        if last.is_file():
            argv.append(f"--ckpt_path={last}")
        return argv

    def _stop(self, stage: Stage) -> dict[str, Any]:
        """The callback that ends a stage early, as LightningCLI takes it."""
        assert stage.stop is not None
        return {
            "class_path": "medvlm.curricula.stop.StopAtSkill",
            "init_args": {
                "run": str(self.out),
                "curriculum": str(self.curriculum.path),
                "skill": stage.stop.skill,
                "reached": stage.stop.reached,
                "patience": stage.stop.patience,
                "at_most": stage.stop.at_most,
            },
        }

    def _show(self, done: dict[str, Any]) -> None:
        for name, test in done["tests"].items():
            self.console.print(
                f"  {name:<16}right {test['answers']:.0%}   whole {test['whole']:.0%}   inconsistent "
                f"{test['inconsistent']:.0%}   blank {test['blank']:.0%}   exchanged {test['shuffled']:.0%}"
            )

    def _gate(self, stage: Stage, done: dict[str, Any]) -> None:
        for name, least in stage.gate.items():
            reached = done["tests"][name]["answers"]
            if reached < least:
                raise MedVLMError(
                    f"{self.out}: stage '{stage.id}' reached {reached:.0%} on '{name}' and its gate asks for "
                    f"{least:.0%}; train it longer, or lower the gate, in another --out."
                )

    def _write_card(self, finished: Sequence[dict[str, Any]]) -> dict[str, Any]:
        card = make_card(self.curriculum, read_json(self.data / "done.json"), finished)
        write_json(self.out / "card.json", card)
        return card
