"""The signature of a number: enough of its definition to see whether two numbers can be compared.

closed_accuracy|v:2|norm:vqa2|data:3f0c9b12|n:451|split:test|loop:forced|medvlm:0.1.0
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import medvlm
from medvlm.dialogue.conversation import Conversation
from medvlm.errors import MedVLMError


@dataclass(frozen=True)
class Signature:
    """Metric, version of its definition, and settings in a fixed order."""

    metric: str
    version: str
    settings: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        parts = [self.metric, f"v:{self.version}", *(f"{key}:{value}" for key, value in self.settings)]
        return "|".join(parts)

    def named(self, metric: str, **more: str) -> Signature:
        """The same settings under another metric."""
        return replace(self, metric=metric, settings=(*self.settings, *more.items()))

    @classmethod
    def parse(cls, text: str) -> Signature:
        """The inverse of `str`.

        Raises:
            MedVLMError: not a signature.
        """
        metric, *parts = text.split("|")
        pairs = [tuple(part.partition(":")[::2]) for part in parts]
        if not pairs or pairs[0][0] != "v":
            raise MedVLMError(f"'{text}' is not a metric signature.")
        return cls(metric, pairs[0][1], tuple((key, value) for key, value in pairs[1:]))

    def differences(self, other: Signature) -> list[str]:
        """What keeps two numbers from being comparable; the package version alone does not."""
        mine, theirs = dict(self.settings), dict(other.settings)
        found = [] if self.metric == other.metric else [f"metric {self.metric} / {other.metric}"]
        if self.version != other.version:
            found.append(f"definition {self.version} / {other.version}")
        keys = dict.fromkeys([*mine, *theirs])
        return found + [
            f"{key} {mine.get(key, '-')} / {theirs.get(key, '-')}"
            for key in keys
            if key != "medvlm" and mine.get(key) != theirs.get(key)
        ]


def data_hash(conversations: Iterable[Conversation]) -> str:
    """Eight hex digits of ids, questions, pictures and answers, whatever the order."""
    rows = sorted(f"{row.id}\x1f{row.symbols.get('answer', '')}\x1f{row.turns}" for row in conversations)
    return hashlib.sha256("\x1e".join(rows).encode()).hexdigest()[:8]


def sign(metric: str, version: str, conversations: Iterable[Conversation], **settings: str) -> Signature:
    """The signature of a metric on a test set."""
    rows = list(conversations)
    splits = "+".join(sorted({row.split for row in rows}))
    fixed = {"data": data_hash(rows), "n": str(len(rows)), "split": splits}
    return Signature(metric, version, tuple({**settings, **fixed, "medvlm": medvlm.__version__}.items()))
