"""End a stage when a skill is good enough, or no longer gets better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from medvlm.curricula.prepare import FINDINGS
from medvlm.curricula.shelf import Shelf
from medvlm.curricula.skills import SkillTests
from medvlm.curricula.spec import load_curriculum
from medvlm.pathways.loader import load_pathway
from medvlm.pathways.reward import Scorer


class StopAtSkill(Callback):
    """After every epoch, ask the validation patients; what is counted is kept in checkpoints."""

    def __init__(
        self, run: str, curriculum: str, skill: str, reached: float = 1.0, patience: int = 0, at_most: int = 200
    ) -> None:
        """
        Args:
            run: folder of the run.
            curriculum: its file.
            skill: what is tested.
            reached: share of right answers (0..1) that is enough.
            patience: epochs without a new best after which training ends; 0 waits for ever.
            at_most: conversations asked each time.
        """
        self.reached, self.patience, self.at_most = reached, patience, at_most
        spec = load_curriculum(Path(curriculum))
        shelf = Shelf(spec, Scorer(load_pathway(spec.pathway)), Path(run) / "conversations")
        self.tests, self.skill = SkillTests(shelf, Path(run) / FINDINGS), spec.skills[skill]
        self.name = skill
        self.best, self.waited = -1.0, 0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        rows = self.tests.shelf.tests(self.skill, "validation")
        rows = rows[:: max(1, len(rows) // self.at_most)][: self.at_most]
        modes = [(module, module.training) for module in pl_module.modules()]
        right = self.tests.measure(pl_module.loaded, self.skill, rows).answers
        for module, training in modes:
            module.training = training
        pl_module.log(f"val/{self.name}", right, batch_size=1, sync_dist=True)
        print(f"epoch {trainer.current_epoch + 1}: {self.name} {right:.0%} on {len(rows)} validation conversations")
        self.waited = 0 if right > self.best else self.waited + 1
        self.best = max(self.best, right)
        if right >= self.reached or (self.patience and self.waited >= self.patience):
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.waited = float(state_dict["best"]), int(state_dict["waited"])
