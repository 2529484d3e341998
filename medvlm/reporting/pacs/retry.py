"""Try again what a network may break."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from medvlm.errors import MedVLMError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Retries:
    """How often and how patiently: waits of `first`, twice that, ... seconds, at most `longest`."""

    attempts: int = 6
    first: float = 0.5
    longest: float = 20.0


class Temporary(Exception):
    """A failure that may pass: no connection, a busy server."""


def keep_trying(action: Callable[[], Value], what: str, retries: Retries) -> Value:
    """Run an action until it does not fail with `Temporary`.

    Raises:
        MedVLMError: it failed every time (names what and the last reason).
    """
    wait = retries.first
    for attempt in range(1, retries.attempts + 1):
        try:
            return action()
        except Temporary as error:
            if attempt == retries.attempts:
                raise MedVLMError(f"{what}: {error} ({attempt} attempts).") from None
            time.sleep(wait)
            wait = min(2 * wait, retries.longest)
    raise AssertionError("unreachable")
