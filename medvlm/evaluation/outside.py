"""Model-based report metrics of other packages, where the package and its weights are at hand.

Nothing is downloaded and no report leaves the machine: while a metric runs, the network is closed to it. What these
packages leave unsaid, and what makes two papers' numbers differ, is said in the signature: labels, model, level, sign.
The packages cannot all be installed together (each fixes other versions of torch and transformers), so none is a
dependency; each adapter names what it needs.
"""

from __future__ import annotations

import importlib
import importlib.util
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest.mock import patch

from medvlm.errors import MedVLMError
from medvlm.evaluation.reports import ReportPair

Each = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class OutsideScores:
    """What one metric says of a set of reports.

    Attributes:
        values: of the whole set.
        each: of every report, in order; only where the metric defines it.
        signature: with the package's version and every setting that changes the number.
    """

    values: Mapping[str, float]
    each: Each
    signature: str


@dataclass(frozen=True)
class Outside:
    """A metric of another package.

    Attributes:
        title: what it is.
        module: what is imported.
        package: its name for pip.
        weights: what must be there, relative to the folder of weights or in the cache of Hugging Face.
        settings: what changes the number, for the signature.
        note: what to know before comparing.
        run: (written, references, folder of weights) → values of the set, values of each report.
        needs: paths below the folder of weights that must exist.
    """

    title: str
    module: str
    package: str
    weights: str
    settings: Mapping[str, str]
    note: str
    run: Callable[[list[str], list[str], Path], tuple[Mapping[str, float], Each]]
    needs: tuple[str, ...] = ()

    def missing_package(self) -> str:
        """Why it cannot be imported, or an empty text."""
        found = importlib.util.find_spec(self.module) is not None
        return "" if found else f"not installed (pip install {self.package})"


def score_outside(name: str, rows: Sequence[ReportPair], weights: Path | None) -> OutsideScores:
    """Score reports by one metric of another package, with the network closed.

    Args:
        name: a key of `METRICS`.
        rows: reports and references.
        weights: folder with one folder a metric (`weights/radgraph`).

    Raises:
        MedVLMError: no such metric, or its package or weights are not at hand.
    """
    if name not in METRICS:
        raise MedVLMError(f"no metric '{name}'; there are: {', '.join(METRICS)}.")
    metric = METRICS[name]
    if metric.missing_package():
        raise MedVLMError(f"the metric {name} is {metric.missing_package()}; its weights: {metric.weights}.")
    folder = (weights or Path()) / name
    absent = [path for path in metric.needs if not (folder / path).exists()]
    if absent:
        raise MedVLMError(f"{folder / absent[0]}: the metric {name} needs {metric.weights}; give --weights FOLDER.")
    written, references = [row.report for row in rows], [row.reference for row in rows]
    try:
        with no_network():
            values, each = metric.run(written, references, folder)
    except (OSError, ImportError) as error:
        first = str(error).strip().splitlines()
        reason = first[0] if first else type(error).__name__
        raise MedVLMError(
            f"the metric {name} could not be loaded offline ({reason}); its weights: {metric.weights}."
        ) from None
    settings = {"package": f"{metric.package}-{_version(metric.package)}", **metric.settings, "n": str(len(rows))}
    signature = "|".join([name, "v:outside", *(f"{key}:{value}" for key, value in settings.items())])
    return OutsideScores(dict(values), dict(each), signature)


@contextmanager
def no_network() -> Iterator[None]:
    """Refuse every connection that is opened meanwhile, to whatever host."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("the network is closed while a metric runs")

    with (
        patch.object(socket.socket, "connect", refuse),
        patch.object(socket.socket, "connect_ex", refuse),
        patch.object(socket, "getaddrinfo", refuse),
        patch.dict("os.environ", {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}),
    ):
        yield


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _chexbert(written: list[str], references: list[str], folder: Path) -> tuple[Mapping[str, float], Each]:
    """F1 of 14 and 5 labels; uncertain counts as positive, blank and negative as absent (the package's "rrg" mode)."""
    module = importlib.import_module("f1chexbert.f1chexbert")
    with patch.object(module, "CACHE_DIR", str(folder)):
        _, _, of_14, of_5 = module.F1CheXbert()(hyps=written, refs=references)
    averages = {"micro": "micro avg", "macro": "macro avg"}
    values = {
        f"chexbert_{kind}_{size}": float(report[name]["f1-score"])
        for size, report in ((14, of_14), (5, of_5))
        for kind, name in averages.items()
    }
    return values, {}


def _radgraph(written: list[str], references: list[str], folder: Path) -> tuple[Mapping[str, float], Each]:
    """All three levels at once; "RadGraph-F1" in papers is usually `partial`."""
    module = importlib.import_module("radgraph")
    scorer = module.F1RadGraph(reward_level="all", model_type="radgraph-xl", model_cache_dir=str(folder))
    _, rewards, _, _ = scorer(refs=references, hyps=written)
    each = {
        f"radgraph_{level}": list(map(float, row)) for level, row in zip(("simple", "partial", "complete"), rewards)
    }
    return {name: _mean(row) for name, row in each.items()}, each


def _ratescore(written: list[str], references: list[str], folder: Path) -> tuple[Mapping[str, float], Each]:
    """With the weights for long reports; a text without entities scores 0.5 there, whatever the other says."""
    module = importlib.import_module("RaTEScore")
    scorer = module.RaTEScore(str(folder / "ner"), str(folder / "synonyms"), use_gpu=False, affinity_matrix="long")
    each = {"ratescore": list(map(float, scorer.compute_score(written, references)))}
    return {"ratescore": _mean(each["ratescore"])}, each


def _crimson(written: list[str], references: list[str], folder: Path) -> tuple[Mapping[str, float], Each]:
    """By a local judge; without age and indication, so that the urgency of a finding is that of its own."""
    scorer = importlib.import_module("CRIMSON").CRIMSONScore(api="hf", model_name=str(folder))
    found = scorer.evaluate_batch(references, written)
    each = {"crimson": [float(row["crimson_score"]) for row in found]}
    return {"crimson": _mean(each["crimson"])}, each


def _radeval(name: str, key: str) -> Callable[[list[str], list[str], Path], tuple[Mapping[str, float], Each]]:
    def run(written: list[str], references: list[str], folder: Path) -> tuple[Mapping[str, float], Each]:
        scorer = importlib.import_module("radeval").RadEval(metrics=[name], per_sample=True, show_progress=False)
        # Of the reports, never of the set: the package's aggregate of RadCliQ is 1 / mean, which turns its sign round.
        each = {key: list(map(float, scorer(refs=references, hyps=written)[key]))}
        return {key: _mean(each[key])}, each

    return run


METRICS: dict[str, Outside] = {
    "chexbert": Outside(
        title="CheXbert F1: 14 and 5 observations labelled by a BERT",
        module="f1chexbert",
        package="f1chexbert",
        weights="chexbert/chexbert.pth, and bert-base-uncased in the cache of Hugging Face",
        settings={"uncertain": "positive", "blank": "absent", "labels": "14+5"},
        note="Uncertain counts as positive. Papers mix micro and macro, 14 and 5 labels: compare like with like.",
        run=_chexbert,
        needs=("chexbert.pth",),
    ),
    "radgraph": Outside(
        title="RadGraph F1: entities and relations, levels simple, partial and complete",
        module="radgraph",
        package="radgraph",
        weights="radgraph/radgraph-xl/ (the unpacked archive), and its BERT in the cache of Hugging Face",
        settings={"model": "radgraph-xl", "level": "simple+partial+complete"},
        note="There are four models and three levels; papers seldom say which. A correct paraphrase can score 0.",
        run=_radgraph,
        needs=("radgraph-xl",),
    ),
    "ratescore": Outside(
        title="RaTEScore: entities with synonyms, weighted by type",
        module="RaTEScore",
        package="RaTEScore",
        weights="ratescore/ner/ (RaTE-NER-Deberta) and ratescore/synonyms/ (BioLORD-2023-C)",
        settings={"affinity": "long"},
        note="Weights for long and for short reports give different numbers.",
        run=_ratescore,
        needs=("ner", "synonyms"),
    ),
    "crimson": Outside(
        title="CRIMSON: findings weighed by urgency, judged by a local language model",
        module="CRIMSON",
        package="crimson-score",
        weights="crimson/ (a judge in transformers format, such as medgemma-4b-it-crimson)",
        settings={"judge": "local", "context": "none", "range": "-1..1"},
        note="From -1 to 1, not from 0. Judges behind an interface on the internet are not offered.",
        run=_crimson,
        needs=("config.json",),
    ),
    "green": Outside(
        title="GREEN: matched findings over matched and significant errors, by a 7B judge (through RadEval)",
        module="radeval",
        package="radeval",
        weights="GREEN-radllama2-7b in the cache of Hugging Face",
        settings={"judge": "GREEN-radllama2-7b"},
        note="Six kinds of significant errors count against it, insignificant ones do not.",
        run=_radeval("green", "green"),
    ),
    "radcliq": Outside(
        title="RadCliQ-v1: a linear model of BLEU-2, BERTScore, CheXbert and RadGraph (through RadEval)",
        module="radeval",
        package="radeval",
        weights="those of its parts in the cache of Hugging Face",
        settings={"sign": "lower_is_better"},
        note="Given as the mean distance, lower is better; the package's own aggregate is 1 / mean, higher is better.",
        run=_radeval("radcliq", "radcliq_v1"),
    ),
}
