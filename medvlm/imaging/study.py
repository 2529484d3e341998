"""Study, Series and Volume: what every reader returns and every expert, view and writer takes.

Conventions, everywhere in the package:

* arrays are indexed `[i, j, k]` as in NIfTI; `affine` maps `(i, j, k, 1)` to patient millimetres in **RAS+**:
  x grows towards the patient's right, y towards anterior, z towards superior; DICOM's LPS is converted once, in
  the reader;
* colour images carry a trailing axis of 3: `[i, j, k, 3]`; a plain 2-D image has `k = 1`;
* CT values are Hounsfield units, everything else is in stored (rescaled) units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.imaging.windows import Table, Window


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels with geometry.

    Attributes:
        array: `[I, J, K]` or `[I, J, K, 3]`, any real dtype.
        affine: `[4, 4]` float64, voxel index → RAS+ millimetres.
        unit: `"HU"` for CT, else `"1"`.
        calibrated: millimetres are trustworthy. When False no length, area or volume may be reported.
        oriented: left and right are known. When False no side may be reported.
        interpolated: share of the slices that were not measured but interpolated, 0..1; trust what is seen less.
    """

    array: np.ndarray
    affine: np.ndarray
    unit: str = "1"
    calibrated: bool = True
    oriented: bool = True
    interpolated: float = 0.0

    def __post_init__(self) -> None:
        if self.array.ndim not in (3, 4) or (self.array.ndim == 4 and self.array.shape[3] != 3):
            raise ValueError(f"a Volume is [I, J, K] or [I, J, K, 3], got {self.array.shape}")
        if self.affine.shape != (4, 4):
            raise ValueError(f"an affine is [4, 4], got {self.affine.shape}")

    @property
    def is_rgb(self) -> bool:
        return self.array.ndim == 4

    @property
    def spacing(self) -> np.ndarray:
        """`[3]` voxel edge lengths in millimetres along i, j, k."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm³ (the determinant, so that a sheared grid counts right)."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def to_canonical(self) -> Volume:
        """The same voxels with axes permuted and flipped to the closest RAS+ order (no resampling)."""
        from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

        orientation = io_orientation(self.affine)
        array = apply_orientation(self.array, orientation)
        affine = self.affine @ inv_ornt_aff(orientation, self.array.shape[:3])
        return replace(self, array=array, affine=affine)

    def to_patient(self, index: np.ndarray) -> np.ndarray:
        """`[..., 3]` voxel indices → `[..., 3]` RAS+ millimetres."""
        return np.asarray(index) @ self.affine[:3, :3].T + self.affine[:3, 3]


@dataclass(frozen=True, eq=False)
class Grid:
    """The geometry of a Volume, known before its voxels are read.

    Attributes:
        shape: `(I, J, K)`.
        affine: as in `Volume`.
        calibrated: as in `Volume`.
        oriented: as in `Volume`.
        colour: the voxels are RGB.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    calibrated: bool = True
    oriented: bool = True
    colour: bool = False

    @property
    def spacing(self) -> np.ndarray:
        """`[3]` voxel edge lengths in millimetres along i, j, k."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)


@dataclass(frozen=True, eq=False)
class Series:
    """One acquisition of a Study, with lazily loaded voxels.

    Attributes:
        uid: SeriesInstanceUID, or a stable name made from the file.
        modality: DICOM modality code (`CT`, `MR`, `CR`, `DX`, `US`, ...), `""` where unknown.
        description: cleaned, length-limited free text; data, never part of a prompt's grammar.
        body_part: DICOM BodyPartExamined in lower case (`chest`), `""` where unknown.
        load: reads the voxels; called once, through `volume`.
        tags: a few cleaned header values worth showing (kernel, manufacturer, ...).
        files: the files the voxels come from.
        notes: what a reader had to decide or repair, one sentence each; shown to the user.
        windows: grey-level windows and tables that the file proposes, in its order.
        grid: the geometry of `volume` where it is known without reading the voxels, else None.
    """

    uid: str
    modality: str
    load: Callable[[], Volume] = field(repr=False)
    description: str = ""
    body_part: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    windows: tuple[Window | Table, ...] = ()
    grid: Grid | None = None

    @cached_property
    def volume(self) -> Volume:
        """The voxels, read on first use.

        Raises:
            MedVLMError: the pixels cannot be read (names the file and the remedy).
        """
        return self.load()


@dataclass(frozen=True)
class Skipped:
    """Something in the input that is not used, and why."""

    what: str
    reason: str


@dataclass(frozen=True, eq=False)
class Study:
    """One patient visit.

    Attributes:
        uid: StudyInstanceUID, or a stable name made from the path.
        patient: the patient key used for splits; a hash where it comes from an identifier.
        series: what can be used, in reading order.
        skipped: what was found and left out, with the reason.
        source: the path the study was read from.
    """

    uid: str
    patient: str
    series: tuple[Series, ...]
    source: Path
    skipped: tuple[Skipped, ...] = ()

    def find_series(self, uid: str) -> Series:
        """The series with that uid.

        Raises:
            MedVLMError: there is none.
        """
        for series in self.series:
            if series.uid == uid:
                return series
        known = ", ".join(s.uid for s in self.series)
        raise MedVLMError(f"{self.source}: no series {uid}; this study has: {known}.")
