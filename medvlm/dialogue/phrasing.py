"""Phrasings with alternatives: `How [large|big] is [the|a] nodule[| here]?` stands for eight questions."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

_GROUP = re.compile(r"\[([^\[\]]*)\]")


def expand(template: str) -> list[str]:
    """Every question that a template stands for, in order, without repeats; spaces are tidied.

    Raises:
        ValueError: unbalanced brackets.
    """
    pieces = _GROUP.split(template)
    if any(mark in piece for piece in pieces[::2] for mark in "[]"):
        raise ValueError(f"unbalanced brackets in {template!r}")
    # split() gives text, group, text, group, ..., text.
    choices = [piece.split("|") if index % 2 else [piece] for index, piece in enumerate(pieces)]
    questions = (_tidy("".join(parts)) for parts in itertools.product(*choices))
    return list(dict.fromkeys(questions))


def expand_all(templates: Iterable[str]) -> tuple[str, ...]:
    """All questions of several templates, without repeats."""
    return tuple(dict.fromkeys(question for template in templates for question in expand(template)))


def _tidy(text: str) -> str:
    return re.sub(r"\s+([.,?!])", r"\1", " ".join(text.split()))
