"""How fast answers and reports are scored, on one core, beside the well-known implementations.

    python benchmarks/scoring.py --out benchmarks/results/scoring.json

10,000 synthetic VQA answers (exact, closed, F1, intervals over patients) and 3,000 synthetic reports of about 60 words
(BLEU 1-4, ROUGE-L, CIDEr, exact-stage METEOR, chrF, findings by the chest_xray pathway), each with its reference. Half
of the sentences are stock phrases, as in real reports; the others differ in side, size, place and wording, so that most
are read only once. Peers score the same texts on the same tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.evaluation.report_findings import FindingScorer
from medvlm.evaluation.text_metrics import bleu_orders, chrf, cider, meteor_exact, rouge_l, tokens
from medvlm.evaluation.vqa import score_answers

STOCK = (
    "The lungs are clear .",
    "No pneumothorax is seen .",
    "The heart size is normal .",
    "Mild cardiomegaly is unchanged .",
    "No focal consolidation .",
    "A nasogastric tube is in place .",
    "No acute displaced rib fracture .",
    "The mediastinal contours are normal .",
    "Possible pulmonary edema .",
    "No pleural effusion .",
)
VARIED = (
    "There is a {size} {side} pleural effusion , {change} compared with the study of day {n} .",
    "There is consolidation in the {side} {zone} lobe measuring {n} mm , {doubt} pneumonia .",
    "The tip of the central venous catheter is {n} mm above the cavoatrial junction on the {side} .",
    "A {size} opacity of {n} mm in the {side} {zone} zone is {change} .",
    "{size} atelectasis at the {side} base , {change} , now {n} mm in height .",
    "Cardiothoracic ratio of about 0.{n} , {change} , with {size} pulmonary vascular congestion .",
)
WORDS = {
    "size": ("small", "moderate", "large", "trace", "mild", "minimal"),
    "side": ("left", "right"),
    "zone": ("upper", "middle", "lower"),
    "change": ("unchanged", "larger", "smaller", "new", "improved", "slightly increased"),
    "doubt": ("concerning for", "suspicious for", "unlikely to be", "compatible with"),
}


def make_questions(count: int) -> tuple[list[Conversation], list[str]]:
    """Half closed, half open, four questions a patient; two of three answers are right, the others all different."""
    rng = np.random.default_rng(0)
    words = ["right upper lobe", "axial", "pleural effusion", "two", "T2-weighted MRI", "the left hemidiaphragm"]
    rows, answers = [], []
    for n in range(count):
        closed = n % 2 == 0
        truth = ("yes", "no")[int(rng.integers(2))] if closed else words[int(rng.integers(len(words)))]
        symbols = {"closed": closed, "answer": truth, "value": truth == "yes" if closed else truth}
        symbols["score"] = {"kind": "yes_no" if closed else "exact"}
        turns = (Turn("user", f"Question {n}?"), Turn("assistant", truth))
        rows.append(Conversation(f"q{n}", f"p{n // 4}", "test", turns, "vqa", symbols=symbols))
        answers.append(truth if rng.random() < 2 / 3 else f"it is not to be seen in picture {n}")
    return rows, answers


def make_reports(count: int) -> tuple[list[str], list[str], int]:
    """Reports, their references, and how many different sentences they are made of."""
    rng = np.random.default_rng(1)

    def sentence() -> str:
        if rng.random() < 0.5:
            return STOCK[int(rng.integers(len(STOCK)))]
        words = {key: values[int(rng.integers(len(values)))] for key, values in WORDS.items()}
        return VARIED[int(rng.integers(len(VARIED)))].format(n=int(rng.integers(10, 100)), **words)

    parts = [[sentence() for _ in range(6)] for _ in range(2 * count)]
    texts = [" ".join(part) for part in parts]
    return texts[:count], texts[count:], len({text for part in parts for text in part})


def timed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--answers", type=int, default=10_000)
    parser.add_argument("--reports", type=int, default=3_000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows, answers = make_questions(given.answers)
    written, references, different = make_reports(given.reports)
    scorer = FindingScorer("chest_xray")
    plain = [" ".join(tokens(text)) for text in written]
    true = [" ".join(tokens(text)) for text in references]
    pairs = ({n: [t] for n, t in enumerate(true)}, {n: [t] for n, t in enumerate(plain)})
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from sacrebleu import CHRF

    steps: dict[str, Callable[[], Any]] = {
        "answers, all scores and intervals": lambda: score_answers(rows, answers),
        "reports, BLEU 1-4": lambda: bleu_orders(written, references),
        "reports, BLEU 1-4, pycocoevalcap": lambda: Bleu(4).compute_score(*pairs, verbose=0),
        "reports, ROUGE-L": lambda: [rouge_l(a, b) for a, b in zip(written, references)],
        "reports, ROUGE-L, pycocoevalcap": lambda: Rouge().compute_score(*pairs),
        "reports, CIDEr": lambda: cider(written, references),
        "reports, CIDEr, pycocoevalcap": lambda: Cider().compute_score(*pairs),
        "reports, METEOR (exact stage)": lambda: [meteor_exact(a, b) for a, b in zip(written, references)],
        "reports, chrF": lambda: chrf(written, references),
        "reports, chrF, sacrebleu": lambda: CHRF().corpus_score(written, [references]),
        "reports, findings": lambda: scorer.total(written, references),
    }
    print(f"{given.answers:,} answers; {given.reports:,} reports and references, {different:,} different sentences")
    seconds = {}
    for name, run in steps.items():
        # Nothing that an earlier step has split is at hand.
        tokens.cache_clear()
        seconds[name] = round(timed(run), 2)
    ours = sum(value for name, value in seconds.items() if name.startswith("reports") and name.count(",") == 1)
    seconds["reports, all of ours"] = round(ours, 2)
    for name, value in seconds.items():
        print(f"{name:<36}{value:>8.2f} s")
    if given.out:
        machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        sizes = {"answers": given.answers, "reports": given.reports, "sentences": different}
        given.out.write_text(json.dumps({**sizes, "machine": machine, "seconds": seconds}, indent=1) + "\n")


if __name__ == "__main__":
    main()
