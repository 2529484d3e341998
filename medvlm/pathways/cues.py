"""The cue phrases and word sets of `cues.yaml`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from medvlm.pathways.located import read_located


@cache
def _all() -> dict[str, tuple[str, ...]]:
    root = read_located(Path(__file__).with_name("cues.yaml")).mapping("cues")
    return {
        name: tuple(phrase.strip() for phrase in item.text(name).split("|") if phrase.strip())
        for name, item in root.items()
    }


def phrases(name: str) -> tuple[str, ...]:
    """The phrases of one kind of cue (`negation`)."""
    return _all()[name]


def word_set(name: str) -> frozenset[str]:
    """A set of single words (`predicates`)."""
    return frozenset(_all()[name])
