"""The experts' label maps, kept with the report, and the objects in them that the Findings speak of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from medvlm.errors import MedVLMError
from medvlm.experts.card import ExpertResult
from medvlm.findings.codes import concept_of, concepts
from medvlm.findings.finding import Code, Finding
from medvlm.findings.measure import bounding_box
from medvlm.imaging.study import Study
from medvlm.reporting.report import MaskFile
from medvlm.storage import atomic_path

MASK_FOLDER = "masks"


@dataclass(frozen=True, eq=False)
class Mask:
    """A label map on the grid of its series.

    Attributes:
        series: uid of the series.
        expert: who drew it.
        array: `[I, J, K]` uint8.
        affine: `[4, 4]` voxel → RAS+ mm.
        labels: label number → structure.
    """

    series: str
    expert: str
    array: np.ndarray
    affine: np.ndarray
    labels: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Segment:
    """One object of a mask: the part that a Finding speaks of, or a whole structure.

    Attributes:
        number: its value in the map that `segment_map` returns, from 1.
        name: `nodule-1` or `right upper lobe`.
        concept: what it is.
        laterality: coded side, or None.
        site: coded place, or None.
        finding: id of the Finding, or None for anatomy that no Finding speaks of.
        voxels: how many.
    """

    number: int
    name: str
    concept: Code
    laterality: Code | None
    site: Code | None
    finding: str | None
    voxels: int


def masks_of(results: Sequence[ExpertResult], study: Study) -> tuple[Mask, ...]:
    """The label maps of the experts that drew one."""
    return tuple(
        Mask(result.series, result.expert, result.mask, study.find_series(result.series).volume.affine, result.labels)
        for result in results
        if result.mask is not None
    )


def write_masks(masks: Sequence[Mask], folder: Path) -> tuple[MaskFile, ...]:
    """Write each mask as `masks/<expert>.nii.gz` into the report's folder."""
    import nibabel

    files = []
    for mask in masks:
        name = f"{MASK_FOLDER}/{mask.expert}.nii.gz"
        image = nibabel.Nifti1Image(mask.array.astype(np.uint8), mask.affine)
        image.header.set_xyzt_units("mm")
        with atomic_path(folder / name) as temporary:
            nibabel.save(image, temporary)
        files.append(MaskFile(name, mask.series, mask.expert, tuple(sorted(mask.labels.items()))))
    return tuple(files)


def read_masks(files: Sequence[MaskFile], folder: Path) -> tuple[Mask, ...]:
    """The masks of a report that is on disk.

    Raises:
        MedVLMError: a file is missing or damaged (names it).
    """
    import nibabel

    masks = []
    for item in files:
        try:
            image: Any = nibabel.load(folder / item.file)
            array = np.asarray(image.dataobj).astype(np.uint8)
        except (OSError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
            raise MedVLMError(f"{folder / item.file}: cannot be read ({type(error).__name__}).") from None
        masks.append(Mask(item.series, item.expert, array, image.affine, dict(item.labels)))
    return tuple(masks)


def segment_map(mask: Mask, findings: Sequence[Finding]) -> tuple[np.ndarray, tuple[Segment, ...]]:
    """One number an object: first the objects of Findings, then structures that no Finding divides.

    Components are numbered as `findings/measure.py` numbers them: 26 neighbours, from the largest to the smallest.

    Returns:
        `[I, J, K]` map (0 = nothing) and what its numbers are.
    """
    numbered = np.zeros(mask.array.shape, dtype=np.uint16)
    segments: list[Segment] = []
    divided: set[int] = set()
    for finding in findings:
        places = [e for e in finding.evidence if e.series == mask.series and e.label in mask.labels and e.component]
        if finding.provenance.expert != mask.expert or not places:
            continue
        number = len(segments) + 1
        for place in places:
            box, own = component(mask.array, int(place.label or 0), int(place.component or 0))
            numbered[box][own] = number
            divided.add(int(place.label or 0))
        segments.append(
            Segment(
                number,
                finding.id,
                finding.concept,
                finding.laterality,
                finding.site,
                finding.id,
                int((numbered == number).sum()),
            )
        )
    for label, name in sorted(mask.labels.items()):
        whole = mask.array == label
        count = int(whole.sum())
        if label in divided or not count:
            continue
        number = len(segments) + 1
        numbered[whole] = number
        concept, side = structure_code(name)
        # A Finding about the whole structure (the heart of a ratio) points at it.
        about = next(
            (f for f in findings if any(e.label == label and e.series == mask.series for e in f.evidence)), None
        )
        segments.append(Segment(number, name, concept, side, None, about.id if about else None, count))
    return numbered, tuple(segments)


def component(array: np.ndarray, label: int, number: int) -> tuple[tuple[slice, slice, slice], np.ndarray]:
    """Where the n-th largest component of a label is: the box of the label and the component's voxels in it.

    Raises:
        MedVLMError: there is no such component.
    """
    box = bounding_box(array == label)
    if box is not None:
        found, count = ndimage.label(array[box] == label, structure=np.ones((3, 3, 3)))
        if number <= count:
            sizes = np.bincount(found.ravel(), minlength=count + 1)
            order = sorted(range(1, count + 1), key=lambda n: (-sizes[n], n))
            return box, found == order[number - 1]
    raise MedVLMError(f"the mask has no component {number} of label {label}.")


def structure_code(name: str) -> tuple[Code, Code | None]:
    """`right upper lobe` → the code of the structure and of its side; a code of our own where the table has none."""
    words = name.lower().split()
    table = concepts()
    side = table[words[0]].code if words and words[0] in ("left", "right") else None
    bare = " ".join(words[1:] if side else words)
    known = next((item.code for item in table.values() if bare in (item.text, item.key.replace("_", " "))), None)
    return known or Code(bare.replace(" ", "_") or "structure", "MEDVLM", name[:1].upper() + name[1:]), side


def is_anatomy(code: Code) -> bool:
    """The concept is a place in the body, not something found there."""
    return concept_of(code).kind == "site"
