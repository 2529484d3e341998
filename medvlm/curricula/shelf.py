"""The conversations of a run on disk: by source and split, mixed for a stage, or beside other pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from medvlm.curricula.pictures import BLANK
from medvlm.curricula.spec import OTHER_PICTURES, Curriculum, Skill, Stage
from medvlm.dialogue.conversation import Conversation, read_conversations
from medvlm.errors import MedVLMError
from medvlm.pathways.reward import Scorer
from medvlm.training.negatives import changed_pictures

DRAWS = 40


class Shelf:
    """What `prepare` wrote for one curriculum."""

    def __init__(self, curriculum: Curriculum, scorer: Scorer, folder: Path) -> None:
        """
        Args:
            curriculum: whose sources.
            scorer: of its pathway.
            folder: where the conversations and pictures are.
        """
        self.curriculum, self.scorer, self.folder = curriculum, scorer, folder

    def rows(self, source: str, split: str) -> list[Conversation]:
        """The conversations of a source, with picture paths that hold from anywhere."""
        folder = self.folder.resolve()
        return [
            replace(
                row,
                turns=tuple(
                    replace(turn, images=tuple(str(folder / name) for name in turn.images)) for turn in row.turns
                ),
            )
            for row in read_conversations(self.folder / f"{source}.{split}.jsonl")
        ]

    def tests(self, skill: Skill, split: str = "test") -> list[Conversation]:
        """What a skill is tested on."""
        return self.rows(skill.source, "heldout" if skill.heldout and split == "test" else split)

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

    def beside(self, conversations: Sequence[Conversation], kind: str) -> list[Conversation]:
        """The same conversations beside `blank` or `shuffled` pictures."""
        pictures = self.other_pictures(conversations, kind)
        return [
            replace(row, turns=tuple(replace(turn, images=tuple(other for _ in turn.images)) for turn in row.turns))
            for row, other in zip(conversations, pictures, strict=True)
        ]

    def other_pictures(self, rows: Sequence[Conversation], kind: str) -> list[str]:
        """For each conversation a blank picture, its own in the wrong window, or that of a patient with another truth.

        Raises:
            MedVLMError: there is no such kind of other picture.
        """
        if kind == "blank":
            return [str(self.folder.resolve() / BLANK)] * len(rows)
        if kind == "wrong_window":
            own = [row.images[0] for row in rows]
            return [
                str(path)
                for path in changed_pictures(own, "wrong_window", self.folder / kind, seed=self.curriculum.seed)
            ]
        if kind != "shuffled":
            raise MedVLMError(f"there is no other picture '{kind}'; choose {', '.join(OTHER_PICTURES)}.")
        random = Random(self.curriculum.seed)
        conclusion = self.scorer.pathway.turns.conclusion

        def truth(row: Conversation) -> Any:
            told = row.symbols.get("truth")
            if not isinstance(told, dict):
                return row.symbols.get("answer", row.patient)
            return told.get(conclusion, tuple(sorted(map(str, told.items()))))

        shown = [row for row in rows if row.images]
        other = []
        for row in rows:
            candidates = [random.choice(shown) for _ in range(DRAWS)] if shown else []
            chosen = next((one for one in candidates if one.patient != row.patient and truth(one) != truth(row)), None)
            other.append((chosen or candidates[0]).images[0] if candidates else "")
        return other


def _weighted(rows: list[Conversation], weight: float, random: Random) -> list[Conversation]:
    """Each row `weight` times; of a fraction, a random share."""
    whole, part = int(weight), weight - int(weight)
    return rows * whole + (random.sample(rows, round(part * len(rows))) if part else [])
