"""Cross-validation: every study is tested once by a network that has seen neither it nor its patient."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.experts.bundle import CROSS_VALIDATION, WEIGHTS, Bundle, read_bundle
from medvlm.experts.evaluate import Tally, tally_split
from medvlm.experts.registry import load_expert
from medvlm.experts.settings import Batches, Loss, Optimiser
from medvlm.experts.train import train_expert
from medvlm.findings.finding import read_findings
from medvlm.imaging.cohort import Cohort, CohortEntry, Split, read_cohort
from medvlm.storage import read_json, write_json

RESAMPLES = 2000
FOLD = "fold.json"


def cross_validate(
    root: Path,
    cohort: Path,
    work: Path,
    batches: Batches,
    loss: Loss,
    optimiser: Optimiser,
    trainer: dict[str, Any],
    seed: int,
    folds: int,
    device: str = "auto",
) -> dict[str, Any]:
    """Train and measure an expert `folds` times and write `cross_validation.json` into its folder.

    All studies of the cohort take part, whatever their split. The weights of the folds stay in `work`; the bundle's own
    are not touched. A fold that is done is not run again.

    Args:
        root: the bundle folder.
        cohort: folder of studies with masks.
        work: folder of prepared samples and folds.
        batches, loss, optimiser, trainer, seed: as in `train_expert`.
        folds: how many, at least 2.
        device: where the folds are measured.

    Returns:
        What was written: `metrics` (mean over all studies), `interval` (95 %, bootstrap over studies), `folds`.

    Raises:
        MedVLMError: fewer than 2 folds, or fewer patients than folds.
    """
    bundle, studies = read_bundle(root), read_cohort(cohort)
    groups = fold_groups(studies, bundle.classes, folds, seed)
    pooled, rows = Tally(), []
    for number in range(folds):
        folder = work / f"fold-{number + 1}"
        if not (folder / FOLD).is_file():
            part = fold_cohort(studies, groups, number, folds)
            own = _copy_bundle(bundle, folder / "bundle")
            train_expert(
                own, part, folder, batches, loss, optimiser, trainer, seed + number, prepared=work / "prepared"
            )
            write_json(folder / FOLD, dict(tally_split(load_expert(own, device), part, "test").means))
        values = read_json(folder / FOLD)
        rows.append(_means(values))
        for name, measured in values.items():
            pooled.means[name] += measured
    patients = len({entry.patient for entry in studies.entries})
    written = {
        "made_by": f"medvlm experts train --config {root.name}/configs/train.yaml --folds {folds}",
        "cohort": studies.name,
        "studies": len(studies.entries),
        "patients": patients,
        "seed": seed,
        "metrics": pooled.metrics(),
        "interval": {name: interval(values, seed) for name, values in sorted(pooled.means.items())},
        "folds": rows,
    }
    write_json(root / CROSS_VALIDATION, written)
    return written


def fold_groups(cohort: Cohort, classes: Sequence[str], folds: int, seed: int) -> dict[str, int]:
    """Patient → fold. Patients of each class are dealt out alike; a patient's studies stay together.

    Raises:
        MedVLMError: fewer than 2 folds, or fewer patients than folds.
    """
    kinds: dict[str, str] = {}
    for entry in cohort.entries:
        kinds.setdefault(entry.patient, _class_of(cohort, entry, classes))
    if folds < 2 or folds > len(kinds):
        raise MedVLMError(f"--folds {folds}: give 2 up to the number of patients ({len(kinds)}).")
    members: dict[str, list[str]] = defaultdict(list)
    for patient, kind in sorted(kinds.items()):
        members[kind].append(patient)
    rng = np.random.default_rng(seed)
    groups: dict[str, int] = {}
    sizes = Counter(dict.fromkeys(range(folds), 0))
    for kind in sorted(members):
        for position, patient in enumerate(rng.permutation(members[kind]).tolist()):
            # Rounds of one a fold, the smallest fold first, so that rare classes do not all land in the first.
            if position % folds == 0:
                order = sorted(sizes, key=lambda number: (sizes[number], number))
            groups[patient] = order[position % folds]
            sizes[groups[patient]] += 1
    return groups


def fold_cohort(cohort: Cohort, groups: Mapping[str, int], number: int, folds: int) -> Cohort:
    """The cohort with one fold as the test split and a tenth of the next as validation (watched, never chosen by)."""
    following = (number + 1) % folds
    watched = sorted(patient for patient, group in groups.items() if group == following)
    watched = watched[: max(1, len(watched) // 10)]

    def split_of(entry: CohortEntry) -> Split:
        if groups[entry.patient] == number:
            return "test"
        return "validation" if entry.patient in watched else "train"

    return replace(cohort, entries=tuple(replace(entry, split=split_of(entry)) for entry in cohort.entries))


def interval(values: Sequence[float], seed: int) -> list[float]:
    """95 % bootstrap interval of a mean."""
    rng = np.random.default_rng(seed)
    drawn = np.asarray(values)[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return [round(float(low), 4), round(float(high), 4)]


def _class_of(cohort: Cohort, entry: CohortEntry, classes: Sequence[str]) -> str:
    if not classes or entry.truth is None:
        return ""
    return next((f.grade for f in read_findings(cohort.root / entry.truth) if f.grade in classes), "") or ""


def _means(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: round(float(np.mean(measured)), 4) for name, measured in sorted(values.items())}


def _copy_bundle(bundle: Bundle, folder: Path) -> Path:
    """A bundle of the same name without weights, so that a fold never overwrites the trained expert."""
    if not folder.is_dir():
        skip = shutil.ignore_patterns(Path(WEIGHTS).name, "calibration.json", "metrics.json", CROSS_VALIDATION)
        shutil.copytree(bundle.root, folder, ignore=skip)
    return folder
