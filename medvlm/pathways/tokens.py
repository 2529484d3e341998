"""Text → tokens with positions, in one linear pass.

Folding keeps the length of the text, so that a token's position is its position in the original. Words are brought to
one spelling (American, singular), so that `haemorrhages` and `hemorrhage` are the same token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from medvlm.pathways.cues import word_set

MAX_CHARACTERS = 6_000
_WORD_MEMORY = 50_000

_FOLD = str.maketrans(
    {
        "’": "'",
        "‘": "'",
        "ʼ": "'",
        "“": '"',
        "”": '"',
        "–": "-",
        "—": ";",
        "‐": "-",
        "‑": "-",
        "−": "-",
        "×": "x",
        "\u00a0": " ",
        "\u2009": " ",
        "\u202f": " ",
        "\u200b": " ",
        "µ": "u",
        "μ": "u",
        "≈": "~",
        "・": ".",
        "…": ".",
        "é": "e",
        "è": "e",
        "ü": "u",
        "ö": "o",
        "ä": "a",
        "ﬁ": "f",
    }
)
# Written with or without a hyphen: `hypo-echoic` is `hypoechoic`.
_PREFIXES = word_set("prefixes")
# A number, a word (with one apostrophe inside) or one mark that matters.
_TOKEN = re.compile(r"\d+(?:[.,]\d+)?|[^\W\d_]+(?:'[^\W\d_]+)?|[.,;:?!()\[\]<>=≤≥~/%+\n-]")
_ABBREVIATIONS = word_set("abbreviations")
_IRREGULAR: Mapping[str, str] = {
    "foci": "focus",
    "nuclei": "nucleus",
    "metastase": "metastasis",
    "druse": "drusen",
    "grey": "gray",
    "centre": "center",
    "calibre": "caliber",
    "fibre": "fiber",
    "litre": "liter",
    "sulfur": "sulphur",
    "haem": "hem",
    "feature": "feature",
    "cannot": "cannot",
    "yeah": "yes",
    "yep": "yes",
    "yup": "yes",
    "nope": "no",
    "nah": "no",
    "mms": "mm",
    "lesional": "lesion",
    "nodular": "nodular",
    "hypo": "hypo",
}
_known: dict[str, str] = {}


@dataclass(slots=True)
class Tokens:
    """Tokens of a text: normal forms and `[start, end)` positions in the original."""

    words: list[str]
    starts: list[int]
    ends: list[int]


def fold(text: str) -> str:
    """Lower case with typographic marks made plain; the length stays the same."""
    if text.isascii():
        return text.lower()
    folded = text.translate(_FOLD)
    lowered = folded.lower()
    if len(lowered) == len(text):
        return lowered
    # A few letters grow when lowered (Turkish dotted I): those stay as they are.
    return "".join(low if len(low := mark.lower()) == 1 else mark for mark in folded)


def normal_word(word: str) -> str:
    """One spelling for a lower-case word."""
    known = _known.get(word)
    if known is None:
        known = _normalise(word)
        if len(_known) < _WORD_MEMORY:
            _known[word] = known
    return known


def _normalise(word: str) -> str:
    word = word.replace("'", "")
    size = len(word)
    if size >= 5 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif size >= 6 and word.endswith(("sses", "xes", "shes", "ches")):
        word = word[:-2]
    elif size >= 3 and word[-1] == "s" and word[-2] not in "sui" and word not in ("was", "has", "yes", "gas"):
        word = word[:-1]
    if len(word) >= 6:
        if "ae" in word[1:]:
            word = word[0] + word[1:].replace("ae", "e")
        if word.startswith("oe"):
            word = word[1:]
        if "our" in word[2:]:
            word = word[:2] + word[2:].replace("our", "or")
        if word.endswith(("ised", "ise", "ising", "isation", "isable")):
            head, _, tail = word.rpartition("is")
            word = f"{head}iz{tail}"
        word = word.replace("oedema", "edema").replace("oesophag", "esophag").replace("rrhoea", "rrhea")
    return _IRREGULAR.get(word, word)


def tokenise(text: str) -> Tokens:
    """Split a text. A hyphen inside a word or between letter and digit joins (`LR-5`, `LR 5` and `LR5` are one).

    A full stop stays only where it ends a sentence; a newline only where it does not just wrap a line.
    """
    folded = fold(text)
    words: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    size = len(folded)
    known = _known
    joining = False
    for match in _TOKEN.finditer(folded):
        word = match[0]
        start, end = match.span()
        if joining:
            joining = False
            words[-1] = normal_word(words[-1] + word)
            ends[-1] = end
            continue
        if word in known:
            words.append(known[word])
            starts.append(start)
            ends.append(end)
            continue
        first = word[0]
        if first.isalpha():
            word = normal_word(word)
        elif first == "-":
            before = folded[start - 1] if start else " "
            after = folded[end] if end < size else " "
            if before.isalnum() and after.isalnum() and (before.isalpha() or after.isalpha()):
                joining = bool(words) and ends[-1] == start and words[-1] in _PREFIXES and after.isalpha()
                continue
        elif first == ".":
            if (end < size and not folded[end].isspace() and folded[end] not in "\"')") or (
                words and words[-1] in _ABBREVIATIONS and end < size
            ):
                continue
        elif first == "\n":
            if not words or words[-1] in ".\n;:?!" or (end < size and folded[end].isalpha() and text[end].islower()):
                continue
            word = "."
        elif first == ":" and folded[end : end + 2].strip()[:1].isdigit():
            # `DWI score: 4` is `DWI score 4`.
            continue
        words.append(word)
        starts.append(start)
        ends.append(end)
    return Tokens(words, starts, ends)


def phrase_tokens(phrase: str) -> tuple[str, ...]:
    """The tokens of a phrase of a lexicon, without marks at its end."""
    words = tokenise(phrase).words
    while words and words[-1] in ".,;:?!":
        words.pop()
    return tuple(words)
