"""Report metrics against the well-known implementations, on the same tokens."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from medvlm.evaluation.report_findings import FindingScore, FindingScorer
from medvlm.evaluation.text_metrics import bleu, chrf, cider, lcs_length, meteor, meteor_exact, rouge_l, tokens

REFERENCES = [
    "No focal consolidation , pleural effusion or pneumothorax . The heart is normal in size .",
    "There is a 14 mm nodule in the right upper lobe . No pleural effusion .",
    "Small left pleural effusion with adjacent atelectasis . Mild cardiomegaly is stable .",
    "The lungs are clear . No acute cardiopulmonary process .",
]
CANDIDATES = [
    "No consolidation , effusion or pneumothorax is seen . The heart size is normal .",
    "There is a 12 mm nodule in the left upper lobe . No pleural effusion .",
    "Small left effusion and atelectasis . The heart is mildly enlarged , stable .",
    "The lungs are clear . No acute process in the chest .",
]


@pytest.fixture(scope="module")
def corpus() -> tuple[list[str], list[str]]:
    """The eight sentences above and 60 random pairs over a small vocabulary, so that all n-gram orders occur."""
    rng = np.random.default_rng(0)
    words = np.array(
        [
            "no",
            "the",
            "a",
            "lung",
            "nodule",
            "effusion",
            "right",
            "left",
            "lobe",
            "upper",
            "is",
            "clear",
            "heart",
            "14",
            "mm",
            ",",
            ".",
        ]
    )
    texts = [" ".join(rng.choice(words, int(rng.integers(5, 30)))) for _ in range(120)]
    return CANDIDATES + texts[:60], REFERENCES + texts[60:]


def coco(candidates, references):
    return {n: [t] for n, t in enumerate(references)}, {n: [t] for n, t in enumerate(candidates)}


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_bleu_is_that_of_sacrebleu_and_torchmetrics(corpus, order):
    sacrebleu = pytest.importorskip("sacrebleu")
    from torchmetrics.functional.text import bleu_score

    candidates, references = corpus
    ours = bleu(candidates, references, order, str.split)
    theirs = sacrebleu.BLEU(tokenize="none", smooth_method="none", max_ngram_order=order, force=True)
    assert ours == pytest.approx(theirs.corpus_score(candidates, [references]).score / 100, abs=1e-6)
    assert ours == pytest.approx(float(bleu_score(candidates, [[r] for r in references], order)), abs=1e-6)


def test_bleu_and_rouge_and_cider_are_those_of_pycocoevalcap(corpus):
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    candidates, references = corpus
    given = coco(candidates, references)
    for order, theirs in enumerate(Bleu(4).compute_score(*given, verbose=0)[0], start=1):
        assert bleu(candidates, references, order, str.split) == pytest.approx(theirs, abs=1e-6)
    each = [rouge_l(c, r, split=str.split) for c, r in zip(candidates, references)]
    assert each == pytest.approx(Rouge().compute_score(*given)[1].tolist(), abs=1e-6)
    assert cider(candidates, references, split=str.split) == pytest.approx(
        list(Cider().compute_score(*given)[1]), abs=1e-6
    )


def test_rouge_with_beta_one_is_that_of_rouge_score(corpus):
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    split = lambda text: [word for word in text.lower().split() if word.isalnum()]  # noqa: E731
    for candidate, reference in zip(*corpus):
        theirs = scorer.score(reference, candidate)["rougeL"].fmeasure
        assert rouge_l(candidate, reference, 1.0, split) == pytest.approx(theirs, abs=1e-6)


def test_chrf_is_that_of_sacrebleu(corpus):
    sacrebleu = pytest.importorskip("sacrebleu")
    candidates, references = corpus
    theirs = sacrebleu.CHRF().corpus_score(candidates, [references]).score / 100
    assert chrf(candidates, references) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="METEOR needs Java")
def test_meteor_runs_the_original_jar():
    pytest.importorskip("pycocoevalcap")
    total, each = meteor(REFERENCES, REFERENCES)
    assert total == pytest.approx(1.0, abs=0.01)
    assert len(each) == 4
    assert meteor(CANDIDATES, REFERENCES)[0] < total


class NoWords:
    """WordNet and stemmer that know nothing: what is left of METEOR is its exact stage."""

    def synsets(self, word: str) -> list[object]:
        return []

    def stem(self, word: str) -> str:
        return word


def test_meteors_exact_stage_equals_nltks(corpus):
    from nltk.translate.meteor_score import single_meteor_score

    for candidate, reference in zip(*corpus, strict=True):
        theirs = single_meteor_score(tokens(reference), tokens(candidate), stemmer=NoWords(), wordnet=NoWords())
        assert meteor_exact(candidate, reference) == pytest.approx(theirs, abs=1e-6)
    # All 4 words match in one chunk: 1 - 0.5 (1/4)^3.
    assert meteor_exact("the lungs are clear", "the lungs are clear") == pytest.approx(1 - 0.5 / 64)
    # The same words in two chunks: 1 - 0.5 (2/4)^3.
    assert meteor_exact("are clear the lungs", "the lungs are clear") == pytest.approx(1 - 0.5 / 8)
    assert meteor_exact("", "the lungs are clear") == 0.0


@pytest.mark.slow
def test_meteors_exact_stage_is_a_lower_bound_of_nltks_whole():
    nltk = pytest.importorskip("nltk")
    try:
        nltk.data.find("corpora/wordnet.zip")
    except LookupError:
        pytest.skip("nltk's WordNet is not on this machine; nothing is downloaded")
    from nltk.translate.meteor_score import single_meteor_score

    for candidate, reference in zip(CANDIDATES, REFERENCES):
        whole = single_meteor_score(tokens(reference), tokens(candidate))
        # Stems and synonyms only add matches; they can also join or cut chunks, by less than a tenth here.
        assert meteor_exact(candidate, reference) <= whole + 0.1


def test_perfect_reports_score_one_and_foreign_ones_zero():
    assert bleu(REFERENCES, REFERENCES) == 1.0
    assert chrf(REFERENCES, REFERENCES) == 1.0
    assert [rouge_l(text, text) for text in REFERENCES] == [1.0] * 4
    assert cider(REFERENCES, REFERENCES) == pytest.approx([10.0] * 4)
    strange = ["xyzzy qwfp"] * 4
    assert bleu(strange, REFERENCES) == 0.0
    assert [rouge_l(text, ref) for text, ref in zip(strange, REFERENCES)] == [0.0] * 4
    assert cider(strange, REFERENCES) == [0.0] * 4


def test_tokens_keep_numbers_whole():
    assert tokens("A 1.4 cm nodule, RUL.") == ("a", "1.4", "cm", "nodule", ",", "rul", ".")


def test_longest_common_subsequence_equals_the_table():
    rng = np.random.default_rng(1)
    for _ in range(50):
        a, b = (rng.choice(list("abcd"), int(rng.integers(0, 12))).tolist() for _ in range(2))
        table = np.zeros((len(a) + 1, len(b) + 1), int)
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                table[i + 1, j + 1] = table[i, j] + 1 if x == y else max(table[i, j + 1], table[i + 1, j])
        assert lcs_length(a, b) == table[-1, -1]


@pytest.fixture(scope="module")
def scorer() -> FindingScorer:
    return FindingScorer("chest_xray")


@pytest.mark.parametrize(
    ("report", "reference", "expected"),
    [
        ("Pleural effusion. No pneumothorax.", "There is a pleural effusion. No pneumothorax.", (1, 0, 0, 0)),
        # A flipped denial is the one mistake that text overlap hardly sees.
        ("No pleural effusion.", "Pleural effusion.", (0, 0, 0, 1)),
        ("The lungs are clear.", "Pneumothorax.", (0, 1, 0, 0)),
        ("Pneumothorax. Rib fracture.", "Pneumothorax.", (1, 0, 1, 0)),
        ("Right pleural effusion.", "Left pleural effusion.", (0, 0, 0, 1)),
        ("Left pleural effusion.", "Left pleural effusion.", (1, 0, 0, 0)),
        ("No pneumothorax.", "No pneumothorax.", (0, 0, 0, 0)),
    ],
)
def test_findings_are_matched_omitted_added_or_contradicted(scorer, report, reference, expected):
    found = scorer.score(report, reference)
    assert (found.matched, found.omitted, found.added, found.contradicted) == expected


def test_doubt_counts_as_the_policy_says():
    text = "Possible pleural effusion."
    assert FindingScorer("chest_xray").score(text, "Pleural effusion.").matched == 0
    assert FindingScorer("chest_xray", "positive").score(text, "Pleural effusion.").matched == 1
    assert FindingScorer("chest_xray", "negative").score(text, "Pleural effusion.").contradicted == 1


def test_finding_scores_add_up():
    both = FindingScore(1, 1, 0, 0) + FindingScore(1, 0, 1, 0, (2.0,))
    # Of 3 stated 2 are right, of 3 true 2 are stated... here 3 = 2 matched + 1 added, and 2 matched + 1 omitted.
    assert (both.precision, both.recall) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert both.to_json()["mean_error"] == 2.0
    assert (FindingScore().precision, FindingScore().recall) == (1.0, 1.0)
