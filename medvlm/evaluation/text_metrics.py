"""Overlap of a written report with a reference: BLEU, ROUGE-L, CIDEr, chrF by their own definitions, METEOR by its jar
or with its exact stage alone.

Texts are split at blanks after `tokens`; give `str.split` to use a tokeniser of your own before. Nothing is downloaded.
Equal to 6 decimals on the same tokens: BLEU to sacrebleu (no smoothing) and torchmetrics, ROUGE-L to pycocoevalcap
(beta 1.2) and rouge-score (beta 1), CIDEr to pycocoevalcap, chrF to sacrebleu, METEOR's exact stage to nltk
(tests/evaluation/test_text_metrics.py).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from medvlm.errors import MissingExtraError

VERSION = "1"
Tokens = Callable[[str], Sequence[str]]
_TOKEN = re.compile(r"\d+(?:\.\d+)?|[^\W_]+|[^\w\s]")


@lru_cache(maxsize=16384)
def tokens(text: str) -> tuple[str, ...]:
    """Lower-case words, whole numbers with their decimals, and punctuation marks, each a token."""
    return tuple(_TOKEN.findall(text.lower()))


def bleu(candidates: Sequence[str], references: Sequence[str], order: int = 4, split: Tokens = tokens) -> float:
    """Corpus BLEU with one reference, brevity penalty and no smoothing (Papineni et al., ACL 2002); 0 to 1."""
    return bleu_orders(candidates, references, order, split)[-1]


def bleu_orders(
    candidates: Sequence[str], references: Sequence[str], most: int = 4, split: Tokens = tokens
) -> list[float]:
    """BLEU-1 to BLEU-`most` of one count."""
    matched, guessed = [0] * most, [0] * most
    length = wanted = 0
    for candidate, reference in zip(candidates, references, strict=True):
        given, true = split(candidate), split(reference)
        length, wanted = length + len(given), wanted + len(true)
        for n in range(1, most + 1):
            counts = _ngrams(given, n)
            matched[n - 1] += _shared(counts, _ngrams(true, n))
            guessed[n - 1] += max(len(given) - n + 1, 0)
    penalty = min(0.0, 1 - wanted / length) if length else 0.0
    scores = []
    for order in range(1, most + 1):
        hits = matched[:order]
        logs = sum(math.log(hit / all_) for hit, all_ in zip(hits, guessed)) / order if min(hits) else -math.inf
        scores.append(math.exp(logs + penalty))
    return scores


def rouge_l(candidate: str, reference: str, beta: float = 1.2, split: Tokens = tokens) -> float:
    """F measure of the longest common subsequence (Lin, 2004); `beta` above 1 weighs recall; 0 to 1."""
    given, wanted = split(candidate), split(reference)
    common = lcs_length(given, wanted)
    if not common:
        return float(not given and not wanted)
    precision, recall = common / len(given), common / len(wanted)
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def lcs_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the table at a time as bits of one number (Hyyrö, 2004)."""
    places: dict[str, int] = {}
    for position, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << position
    full = (1 << len(first)) - 1
    row = full
    for word in second:
        hits = row & places.get(word, 0)
        row = ((row + hits) | (row - hits)) & full
    return len(first) - row.bit_count()


def cider(
    candidates: Sequence[str], references: Sequence[str], order: int = 4, sigma: float = 6.0, split: Tokens = tokens
) -> list[float]:
    """CIDEr-D of each candidate with one reference (Vedantam et al., CVPR 2015); 0 to 10.

    Frequencies of n-grams come from the references given, so a value depends on the whole set.
    """
    given = [[_ngrams(words, n) for n in range(1, order + 1)] for words in map(split, candidates)]
    true = [[_ngrams(words, n) for n in range(1, order + 1)] for words in map(split, references)]
    seen = Counter(ngram for grams in true for counts in grams for ngram in counts)
    total = math.log(len(true)) if true else 0.0

    rarity = {ngram: total - math.log(count) for ngram, count in seen.items()}

    def weigh(counts: Counter[tuple[str, ...]]) -> dict[tuple[str, ...], float]:
        return {ngram: count * rarity.get(ngram, total) for ngram, count in counts.items()}

    scores = []
    for hypothesis, reference in zip(given, true, strict=True):
        # The length difference is counted in bigrams, as in the reference implementation.
        gap = hypothesis[1].total() - reference[1].total()
        penalty = math.exp(-(gap**2) / (2 * sigma**2))
        score = 0.0
        for mine, theirs in zip(map(weigh, hypothesis), map(weigh, reference)):
            norms = math.hypot(*mine.values()) * math.hypot(*theirs.values())
            dot = sum(min(value, theirs[ngram]) * theirs[ngram] for ngram, value in mine.items() if ngram in theirs)
            score += dot / norms * penalty if norms else 0.0
        scores.append(10 * score / order)
    return scores


def chrf(candidates: Sequence[str], references: Sequence[str], order: int = 6, beta: float = 2.0) -> float:
    """Corpus chrF: F measure of character n-grams without blanks (Popović, WMT 2015); 0 to 1."""
    hits, given, wanted = [0] * order, [0] * order, [0] * order
    for candidate, reference in zip(candidates, references, strict=True):
        first, second = "".join(candidate.split()), "".join(reference.split())
        for n in range(1, order + 1):
            hits[n - 1] += _shared(_pieces(first, n), _pieces(second, n))
            # Orders that one of the texts is too short for do not count.
            given[n - 1] += max(len(first) - n + 1, 0)
            wanted[n - 1] += max(len(second) - n + 1, 0)
    precisions = [hit / all_ for hit, all_, other in zip(hits, given, wanted) if all_ and other]
    recalls = [hit / all_ for hit, all_, other in zip(hits, wanted, given) if all_ and other]
    if not precisions:
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    if precision + recall == 0:
        return 0.0
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


def meteor_exact(
    candidate: str,
    reference: str,
    alpha: float = 0.9,
    beta: float = 3.0,
    gamma: float = 0.5,
    split: Tokens = tokens,
) -> float:
    """METEOR with its exact stage only: no stems, no synonyms, no paraphrases, so nothing to download; 0 to 1.

    Banerjee and Lavie (2005) with the weights of Lavie and Agarwal (2007), as nltk computes it where neither stemmer
    nor WordNet finds more: words are matched from the end of the candidate, each with the last free equal word.
    """
    given, wanted = split(candidate), split(reference)
    free: dict[str, list[int]] = {}
    for position, word in enumerate(wanted):
        free.setdefault(word, []).append(position)
    pairs = [(place, free[word].pop()) for place, word in reversed(list(enumerate(given))) if free.get(word)][::-1]
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(given), len(pairs) / len(wanted)
    mean = precision * recall / (alpha * precision + (1 - alpha) * recall)
    # A chunk is a run of words that are neighbours in both texts.
    chunks = 1 + sum(b != (a[0] + 1, a[1] + 1) for a, b in pairwise(pairs))
    return mean * (1 - gamma * (chunks / len(pairs)) ** beta)


def meteor(candidates: Sequence[str], references: Sequence[str]) -> tuple[float, list[float]]:
    """METEOR 1.5 of the corpus and of each candidate, by the original jar in the package pycocoevalcap; 0 to 1.

    Raises:
        MissingExtraError: the package or Java is not there.
    """
    import importlib.util
    import shutil

    if importlib.util.find_spec("pycocoevalcap") is None or shutil.which("java") is None:
        raise MissingExtraError("pycocoevalcap (and Java)", "metrics", "METEOR")
    from pycocoevalcap.meteor.meteor import Meteor

    # The jar reads one line a text and takes `|||` as its own mark.
    clean = [" ".join(tokens(text)).replace("|", " ") or "." for text in candidates]
    true = [" ".join(tokens(text)).replace("|", " ") or "." for text in references]
    total, each = Meteor().compute_score({n: [t] for n, t in enumerate(true)}, {n: [t] for n, t in enumerate(clean)})
    return float(total), [float(score) for score in each]


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[start:] for start in range(n))))


def _pieces(text: str, n: int) -> Counter[str]:
    return Counter([text[start : start + n] for start in range(len(text) - n + 1)])


def _shared(first: Mapping[Any, int], second: Mapping[Any, int]) -> int:
    """How many items two counts have in common."""
    return sum(min(count, second[item]) for item, count in first.items() if item in second)
