"""Every guideline of the library passes lint, held-out phrasings included."""

from __future__ import annotations

import pytest

from medvlm.pathways import list_pathways
from medvlm.pathways.lint import lint
from tests.pathways.library import LIBRARY, scorer


def test_the_library_is_complete() -> None:
    assert set(LIBRARY) <= set(list_pathways())


@pytest.mark.parametrize("name", LIBRARY)
def test_lint_finds_no_error(name: str) -> None:
    report = lint(scorer(name).pathway, scorer(name))
    assert [remark.text for remark in report.remarks if remark.level == "error"] == []
    assert "(100.00 %)" in report.figures["train phrasings read right"]
    share = float(report.figures["heldout phrasings read right"].split("(")[1].split(" ")[0])
    assert share >= 99.0
    reached, total = report.figures["table rows reached by embedded tests"].split(" of ")
    assert reached == total
    assert report.figures["reward of right answers (lowest)"] == "100.00 %"
