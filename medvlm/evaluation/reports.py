"""Written reports against references: overlap of words, and findings matched, omitted, added and contradicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medvlm.evaluation.bootstrap import Interval, mean_intervals
from medvlm.evaluation.report_findings import VERSION as FINDINGS_VERSION
from medvlm.evaluation.report_findings import FindingScore, FindingScorer, Uncertain
from medvlm.evaluation.text_metrics import VERSION as WORDS_VERSION
from medvlm.evaluation.text_metrics import bleu_orders, chrf, cider, meteor, meteor_exact, rouge_l


@dataclass(frozen=True)
class ReportPair:
    """A written report and its reference; `patient` is the id where none is given."""

    id: str
    report: str
    reference: str
    patient: str = ""
    image: str = ""


@dataclass(frozen=True)
class ReportOutcome:
    """One report scored."""

    id: str
    patient: str
    report: str
    reference: str
    image: str
    words: Mapping[str, float]
    score: FindingScore

    def to_json(self) -> dict[str, Any]:
        scores = {name: round(value, 6) for name, value in self.words.items()}
        return {"id": self.id, "patient": self.patient, **scores, **self.score.to_json()}


@dataclass(frozen=True)
class ReportScores:
    """Scores of a set of reports.

    Attributes:
        words: overlap with the references, of the whole set.
        findings: counts of the whole set.
        rates: precision, recall and F1 of single reports, on average over reports.
        outcomes: each report.
        pathway: what read the findings.
        signatures: one for every score.
    """

    words: Mapping[str, float]
    findings: FindingScore
    rates: Mapping[str, Interval]
    outcomes: tuple[ReportOutcome, ...]
    pathway: str
    signatures: tuple[str, ...]

    def joined(self, values: Mapping[str, float], each: Mapping[str, Sequence[float]], signature: str) -> ReportScores:
        """With the scores of another metric, of the set and of each report."""
        outcomes = tuple(
            replace(row, words={**row.words, **{name: rows[number] for name, rows in each.items()}})
            for number, row in enumerate(self.outcomes)
        )
        added = {name: round(value, 6) for name, value in values.items()}
        return replace(self, words={**self.words, **added}, outcomes=outcomes, signatures=(*self.signatures, signature))

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "kind": "reports",
            "reports": len(self.outcomes),
            "words": dict(self.words),
            "findings": self.findings.to_json(),
            "rates": {name: row.to_json() for name, row in self.rates.items()},
            "signatures": {text.partition("|")[0]: text for text in self.signatures},
        }


def score_reports(
    rows: Sequence[ReportPair],
    pathway: str,
    uncertain: Uncertain = "ignore",
    with_meteor: bool = False,
    seed: int = 0,
) -> ReportScores:
    """Score reports.

    Args:
        rows: reports with their references.
        pathway: name or file of the pathway whose phrases read the findings.
        uncertain: what a doubted finding counts as.
        with_meteor: METEOR as well, by its Java program.
        seed: of the bootstrap over patients.
    """
    written, references = [row.report for row in rows], [row.reference for row in rows]
    each = {
        "rouge_l": [rouge_l(report, reference) for report, reference in zip(written, references)],
        "cider": cider(written, references),
        "meteor_exact": [meteor_exact(report, reference) for report, reference in zip(written, references)],
    }
    words = {f"bleu_{order}": value for order, value in enumerate(bleu_orders(written, references), start=1)}
    words |= {name: sum(values) / len(rows) for name, values in each.items()} | {"chrf": chrf(written, references)}
    if with_meteor:
        words["meteor"] = meteor(written, references)[0]
    total, found = FindingScorer(pathway, uncertain).total(written, references)
    outcomes = tuple(
        ReportOutcome(
            id=row.id,
            patient=row.patient or row.id,
            report=row.report,
            reference=row.reference,
            image=row.image,
            words={name: values[number] for name, values in each.items()},
            score=score,
        )
        for number, (row, score) in enumerate(zip(rows, found))
    )
    names = ("precision", "recall", "f1")
    columns = [[getattr(score, name) for score in found] for name in names]
    rates = dict(zip(names, mean_intervals(columns, [row.patient for row in outcomes], seed=seed)))
    count = len(rows)
    signatures = (
        *(f"{name}|v:{WORDS_VERSION}|tokens:lower+marks|refs:1|n:{count}" for name in words),
        f"findings|v:{FINDINGS_VERSION}|pathway:{pathway}|uncertain:{uncertain}|average:micro|n:{count}",
    )
    rounded = {name: round(value, 6) for name, value in words.items()}
    return ReportScores(rounded, total, rates, outcomes, pathway, signatures)
