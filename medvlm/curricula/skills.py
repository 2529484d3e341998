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

CONTROLS = ("blank", "shuffled")


class SkillTests:
    """The tests of one run."""

    def __init__(self, shelf: Shelf, findings: Path) -> None:
        """
        Args:
            shelf: conversations of the run.
            findings: folder of the expert's findings, where the curriculum has an expert.
        """
        self.shelf, self.findings = shelf, findings

    def __call__(self, loaded: LoadedModel) -> dict[str, Any]:
        """Skill → scores as JSON, with the shares of right answers beside other pictures."""
        tests: dict[str, Any] = {}
        for name, skill in self.shelf.curriculum.skills.items():
            rows = self.shelf.tests(skill)
            tests[name] = self.measure(loaded, skill, rows).to_json()
            for kind in CONTROLS:
                control = self.measure(loaded, skill, self.shelf.beside(rows, kind))
                tests[name][kind] = round(control.answers, 4)
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
