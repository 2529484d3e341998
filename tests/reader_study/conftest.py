"""One exported sample study for the tests that only look at it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from medvlm.reader_study.seal import open_key
from medvlm.reader_study.simulate import Behaviour, simulate_answers
from tests.reader_study import sample


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with study/, out/ (exported) and answers/ (simulated); not to be changed."""
    folder = tmp_path_factory.mktemp("reader-study")
    sample.exported(folder)
    key = open_key(folder / "out/coordinator/key.sealed", sample.PASSPHRASE)
    simulate_answers(folder / "out", key, folder / "answers", Behaviour(effects={"tinyvlm": -0.5}))
    return folder


@pytest.fixture
def copy(study: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change; file times are kept."""
    shutil.copytree(study, tmp_path / "copy", copy_function=shutil.copy2)
    return tmp_path / "copy"


@pytest.fixture
def key(study: Path) -> dict[str, Any]:
    """The opened key of the sample study."""
    return open_key(study / "out/coordinator/key.sealed", sample.PASSPHRASE)
