"""p-values adjusted for several comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

Method = Literal["none", "bonferroni", "holm", "hochberg", "benjamini-hochberg"]


def adjust(p_values: Sequence[float], method: Method = "holm") -> list[float]:
    """Adjusted p-values in the given order; nan stays nan and does not count.

    Holm, Scand J Stat 1979;6:65-70; Hochberg, Biometrika 1988;75:800-802; Benjamini, Hochberg, J R Stat Soc B
    1995;57:289-300.
    """
    p = np.asarray(p_values, dtype=float)
    known = np.flatnonzero(~np.isnan(p))
    values = p[known]
    count = len(values)
    order = np.argsort(values)
    ranked = values[order]
    places = np.arange(1, count + 1)
    if method == "bonferroni":
        ranked = ranked * count
    elif method == "holm":
        ranked = np.maximum.accumulate(ranked * (count - places + 1))
    elif method == "hochberg":
        ranked = np.minimum.accumulate((ranked * (count - places + 1))[::-1])[::-1]
    elif method == "benjamini-hochberg":
        ranked = np.minimum.accumulate((ranked * count / places)[::-1])[::-1]
    adjusted = np.full(len(p), np.nan)
    adjusted[known[order]] = np.minimum(ranked, 1.0)
    return [float(value) for value in adjusted]
