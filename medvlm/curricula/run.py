"""Run a curriculum stage by stage; what is finished is never done again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from medvlm.curricula.measure import beside, measure
from medvlm.curricula.sources import ConversationSource, make_cohort
from medvlm.curricula.spec import Curriculum, Stage
from medvlm.dialogue.conversation import Conversation, read_conversations, write_conversations
from medvlm.dialogue.views import render_cohort
from medvlm.errors import MedVLMError
from medvlm.imaging.cohort import SPLITS
from medvlm.pathways.loader import load_pathway
from medvlm.pathways.reward import Scorer
from medvlm.storage import atomic_path, read_json, write_json

if TYPE_CHECKING:
    from rich.console import Console

BLANK = "blank.png"


class Run:
    """One curriculum in one folder."""

    def __init__(self, curriculum: Curriculum, out: Path, console: Console, workers: int = 2) -> None:
        """
        Args:
            curriculum: what to run.
            out: folder of the run; one that was begun with the same curriculum is continued.
            console: where progress is written.
            workers: processes that render pictures.

        Raises:
            MedVLMError: the folder holds a run of another curriculum or seed.
        """
        self.curriculum, self.out, self.console, self.workers = curriculum, out, console, workers
        self.scorer = Scorer(load_pathway(curriculum.pathway))
        self.data = out / "conversations"
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
        model = self.start()
        earlier: list[Stage] = []
        finished: list[dict[str, Any]] = []
        for number, stage in enumerate(self.curriculum.stages, start=1):
            folder = self.out / f"{number:02d}-{stage.id}"
            if not (folder / "stage.json").is_file():
                self._run_stage(folder, stage, earlier, model)
            finished.append(read_json(folder / "stage.json"))
            model = str(folder / "fit" / "model")
            self._show(stage, finished[-1])
            earlier.append(stage)
            self._write_card(finished)
            self._gate(stage, finished[-1])
        return self._write_card(finished)

    def prepare(self) -> None:
        """Cohort, pictures and the conversations of every source and split."""
        if (self.data / "done.json").is_file():
            return
        cohort = make_cohort(self.curriculum, self.out / "cohort")
        pictures = render_cohort(cohort, self.data, self.workers)
        source = ConversationSource(self.curriculum, self.scorer, cohort, {key: Path(p) for key, p in pictures.items()})
        counts: dict[str, dict[str, int]] = {}
        for name in self.curriculum.sources:
            counts[name] = {
                split: write_conversations(self.data / f"{name}.{split}.jsonl", source.conversations(name, split))
                for split in SPLITS
            }
        self._write_blank()
        write_json(self.data / "done.json", {"cohort": cohort.name, "studies": len(cohort.entries), "sources": counts})

    def _write_blank(self) -> None:
        """The picture of the controls: mid grey."""
        from PIL import Image

        with atomic_path(self.data / BLANK) as temporary:
            Image.new("RGB", (64, 64), (128, 128, 128)).save(temporary, format="PNG")

    def start(self) -> str:
        """The model that the first stage begins with; `tiny` learns its words from all sources."""
        if self.curriculum.model != "tiny":
            return self.curriculum.model
        folder = self.out / "start"
        if not (folder / "config.json").is_file():
            from medvlm.models.load import load_model

            texts = [
                turn.text for name in self.curriculum.sources for row in self.rows(name, "train") for turn in row.turns
            ]
            load_model("tiny", corpus=texts).save(folder)
        return str(folder)

    def rows(self, source: str, split: str) -> list[Conversation]:
        """The conversations of a source, with picture paths that hold from anywhere."""
        folder = self.data.resolve()
        return [
            replace(
                row,
                turns=tuple(
                    replace(turn, images=tuple(str(folder / name) for name in turn.images)) for turn in row.turns
                ),
            )
            for row in read_conversations(self.data / f"{source}.{split}.jsonl")
        ]

    def mixture(self, stage: Stage, earlier: Sequence[Stage], split: str) -> list[Conversation]:
        """What a stage shows: its sources by weight, and a share of what earlier stages showed."""
        random = Random(f"{self.curriculum.seed}/{stage.id}/{split}")
        shown = [
            row for name, weight in stage.sources.items() for row in _weighted(self.rows(name, split), weight, random)
        ]
        if stage.replay:
            names = {name for past in earlier for name in past.sources} - set(stage.sources)
            for name in sorted(names):
                shown += _weighted(self.rows(name, split), stage.replay, random)
        # A conversation that is shown twice needs an id of its own.
        return [replace(row, id=f"{row.id}#{number}") for number, row in enumerate(shown)]

    def _run_stage(self, folder: Path, stage: Stage, earlier: Sequence[Stage], model: str) -> None:
        begin = time.monotonic()
        self.console.print(f"[bold]{stage.id}[/bold]  {stage.objective}  {', '.join(stage.sources)}")
        counts = self._write_data(folder / "data", stage, earlier, model)
        self._fit(folder, stage, model)
        fitted = time.monotonic() - begin
        tests = self.test(str(folder / "fit" / "model"))
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
                rows = self.mixture(stage, earlier, split)
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
        for begin in range(0, len(scripts), 64):
            samples += rollouts(scripts[begin : begin + 64], stage.group, seed=self.curriculum.seed + begin)
        pairs = list(answer_pairs(samples, self.scorer))
        for kind in stage.images:
            pairs += picture_pairs(scripts, kind, self.other_pictures(rows, kind))
        write_pairs(path, pairs)
        return len(pairs)

    def other_pictures(self, rows: Sequence[Conversation], kind: str) -> list[str]:
        """For each conversation a blank picture, or that of a patient with another truth."""
        if kind == "blank":
            return [str(self.data.resolve() / BLANK)] * len(rows)
        if kind != "shuffled":
            raise MedVLMError(f"there is no other picture '{kind}'; choose blank or shuffled.")
        random = Random(self.curriculum.seed)
        conclusion = self.scorer.pathway.turns.conclusion

        def truth(row: Conversation) -> Any:
            told = row.symbols["truth"]
            return told.get(conclusion, tuple(sorted(map(str, told.items()))))

        other = []
        for row in rows:
            candidates = [random.choice(rows) for _ in range(40)]
            chosen = next((one for one in candidates if one.patient != row.patient and truth(one) != truth(row)), None)
            other.append((chosen or candidates[0]).images[0])
        return other

    def _fit(self, folder: Path, stage: Stage, model: str) -> None:
        """The stage through the same command line that users call; a run that was killed goes on."""
        from medvlm.training.cli import main

        fit = folder / "fit"
        if (fit / "model" / "config.json").is_file() or (fit / "model" / "adapter_config.json").is_file():
            return
        settings = dict(self.curriculum.settings) | dict(stage.settings)
        if stage.objective == "policy":
            settings["model.pathway"] = str(self.scorer.pathway.file)
        argv = ["fit", "--objective", stage.objective, "--seed_everything", str(self.curriculum.seed)]
        argv += [f"--model.name={model}", f"--trainer.default_root_dir={fit}", "--samples.count=0"]
        argv += [f"--data.train=[{folder / 'data' / 'train.jsonl'}]"]
        argv += [f"--{key}={value}" for key, value in settings.items()]
        last = fit / "checkpoints" / "last.ckpt"
        if last.is_file():
            argv.append(f"--ckpt_path={last}")
        main(argv)

    def test(self, model: str) -> dict[str, Any]:
        """Every skill on the held-out patients, beside their own, blank and exchanged pictures."""
        from medvlm.models.load import load_model

        loaded = load_model(model)
        tests: dict[str, Any] = {}
        for name, skill in self.curriculum.skills.items():
            rows = self.rows(skill.source, "test")
            tests[name] = measure(loaded, rows, self.scorer, skill.slots).to_json()
            for kind in ("blank", "shuffled"):
                control = measure(loaded, beside(rows, self.other_pictures(rows, kind)), self.scorer, skill.slots)
                tests[name][kind] = round(control.answers, 4)
        return tests

    def _show(self, stage: Stage, done: dict[str, Any]) -> None:
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
        """`card.json`: data, settings and the accuracy on every skill after every stage (what is forgotten shows)."""
        from importlib.metadata import version

        card = {
            "curriculum": self.curriculum.id,
            "title": self.curriculum.title,
            "settings": settings_hash(self.curriculum),
            "seed": self.curriculum.seed,
            "data": read_json(self.data / "done.json"),
            "versions": {name: version(name) for name in ("torch", "transformers", "lightning")},
            "stages": list(finished),
            "forgetting": {
                name: {stage["id"]: stage["tests"][name]["answers"] for stage in finished}
                for name in self.curriculum.skills
            },
        }
        write_json(self.out / "card.json", card)
        return card


def settings_hash(curriculum: Curriculum) -> str:
    """Changes with anything that changes the run."""
    settings = asdict(replace(curriculum, path=Path()))
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _weighted(rows: list[Conversation], weight: float, random: Random) -> list[Conversation]:
    """Each row `weight` times; of a fraction, a random share."""
    whole, part = int(weight), weight - int(weight)
    return rows * whole + (random.sample(rows, round(part * len(rows))) if part else [])
