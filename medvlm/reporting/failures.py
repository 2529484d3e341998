"""Why a study failed, in words that may be kept: neither the names of its files nor what its headers say."""

from __future__ import annotations

import re
from pathlib import Path

from medvlm.errors import MedVLMError

UNNAMED = "it cannot be read or reported; run 'medvlm report' on it alone to see why"


def reason_of(error: Exception, path: Path) -> str:
    """The sentence of a MedVLMError without the files it names; of any other error only its kind.

    Folders and files are often named after patients, and what a library says may quote a header.

    Args:
        error: what happened.
        path: the study; where its name is left in the sentence, the sentence is not kept.
    """
    if not isinstance(error, MedVLMError):
        return type(error).__name__
    text = str(error)
    if re.search(r"[/\\]|\.\w+$", text.partition(": ")[0]):
        # Behind the path may stand the file in it that could not be read; the reason comes last.
        text = text.rpartition(": ")[2]
    # Below three characters a name is found in any sentence, and is nobody's.
    named = [part for part in {path.name, path.stem} if len(part) > 2]
    return UNNAMED if any(part.casefold() in text.casefold() for part in named) else text
