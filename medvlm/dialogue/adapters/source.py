"""What an adapter is: where a public data set comes from, what was published about it, and how its rows are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medvlm.dialogue.trigger import sanitize
from medvlm.imaging.cohort import Split

YES_NO = ("yes", "no")


@dataclass(frozen=True)
class Item:
    """One question about one or several pictures.

    Attributes:
        id: unique in the data set.
        patient: patient key, or what stands for the patient where the data set does not tell.
        split: as published.
        pictures: name below `images/` → the file, or its bytes where a table holds the picture.
        question, answer: in words.
        task: what is asked, for scores by task.
        symbols: labels for scoring; see `vqa_symbols`.
    """

    id: str
    patient: str
    split: Split
    pictures: Mapping[str, Path | bytes]
    question: str
    answer: str
    task: str = "vqa"
    symbols: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PublicSet:
    """What is known of a public data set, whatever it holds.

    Attributes:
        name: `medvlm data prepare NAME`.
        title: its own name.
        source: publication and where to get it.
        licence: licence, and what access needs.
        layout: which files the folder holds.
        patient: what stands for a patient.
    """

    name: str
    title: str
    source: str
    licence: str
    layout: str
    patient: str


@dataclass(frozen=True)
class SourceSet(PublicSet):
    """A public set of pictures with questions, labels or reports.

    Attributes:
        read: folder → items in a fixed order; called several times, so it holds nothing.
        counts: published numbers, `"train questions"`, `"test pictures"`, `"patients"`, ... (see `prepare.survey`).
        table: folder → the same numbers counted in the published table, where items are only a part of it.
        has_split: whether a split is published; otherwise everything is read as `train` and shared out by patient.
    """

    read: Callable[[Path], Iterator[Item]]
    counts: Mapping[str, int] = field(default_factory=dict)
    table: Callable[[Path], Mapping[str, int]] | None = None
    has_split: bool = True


def one_line(text: object) -> str:
    """One line, and nothing in it that could be read as a trigger or a role."""
    return sanitize(" ".join(str(text).split()))


def plain_answer(text: object) -> str:
    """An answer as it is taught: one line without the last full stop; yes and no in small letters."""
    answer = one_line(text).rstrip(".")
    return answer.lower() if answer.lower() in YES_NO else answer


def vqa_symbols(study: str, answer: str, closed: bool, **more: Any) -> dict[str, Any]:
    """Labels of a question that needs no expert: a yes-no rule where it is one, else the exact text."""
    yes_no = closed and answer in YES_NO
    return {
        "study": study,
        "needs_expert": False,
        "closed": closed,
        "answer": answer,
        "value": answer == "yes" if yes_no else answer,
        "score": {"kind": "yes_no" if yes_no else "exact"},
        **more,
    }


def choice_question(question: str, options: Mapping[str, str]) -> str:
    """A multiple-choice question with its options, one a line."""
    return "\n".join([question, *(f"{letter}. {text}" for letter, text in options.items())])


def choice_symbols(study: str, letter: str, options: Mapping[str, str], **more: Any) -> dict[str, Any]:
    """Labels of a multiple-choice question; the options keep their order for circular evaluation."""
    return {
        "study": study,
        "needs_expert": False,
        "closed": True,
        "answer": letter,
        "value": letter,
        "score": {"kind": "option", "options": list(options.values())},
        **more,
    }
