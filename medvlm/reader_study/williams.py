"""Williams squares: orders in which every treatment follows every other equally often.

Source: E. J. Williams, Aust J Sci Res A 1949;2:149-168. For even n one square of n rows is balanced for first-order
carry-over; for odd n a square and its mirror image are needed, 2n rows.
"""

from __future__ import annotations

import itertools


def williams_square(n: int) -> list[list[int]]:
    """Rows of treatments 0..n-1: n rows for even n, 2n for odd n, one row for n = 1.

    Raises:
        ValueError: n is not positive.
    """
    if n < 1:
        raise ValueError("a square needs at least one treatment")
    if n == 1:
        return [[0]]
    # 0, 1, n-1, 2, n-2, ...: consecutive differences take every value once.
    first = [0]
    for step in range(1, n):
        first.append((step + 1) // 2 if step % 2 else n - step // 2)
    rows = [[(value + shift) % n for value in first] for shift in range(n)]
    return rows if n % 2 == 0 else rows + [row[::-1] for row in rows]


def carry_over(rows: list[list[int]]) -> dict[tuple[int, int], int]:
    """How often each treatment directly follows each other one."""
    counts: dict[tuple[int, int], int] = {}
    for row in rows:
        for before, after in itertools.pairwise(row):
            counts[before, after] = counts.get((before, after), 0) + 1
    return counts
