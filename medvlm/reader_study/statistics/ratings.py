"""Ratings: who gave which score to which case under which modality; the one input of all statistics."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medvlm.errors import MedVLMError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Ratings:
    """Scores of readers for cases under modalities; missing reads are NaN, so any design fits.

    Attributes:
        scores: `[M, R, C]` float.
        truth: `[C]` 0 or 1, or None where there is no reference.
        clusters: `[C]` names of patients; the case itself where nothing else is known.
    """

    scores: np.ndarray
    modalities: tuple[str, ...]
    readers: tuple[str, ...]
    cases: tuple[str, ...]
    truth: np.ndarray | None = None
    clusters: tuple[str, ...] = ()
    title: str = ""

    def __post_init__(self) -> None:
        shape = (len(self.modalities), len(self.readers), len(self.cases))
        if self.scores.shape != shape:
            raise ValueError(f"scores are {self.scores.shape}, names say {shape}")
        if self.truth is not None and self.truth.shape != (shape[2],):
            raise ValueError(f"truth is {self.truth.shape} for {shape[2]} cases")

    @property
    def crossed(self) -> bool:
        """Every reader read every case under every modality."""
        return not np.isnan(self.scores).any()

    @property
    def cluster_index(self) -> np.ndarray:
        """`[C]` number of the patient of each case."""
        if not self.clusters:
            return np.arange(len(self.cases))
        return np.unique(np.asarray(self.clusters), return_inverse=True)[1]

    def only(self, modalities: Sequence[str]) -> Ratings:
        """The same ratings of some modalities, in the given order."""
        index = [self.modalities.index(name) for name in modalities]
        return replace(self, scores=self.scores[index], modalities=tuple(modalities))

    def of_truth(self, value: int) -> Ratings:
        """The cases of one truth; what sensitivity (1) and specificity (0) are means of."""
        if self.truth is None:
            raise MedVLMError("these ratings have no truth; sensitivity, specificity and AUC need it.")
        keep = self.truth == value
        names = tuple(name for name, kept in zip(self.cases, keep) if kept)
        clusters = tuple(name for name, kept in zip(self.clusters, keep) if kept)
        return replace(self, scores=self.scores[:, :, keep], cases=names, truth=self.truth[keep], clusters=clusters)


def ratings_from_rows(
    rows: Iterable[tuple[str, str, str, float]],
    truth: Mapping[str, float] | None = None,
    clusters: Mapping[str, str] | None = None,
    title: str = "",
) -> Ratings:
    """Ratings from (reader, case, modality, score) rows.

    Raises:
        MedVLMError: a reader read a case twice under a modality, or a case has no truth although others have.
    """
    table = list(rows)
    if not table:
        raise MedVLMError("no ratings at all.")
    readers, cases, modalities = (sorted_names(str(row[column]) for row in table) for column in range(3))
    places = [{name: index for index, name in enumerate(names)} for names in (readers, cases, modalities)]
    scores = np.full((len(modalities), len(readers), len(cases)), np.nan)
    for reader, case, modality, score in table:
        place = places[2][modality], places[0][reader], places[1][case]
        if not np.isnan(scores[place]):
            raise MedVLMError(f"reader {reader} read case {case} twice under {modality}; keep one of the two.")
        scores[place] = score
    known = None
    if truth:
        missing = [case for case in cases if case not in truth]
        if missing:
            raise MedVLMError(f"no truth for {len(missing)} cases (first: {missing[0]}).")
        known = np.array([float(truth[case]) for case in cases])
        if not set(np.unique(known)) <= {0.0, 1.0}:
            raise MedVLMError("truth must be 0 or 1.")
    patients = tuple(clusters[case] for case in cases) if clusters else ()
    return Ratings(scores, tuple(modalities), tuple(readers), tuple(cases), known, patients, title)


def ratings_from_frame(frame: pd.DataFrame, value: str, truth: bool = True) -> Ratings:
    """Ratings from a tidy table with the columns reader_id, case_id, modality, truth, cluster_id and a value."""
    rows = list(zip(frame["reader_id"], frame["case_id"], frame["modality"], frame[value].astype(float)))
    cases = frame.drop_duplicates("case_id")
    known: dict[Hashable, Any] = dict(zip(cases["case_id"], cases["truth"])) if truth else {}
    complete = bool(known) and not any(item != item for item in known.values())
    clusters = {str(case): str(patient) for case, patient in zip(cases["case_id"], cases["cluster_id"])}
    return ratings_from_rows(rows, {str(k): float(v) for k, v in known.items()} if complete else None, clusters)


def sorted_names(names: Iterable[str]) -> list[str]:
    """Names in order; whole numbers by value."""
    unique = set(names)
    if all(name.lstrip("-").isdigit() for name in unique):
        return sorted(unique, key=int)
    return sorted(unique)
