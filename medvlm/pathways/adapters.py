"""The reward as a plain callable for other trainers.

`reward_function(pathway)` has the signature that TRL's GRPO trainer calls: lists of prompts and completions, and the
columns of the data set as keyword lists. The data set needs the column `symbols` (or `asked`, `truth` and, optionally,
`questions`) as `medvlm pathway simulate` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medvlm.pathways.dialogues import assistant_texts, message_text, score_row
from medvlm.pathways.loader import load_pathway
from medvlm.pathways.located import PathwayError
from medvlm.pathways.reward import Scorer
from medvlm.pathways.spec import Pathway

RewardFunction = Callable[..., list[float]]


def reward_function(pathway: Pathway | str | Path) -> RewardFunction:
    """A reward function `f(prompts, completions, **columns) -> list of floats` for TRL and trainers like it.

    A completion is the text of one answer, or chat messages that hold all answers of a conversation.
    """
    scorer = Scorer(pathway if isinstance(pathway, Pathway) else load_pathway(pathway))

    def medvlm_pathway_reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        rewards = []
        for number, completion in enumerate(completions):
            row = {"id": f"completion {number}", "symbols": _symbols(columns, number)}
            rewards.append(score_row(scorer, row, _answers(completion)).total)
        return rewards

    medvlm_pathway_reward.__name__ = f"pathway_{scorer.pathway.id}"
    return medvlm_pathway_reward


def _symbols(columns: dict[str, Any], number: int) -> dict[str, Any]:
    if "symbols" in columns:
        symbols = columns["symbols"][number]
        return json.loads(symbols) if isinstance(symbols, str) else symbols
    if "asked" not in columns or "truth" not in columns:
        raise PathwayError("the data set has no column 'symbols'; write it with 'medvlm pathway simulate'.")
    found: dict[str, Any] = {key: columns[key][number] for key in ("asked", "truth", "questions") if key in columns}
    if isinstance(found["truth"], str):
        found["truth"] = json.loads(found["truth"])
    return found


def _answers(completion: Any) -> list[str]:
    if isinstance(completion, str):
        return [completion]
    if completion and "role" not in completion[0]:
        return [message_text(message) for message in completion]
    return assistant_texts(completion)
