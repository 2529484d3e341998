"""The card of a run: data, settings, versions, and every skill after every stage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medvlm.curricula.spec import Curriculum


def settings_hash(curriculum: Curriculum) -> str:
    """Changes with anything that changes the run."""
    settings = asdict(replace(curriculum, path=Path()))
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def make_card(curriculum: Curriculum, data: dict[str, Any], finished: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What `card.json` holds; `forgetting` is the share of right answers by skill and stage.

    Args:
        curriculum: what was run.
        data: what was prepared.
        finished: `stage.json` of the stages that are done, in order.
    """
    return {
        "curriculum": curriculum.id,
        "title": curriculum.title,
        "settings": settings_hash(curriculum),
        "seed": curriculum.seed,
        "data": data,
        "versions": {name: version(name) for name in ("torch", "transformers", "lightning")},
        "stages": list(finished),
        "forgetting": {
            name: {stage["id"]: stage["tests"][name]["answers"] for stage in finished if stage["tests"]}
            for name in curriculum.skills
        },
    }


def forgetting_table(card: dict[str, Any]) -> list[str]:
    """The forgetting table as lines of text: skills down, stages across, per cent."""
    stages = [stage["id"] for stage in card["stages"] if stage["tests"]]
    width = max(map(len, card["forgetting"]), default=5) + 2
    lines = [f"{'right answers':<{max(width, 15)}}" + "".join(f"{name:>12}" for name in stages)]
    for skill, row in card["forgetting"].items():
        lines.append(f"{skill:<{max(width, 15)}}" + "".join(f"{row[name]:>11.0%} " for name in stages))
    return lines
