"""What tests of several packages share: running the command line in this process."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest

# Tests run side by side; more threads in each only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests find out anew, and leave nothing in the user's folders.
os.environ["MEDVLM_CACHE"] = "off"
# Nothing in the tests may need a network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@dataclass(frozen=True)
class Outcome:
    """How a command ended: exit code, standard output and standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def medvlm_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Run `medvlm ARGUMENTS...` in this process."""
    from medvlm.cli import main

    # A library's log handler may keep the stream of an earlier test, which is closed by now.
    monkeypatch.setattr(logging, "raiseExceptions", False)

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        streams = capsys.readouterr()
        return Outcome(code, streams.out, streams.err)

    return run
