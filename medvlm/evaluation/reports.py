"""Written reports against references: overlap of words, and findings matched, omitted, added and contradicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medvlm.evaluation.report_findings import VERSION as FINDINGS_VERSION
from medvlm.evaluation.report_findings import FindingScore, FindingScorer, Uncertain
from medvlm.evaluation.text_metrics import VERSION as WORDS_VERSION
from medvlm.evaluation.text_metrics import bleu_orders, chrf, cider, meteor, rouge_l


@dataclass(frozen=True)
class ReportScores:
    """Scores of a set of reports; `outcomes` has one row a report."""

    words: Mapping[str, float]
    findings: FindingScore
    signatures: tuple[str, ...]
    outcomes: tuple[Mapping[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "kind": "reports",
            "reports": len(self.outcomes),
            "words": dict(self.words),
            "findings": self.findings.to_json(),
            "signatures": {text.partition("|")[0]: text for text in self.signatures},
        }


def score_reports(
    rows: Sequence[tuple[str, str, str]], pathway: str, uncertain: Uncertain = "ignore", with_meteor: bool = False
) -> ReportScores:
    """Score reports.

    Args:
        rows: id, report and reference of each.
        pathway: name or file of the pathway whose phrases read the findings.
        uncertain: what a doubted finding counts as.
        with_meteor: METEOR as well, by its Java program.
    """
    written, references = [row[1] for row in rows], [row[2] for row in rows]
    rouge = [rouge_l(report, reference) for report, reference in zip(written, references)]
    consensus = cider(written, references)
    words = {f"bleu_{order}": value for order, value in enumerate(bleu_orders(written, references), start=1)}
    words |= {"rouge_l": sum(rouge) / len(rows), "cider": sum(consensus) / len(rows), "chrf": chrf(written, references)}
    if with_meteor:
        words["meteor"] = meteor(written, references)[0]
    total, each = FindingScorer(pathway, uncertain).total(written, references)
    outcomes = tuple(
        {"id": row[0], "rouge_l": round(r, 6), "cider": round(c, 6), **score.to_json()}
        for row, r, c, score in zip(rows, rouge, consensus, each)
    )
    count = len(rows)
    signatures = (
        *(f"{name}|v:{WORDS_VERSION}|tokens:lower+marks|refs:1|n:{count}" for name in words),
        f"findings|v:{FINDINGS_VERSION}|pathway:{pathway}|uncertain:{uncertain}|average:micro|n:{count}",
    )
    return ReportScores({name: round(value, 6) for name, value in words.items()}, total, signatures, outcomes)
