"""Every skill of a curriculum, tested: on its own pictures, on blank ones and on exchanged ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medvlm.curricula.measure import Measured, measure
from medvlm.curricula.shelf import Shelf
from medvlm.curricula.spec import Skill
from medvlm.dialogue.conversation import Conversation
from medvlm.models.load import LoadedModel
from medvlm.storage import write_jsonl

CONTROLS = ("blank", "shuffled")
# About so many conversations are also asked beside other pictures.
CONTROLLED = 60


class SkillTests:
    """The tests of one run."""

    def __init__(self, shelf: Shelf, findings: Path) -> None:
        """
        Args:
            shelf: conversations of the run.
            findings: folder of the expert's findings, where the curriculum has an expert.
        """
        self.shelf, self.findings = shelf, findings

    def __call__(self, loaded: LoadedModel, outcomes: Path | None = None) -> dict[str, Any]:
        """Skill → scores as JSON, with the shares of right answers beside other pictures.

        Args:
            loaded: the model.
            outcomes: JSON Lines file for the single conversations, for paired intervals: skill, picture, id, patient
                and, question by question, whether the answer was right.
        """
        tests: dict[str, Any] = {}
        single: list[dict[str, Any]] = []
        for name, skill in self.shelf.curriculum.skills.items():
            rows = self.shelf.tests(skill)
            patients = {row.id: row.patient for row in rows}
            for kind in ("own", *CONTROLS):
                shown = rows if kind == "own" else self.shelf.beside(rows, kind)[:: max(1, len(rows) // CONTROLLED)]
                found = self.measure(loaded, skill, shown)
                if kind == "own":
                    tests[name] = found.to_json()
                else:
                    tests[name][kind] = round(found.answers, 4)
                single += [
                    {"skill": name, "picture": kind, "id": key, "patient": patients[key], "right": right}
                    for key, right in found.right.items()
                ]
        if outcomes is not None:
            write_jsonl(outcomes, single)
        return tests

    def measure(self, loaded: LoadedModel, skill: Skill, rows: Sequence[Conversation]) -> Measured:
        """One skill on these conversations."""
        source = self.shelf.curriculum.sources[skill.source]
        if source.kind == "pathway":
            return measure(loaded, rows, self.shelf.scorer, skill.slots)
        from medvlm.curricula.dialogues import known_desk
        from medvlm.curricula.loop import measure_loop

        desk = known_desk(self.shelf.curriculum.cases.expert, self.findings)
        return measure_loop(loaded, rows, desk, source.kind == "expert", skill.slots)
