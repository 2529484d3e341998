"""Public data sets on disk → conversations or cohorts, split by patient, each with a data card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from medvlm.dialogue.adapters.vqa_rad import prepare_vqa_rad
from medvlm.dialogue.adapters.wbc import prepare_wbc

# name → prepare(root, out, split, seed), which writes `out` and returns a line for the user.
ADAPTERS: Mapping[str, Callable[[Path, Path, str, int], str]] = {"vqa_rad": prepare_vqa_rad, "wbc": prepare_wbc}

__all__ = ["ADAPTERS", "prepare_vqa_rad", "prepare_wbc"]
