"""Scores of single answers: normalised, exact, closed and open, token F1; each by a named and versioned definition.

`normalise` follows VQA challenge scoring as the medical sets use it (lower case, punctuation to blanks, articles
dropped, number words as digits; decimals, signs and ranges stay) and evens out what is no difference in an answer:
hyphens and strokes between words, "left side" and "left", "axial plane" and "axial", and a few words of one meaning.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from medvlm.dialogue.score import Score

VERSION = "2"
NORM = "vqa2"
_ARTICLES = {"a", "an", "the"}
_NUMBERS = dict(
    zip(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"], map(str, range(11)))
)
_SAME = {
    "bilateral": "both",
    "bilaterally": "both",
    "exterior": "outside",
    "interior": "inside",
    "mr": "mri",
    "xray": "x ray",
    "noncontrast": "non contrast",
    "unenhanced": "non contrast",
    "tumour": "tumor",
    "oedema": "edema",
    "haemorrhage": "hemorrhage",
    "haematoma": "hematoma",
}
# Words that add nothing where another one says which.
_FILLERS = {"side", "sided", "sides", "plane"}
_JOINED = re.compile(r"(?<=\w)[-/](?=[^\W\d])|(?<=[^\W\d])/(?=\w)")
_MARKS = re.compile(r"(?<!\d)[.,](?!\d)|(?<=\d)[.,](?!\d)|(?<!\d)[.,](?=\d)|[^\w\s.,%+<>/-]|_|(?<!\w)-(?!\d)|-(?!\w)")
YES_NO = Score("yes_no")
_DENIAL = re.compile(r"\b(no|not|none|without|absent|negative|nothing|never)\b")
# Answers that echo the question say so in these words too.
_EMPTY = {"is", "are", "it", "there", "this", "that", "of", "in", "on", "and", "with", "was", "were", "be", "seen"}
# Letters that two forms of one word begin with alike (hyperinflated, hyperinflation), and their share of the longer.
_STEM, _STEM_SHARE = 5, 0.6


@lru_cache(maxsize=65536)
def normalise(text: str) -> str:
    """The form in which answers are compared."""
    words = _MARKS.sub(" ", _JOINED.sub(" ", text.lower())).replace(",", "").split()
    kept = [_SAME.get(word, _NUMBERS.get(word, word)) for word in words if word not in _ARTICLES]
    return " ".join([word for word in kept if word not in _FILLERS] or kept)


def exact(answer: str, truth: str) -> bool:
    """Equal after normalising."""
    return normalise(answer) == normalise(truth)


def token_f1(answer: str, truth: str) -> float:
    """Harmonic mean of precision and recall of the normalised words, counted with their number (SQuAD's F1)."""
    given, wanted = normalise(answer).split(), normalise(truth).split()
    if not given or not wanted:
        return float(given == wanted)
    shared = sum((Counter(given) & Counter(wanted)).values())
    return 2 * shared / (len(given) + len(wanted)) if shared else 0.0


def token_recall(answer: str, truth: str) -> float:
    """Share of the true words that the answer has (the open-ended score of LLaVA-Med)."""
    given, wanted = Counter(normalise(answer).split()), Counter(normalise(truth).split())
    return sum((given & wanted).values()) / wanted.total() if wanted else float(not given)


def closed(answer: str, truth: str, question: str = "") -> bool:
    """A closed question: yes or no by the first word, else the true choice named and not denied.

    Yes and no are read from the first word, else from a denial or an affirmation in the sentence, else from an answer
    that repeats words of the question and adds none ("Gallstones." to "Are gallstones seen?" is a yes). Another choice
    counts when its words stand in the answer as a whole.
    """
    wanted = normalise(truth)
    if wanted in ("yes", "no"):
        stated = YES_NO.read(answer)
        return (_echo(answer, question) if stated is None else stated) is (wanted == "yes")
    given = normalise(answer)
    if given == wanted:
        return True
    denied = bool(_DENIAL.search(given)) != bool(_DENIAL.search(wanted))
    return bool(wanted) and not denied and re.search(rf"(?<!\S){re.escape(wanted)}(?!\S)", given) is not None


def _echo(answer: str, question: str) -> bool | None:
    """Yes where an answer repeats words of the question only, no where `non` stands before them, else None."""
    asked = normalise(question).split()
    said = [word for word in normalise(answer).split() if word not in _EMPTY]
    denied = said[:1] == ["non"]
    said = said[denied:]
    if not said or not all(any(_same_stem(word, other) for other in asked) for word in said):
        return None
    return not denied


def _same_stem(first: str, second: str) -> bool:
    if first == second:
        return True
    shared = next((n for n, (a, b) in enumerate(zip(first, second)) if a != b), min(len(first), len(second)))
    return shared >= max(_STEM, _STEM_SHARE * max(len(first), len(second)))


@dataclass(frozen=True)
class Marked:
    """One scored answer.

    Attributes:
        correct: right by the rule of its question; for an open question by exact match.
        f1, recall: of the words.
        is_closed: a question with a fixed set of answers; None where the data set does not say.
    """

    correct: bool
    exact: bool
    f1: float
    recall: float
    is_closed: bool | None


def mark(answer: str, symbols: dict[str, Any], reference: str, question: str = "") -> Marked:
    """Score one answer by what its test conversation says.

    Args:
        answer: the model's words.
        symbols: `symbols` of the conversation: `answer`, `value`, `score`, `closed`.
        reference: the taught answer, for sets without `answer`.
        question: the user's words, for answers that repeat them.
    """
    truth = str(symbols.get("answer") or reference)
    is_closed = symbols.get("closed")
    rule = Score.from_json(symbols["score"]) if symbols.get("score") else None
    if rule is not None and rule.kind not in ("exact", "yes_no"):
        right = rule.correct(answer, symbols.get("value"))
    elif is_closed:
        right = closed(answer, truth, question)
    elif rule is not None and rule.kind == "yes_no":
        right = rule.correct(answer, symbols.get("value"))
    else:
        right = exact(answer, truth)
    return Marked(right, exact(answer, truth), token_f1(answer, truth), token_recall(answer, truth), is_closed)
