"""Metrics of other packages: used when they are there, refused in one sentence when not, and never over the network."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from medvlm.errors import MedVLMError
from medvlm.evaluation.outside import METRICS, no_network, score_outside
from medvlm.evaluation.reports import ReportPair, score_reports

ROWS = [ReportPair("1", "No effusion.", "Effusion."), ReportPair("2", "Pneumothorax.", "Pneumothorax.")]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a stand-in for a package in place; what it gives is chosen by the test."""

    def add(name: str, **content: Any) -> None:
        module = ModuleType(name)
        module.__spec__ = SimpleNamespace(name=name)  # type: ignore[assignment]
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)

    return add


@pytest.mark.parametrize("name", [name for name in METRICS if METRICS[name].missing_package()])
def test_a_package_that_is_not_there_is_named(name, tmp_path):
    with pytest.raises(MedVLMError, match=rf"pip install {METRICS[name].package}"):
        score_outside(name, ROWS, tmp_path)


def test_unknown_metrics_are_refused_with_the_known_ones():
    with pytest.raises(MedVLMError, match="no metric 'bertscore'; there are: chexbert, radgraph"):
        score_outside("bertscore", ROWS, None)


def test_weights_are_looked_for_and_never_fetched(install, tmp_path):
    install("radgraph", F1RadGraph=None)
    with pytest.raises(MedVLMError, match=r"radgraph-xl: the metric radgraph needs .* give --weights FOLDER"):
        score_outside("radgraph", ROWS, tmp_path)


def test_the_network_is_closed_while_a_metric_runs(install, tmp_path):
    def reach_out(*_: Any, **__: Any) -> None:
        socket.create_connection(("192.0.2.1", 80), timeout=1)

    install("radeval", RadEval=reach_out)
    with pytest.raises(MedVLMError, match=r"could not be loaded offline .the network is closed"):
        score_outside("green", ROWS, tmp_path)
    with no_network(), pytest.raises(OSError, match="network is closed"):
        socket.getaddrinfo("localhost", 80)
    # Afterwards it is open again.
    assert socket.getaddrinfo("127.0.0.1", 80)


def test_radcliq_keeps_the_sign_of_its_distance(install, tmp_path):
    """The package's own aggregate is 1 / mean (higher is better), its single values are distances (lower is better)."""
    asked: dict[str, Any] = {}

    def radeval(**settings: Any) -> Any:
        asked.update(settings)
        return lambda refs, hyps: {"radcliq_v1": [2.0, 4.0]}

    install("radeval", RadEval=radeval)
    found = score_outside("radcliq", ROWS, tmp_path)
    assert asked == {"metrics": ["radcliq"], "per_sample": True, "show_progress": False}
    assert found.values == {"radcliq_v1": 3.0}
    assert "sign:lower_is_better" in found.signature


def test_radgraph_gives_all_levels_and_says_its_model(install, tmp_path):
    (tmp_path / "radgraph" / "radgraph-xl").mkdir(parents=True)

    class F1RadGraph:
        def __init__(self, reward_level: str, model_type: str, model_cache_dir: str) -> None:
            assert (reward_level, model_type, Path(model_cache_dir)) == ("all", "radgraph-xl", tmp_path / "radgraph")

        def __call__(self, refs: list[str], hyps: list[str]) -> Any:
            assert (refs[0], hyps[0]) == ("Effusion.", "No effusion.")
            return None, ([0.5, 1.0], [0.25, 1.0], [0.0, 1.0]), [], []

    install("radgraph", F1RadGraph=F1RadGraph)
    found = score_outside("radgraph", ROWS, tmp_path)
    assert found.values == {"radgraph_simple": 0.75, "radgraph_partial": 0.625, "radgraph_complete": 0.5}
    assert "model:radgraph-xl|level:simple+partial+complete" in found.signature
    joined = score_reports(ROWS, "chest_xray").joined(found.values, found.each, found.signature)
    assert joined.words["radgraph_partial"] == 0.625
    assert joined.outcomes[0].to_json()["radgraph_complete"] == 0.0
    assert joined.to_json()["signatures"]["radgraph"] == found.signature


def test_chexbert_says_what_counts_as_positive_and_how_many_labels(install, tmp_path):
    (tmp_path / "chexbert").mkdir()
    (tmp_path / "chexbert" / "chexbert.pth").touch()

    class F1CheXbert:
        def __call__(self, hyps: list[str], refs: list[str]) -> Any:
            assert str(tmp_path / "chexbert") == sys.modules["f1chexbert.f1chexbert"].CACHE_DIR
            report = {"micro avg": {"f1-score": 0.6}, "macro avg": {"f1-score": 0.4}}
            return 0.5, [1.0], report, report

    install("f1chexbert")
    install("f1chexbert.f1chexbert", F1CheXbert=F1CheXbert, CACHE_DIR="elsewhere")
    found = score_outside("chexbert", ROWS, tmp_path)
    assert (found.values["chexbert_micro_14"], found.values["chexbert_macro_5"]) == (0.6, 0.4)
    assert "uncertain:positive|blank:absent|labels:14+5" in found.signature
    assert sys.modules["f1chexbert.f1chexbert"].CACHE_DIR == "elsewhere"
