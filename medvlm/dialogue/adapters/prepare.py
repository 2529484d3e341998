"""The one way from a public data set to a folder of conversations: count, split by patient, check, write, card.

Counts are compared with the published ones before anything is written. A patient that is in several published splits
stays in the most protected one (test before validation before training); `official` keeps the published split as it
is and says how it leaks.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medvlm.dialogue.adapters.source import Item, SourceSet
from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.errors import MedVLMError
from medvlm.imaging.cohort import SPLITS, Split
from medvlm.storage import JsonLines, atomic_path, write_json

Pictures = Literal["copy", "keep"]
VALIDATION_SHARE = 0.1
TEST_SHARE = 0.2
# A patient in several splits belongs to the first of these.
PROTECTED: tuple[Split, ...] = ("test", "validation", "train")


@dataclass
class Survey:
    """What a first pass over the items finds."""

    questions: Counter[str] = field(default_factory=Counter)
    pictures: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    patients: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def numbers(self) -> dict[str, int]:
        """`"train questions"`, `"train pictures"`, `"train patients"`, ... and the totals without a split."""
        found = {"questions": self.questions.total()}
        found["pictures"] = len(set().union(*self.pictures.values()))
        found["patients"] = len(set().union(*self.patients.values()))
        for split in SPLITS:
            found[f"{split} questions"] = self.questions[split]
            found[f"{split} pictures"] = len(self.pictures[split])
            found[f"{split} patients"] = len(self.patients[split])
        return found


def survey(source: SourceSet, root: Path) -> Survey:
    """Count questions, pictures and patients of each published split.

    Raises:
        MedVLMError: the folder holds no rows.
    """
    found = Survey()
    for item in source.read(root):
        found.questions[item.split] += 1
        found.pictures[item.split].update(item.pictures)
        found.patients[item.split].add(item.patient)
    if not found.questions:
        raise MedVLMError(f"{root}: no rows of {source.title} here; expected {source.layout}.")
    return found


def prepare(
    source: SourceSet,
    root: Path,
    out: Path,
    split: str = "patient",
    seed: int = 0,
    subset: bool = False,
    pictures: Pictures = "copy",
) -> str:
    """Write conversations of a public data set with a data card.

    Args:
        source: the data set.
        root: folder with its files.
        out: folder for train.jsonl, validation.jsonl, test.jsonl, data.json and images/.
        split: `patient` (no patient on two sides) or `official` (as published, leaks counted in the card).
        seed: of the patients drawn for splits that were not published.
        subset: accept counts that differ from the published ones.
        pictures: `copy` them below `out` (hard links where the file system has them), or `keep` them where they are.

    Returns:
        Lines for the user: what was written, what was dropped, what leaks.

    Raises:
        MedVLMError: a file is missing or broken, the counts differ, or the data set has no such split.
    """
    if split not in ("patient", "official") or (split == "official" and not source.has_split):
        raise MedVLMError(f"{source.title} has no published split '{split}'; leave --split out.")
    found = survey(source, root)
    checked = check_counts(source, root, found, subset)
    leaks = _leaks(found)
    places = {} if split == "official" else _places(source, found, seed)
    dropped: Counter[str] = Counter()
    with ConversationWriter(out) as writer:
        for item in source.read(root):
            place = places.get(item.patient, item.split)
            # Shared out: everything moves. Published: what would leak into a more protected split is dropped.
            if split == "patient" and source.has_split and place != item.split and not _drawn(place, item, found):
                dropped[item.split] += 1
                continue
            paths = tuple(_picture(name, file, out, pictures) for name, file in item.pictures.items())
            turns = (Turn("user", item.question, paths), Turn("assistant", item.answer))
            symbols = {"kind": place, **item.symbols}
            writer.add(Conversation(item.id, item.patient, place, turns, item.task, symbols=symbols))
        about = {
            "name": source.name,
            "source": source.source,
            "licence": source.licence,
            "patient": source.patient,
            "split": split,
            "seed": seed,
            "published": checked,
        }
        warning = ""
        if split == "official" and leaks["patients"]:
            warning = (
                f"{leaks['patients']} of {leaks['of']} test patients also have training questions "
                f"({leaks['questions'](source, root):,}): results on this split do not show what happens with new "
                "patients."
            )
            about = {"warning": f"LEAK: {warning}", **about}
        if dropped:
            reason = (
                f"their {leaks['patients']} patients are also in the published test split of {leaks['of']} patients"
            )
            if not leaks["patients"]:
                reason = "their patients are also in a published split that is more protected"
            about["dropped"] = {**{f"{name}_questions": n for name, n in dropped.items()}, "reason": reason}
        card = writer.card(about, allow_leak=split == "official")
    counts = " · ".join(f"{card['conversations'][name]:,} {name}" for name in SPLITS)
    line = f"{source.title:<17}{counts}"
    if dropped:
        line += f" · dropped {dropped.total():,} {'/'.join(dropped)} questions of {leaks['patients']} test patients"
    return f"{line} · {out}" + (f"\nWARNING          {warning}" if warning else "")


def check_counts(source: SourceSet, root: Path, found: Survey, subset: bool) -> dict[str, Any]:
    """Compare with the published numbers.

    Raises:
        MedVLMError: they differ and no subset is expected (names the first difference).
    """
    numbers = {**found.numbers(), **(source.table(root) if source.table else {})}
    differing = {key: wanted for key, wanted in source.counts.items() if numbers[key] != wanted}
    if differing and not subset:
        key, wanted = next(iter(differing.items()))
        raise MedVLMError(
            f"{root}: {numbers[key]:,} {key} where {source.title} has {wanted:,} as published; complete the download, "
            "or give --subset if a part is meant."
        )
    return {key: {"published": wanted, "found": numbers[key]} for key, wanted in source.counts.items()}


class ConversationWriter:
    """Writes the three split files side by side as conversations come, and the card at the end; whole or not at all."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._stack = ExitStack()
        self._counts: Counter[str] = Counter()
        self._tasks: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        self._patients: dict[str, set[str]] = {split: set() for split in SPLITS}
        self._answers: dict[tuple[str, bool], Counter[str]] = defaultdict(Counter)

    def __enter__(self) -> ConversationWriter:
        self._files: dict[str, JsonLines] = {
            split: self._stack.enter_context(JsonLines(self.out / f"{split}.jsonl")) for split in SPLITS
        }
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def add(self, conversation: Conversation) -> None:
        self._files[conversation.split].write(conversation.to_json())
        self._counts[conversation.split] += 1
        self._patients[conversation.split].add(conversation.patient)
        self._tasks[conversation.split].update(task for task in conversation.task.split("+") if task)
        if "closed" in conversation.symbols:
            answers = self._answers[conversation.split, bool(conversation.symbols["closed"])]
            answers[str(conversation.symbols["answer"]).lower()] += 1

    def card(self, about: Mapping[str, Any], allow_leak: bool = False) -> dict[str, Any]:
        """Write `data.json`.

        Raises:
            MedVLMError: a patient is in two splits.
        """
        train, validation, test = (self._patients[split] for split in SPLITS)
        shared = (train & validation) | (train & test) | (validation & test)
        if shared and not allow_leak:
            raise MedVLMError(f"{self.out}: {len(shared)} patients are in more than one split, such as {min(shared)}.")
        card = {
            **about,
            "schema": 1,
            "conversations": {split: self._counts[split] for split in SPLITS},
            "patients": {split: len(self._patients[split]) for split in SPLITS},
            "shared_patients": len(shared),
            "tasks": {split: dict(sorted(self._tasks[split].items())) for split in SPLITS},
        }
        if self._answers:
            card["questions"] = {
                split: {"closed": self._answers[split, True].total(), "open": self._answers[split, False].total()}
                for split in SPLITS
            }
            card["majority"] = {
                kind: _majority(self._answers["train", closed], self._answers["test", closed])
                for kind, closed in (("closed", True), ("open", False))
            }
        write_json(self.out / "data.json", card)
        return card


def _leaks(found: Survey) -> dict[str, Any]:
    tested = found.patients["test"]
    shared = tested & (found.patients["train"] | found.patients["validation"])

    def questions(source: SourceSet, root: Path) -> int:
        return sum(item.split != "test" and item.patient in shared for item in source.read(root))

    return {"patients": len(shared), "of": len(tested), "questions": questions}


def _places(source: SourceSet, found: Survey, seed: int) -> dict[str, Split]:
    """Patient → split."""
    places: dict[str, Split] = {}
    for split in PROTECTED:
        for patient in found.patients[split]:
            places.setdefault(patient, split)
    drawn: list[tuple[Split, float]] = []
    if not source.has_split:
        drawn.append(("test", TEST_SHARE))
    if not found.patients["validation"]:
        drawn.append(("validation", VALIDATION_SHARE))
    free = sorted(patient for patient, split in places.items() if split == "train")
    if free:
        order = np.random.default_rng(seed).permutation(free).tolist()
        size = len(order)
        for split, share in drawn:
            count = round(share * size)
            places |= dict.fromkeys(order[:count], split)
            order = order[count:]
    return places


def _drawn(place: Split, item: Item, found: Survey) -> bool:
    """Whether a training patient was drawn for validation, where none was published."""
    return place == "validation" and item.split == "train" and not found.patients["validation"]


def _picture(name: str, file: Path | bytes, out: Path, pictures: Pictures) -> str:
    """The path of a picture in the conversation file; copies it when it is not there yet."""
    if isinstance(file, Path) and pictures == "keep":
        return str(file.resolve())
    target = out / "images" / name
    if not target.is_file():
        try:
            with atomic_path(target) as temporary:
                if isinstance(file, bytes):
                    temporary.write_bytes(file)
                else:
                    link_or_copy(file, temporary)
        except OSError as error:
            raise MedVLMError(
                f"{file if isinstance(file, Path) else name}: cannot be copied ({error.strerror})."
            ) from None
    return f"images/{name}"


def link_or_copy(file: Path, target: Path) -> None:
    """Give a file a second place: a hard link where the file system has them, else a copy."""
    try:
        os.link(file.resolve(), target)
    except FileNotFoundError:
        raise
    except OSError:
        # Another file system, or one without hard links.
        shutil.copyfile(file, target)


def _majority(learnt: Counter[str], asked: Counter[str]) -> dict[str, Any]:
    """What always giving the most frequent training answer scores on the test questions."""
    if not learnt or not asked:
        return {"answer": "", "questions": asked.total(), "right": 0, "accuracy": 0.0}
    # Of equally frequent answers the first in the alphabet, so that the baseline is the same every time.
    answer = min(learnt, key=lambda text: (-learnt[text], text))
    right = asked[answer]
    return {"answer": answer, "questions": asked.total(), "right": right, "accuracy": round(right / asked.total(), 4)}
