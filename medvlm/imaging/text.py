"""Header text made safe to show and to put beside a prompt."""

from __future__ import annotations

import re
import unicodedata

# What chat templates use to mark a turn; a header must not be able to open one.
_ROLE = re.compile(r"\b(system|user|assistant|human|gpt|expert|tool|model)\s*:", re.IGNORECASE)
_MARKER = re.compile(r"\[/?(inst|system|img|image)\]|#{2,}|\b(im_start|im_end|endoftext|eot_id)\b", re.IGNORECASE)


def clean_text(text: object, limit: int = 64) -> str:
    """Free text from a file as harmless data: one line, no markup, no role markers, at most `limit` characters.

    Compatibility forms are folded first (a full-width `＜` is a `<` to a tokenizer). Control and invisible
    characters, `<`, `>`, `|`, backticks, chat markers (`[INST]`, `###`) and role markers (`assistant:`) go;
    letters of any script stay.
    """
    folded = unicodedata.normalize("NFKC", str(text or ""))
    visible = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in folded)
    visible = re.sub(r"[<>|`]", " ", visible)
    previous = None
    while previous != visible:  # removing one marker must not join the halves of another
        previous = visible
        visible = _ROLE.sub(r"\1 ", _MARKER.sub(" ", visible))
    line = " ".join(visible.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
