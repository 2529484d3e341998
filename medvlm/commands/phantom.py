"""`medvlm phantom`: synthetic studies with known truth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal


def chest_ct(
    out: Path = Path("phantom-chest-ct"),
    patients: int = 160,
    seed: int = 0,
    preset: Literal["small", "full"] = "small",
    workers: int = 0,
) -> None:
    """Make a cohort of synthetic chest CT studies with known truth; run it again to complete or enlarge it.

    Example:
        medvlm phantom chest-ct --out clinic --patients 160 --seed 0

    Args:
        out: folder of the cohort; new, empty, or begun with the same seed and preset.
        patients: number of patients, one study each.
        seed: the same seed gives the same bytes.
        preset: small (about 160 pixels, 4-5 mm slices, for learning on a CPU) or full (512 pixels, 1-2.5 mm).
        workers: processes; 0 takes one a processor.
    """
    from medvlm.imaging.cohort import SPLITS
    from medvlm.phantom.cohort import make_cohort

    cohort = make_cohort(out, patients, seed, preset, workers or os.cpu_count() or 1)
    shares = "/".join(str(len(cohort.split(split))) for split in SPLITS)
    print(f"phantom clinic   {len(cohort.entries)} studies in {out} (train/validation/test {shares})")


def oct_(
    out: Path = Path("phantom-oct"),
    patients: int = 160,
    seed: int = 0,
    preset: Literal["small", "full"] = "small",
    workers: int = 0,
) -> None:
    """Make a cohort of synthetic OCT B-scans of the macula with known truth; run it again to complete or enlarge it.

    Example:
        medvlm phantom oct --out eyes --patients 160 --seed 0

    Args:
        out: folder of the cohort; new, empty, or begun with the same seed and preset.
        patients: number of patients, one B-scan each.
        seed: the same seed gives the same bytes.
        preset: small (320 x 256 pixels) or full (512 x 496).
        workers: processes; 0 takes one a processor.
    """
    from medvlm.imaging.cohort import SPLITS
    from medvlm.phantom.cohort import make_cohort

    cohort = make_cohort(out, patients, seed, preset, workers or os.cpu_count() or 1, kind="oct")
    shares = "/".join(str(len(cohort.split(split))) for split in SPLITS)
    print(f"phantom clinic   {len(cohort.entries)} B-scans in {out} (train/validation/test {shares})")


COMMANDS = {"chest-ct": chest_ct, "oct": oct_}
