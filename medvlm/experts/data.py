"""Training data of an expert: a cohort on the network's working grid, cached, augmented by MONAI transforms."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from medvlm.errors import MedVLMError
from medvlm.experts.bundle import Bundle
from medvlm.experts.grid import plan_grid, resample, resample_labels
from medvlm.experts.image import image_labels, image_tensor
from medvlm.experts.settings import Batches
from medvlm.findings.finding import read_findings
from medvlm.imaging.cohort import Cohort, CohortEntry, Split
from medvlm.imaging.reader import load_study
from medvlm.storage import atomic_path

IGNORE = -1
Transform = Callable[[dict[str, Any]], dict[str, Any] | list[dict[str, Any]]]


def prepare_split(bundle: Bundle, cohort: Cohort, split: Split, cache: Path, advance: Callable[[], None]) -> list[Path]:
    """Write every study of a split on the working grid as `.npz` (image float16, labels uint8) once.

    Args:
        bundle: says what the working grid is.
        cohort: studies with masks on their own grid.
        split: which studies.
        cache: folder of the files; a file that is there is not made again.
        advance: called after each study.

    Raises:
        MedVLMError: a study has no mask, or mask and labels disagree with the bundle.
    """
    mapping = label_mapping(bundle, cohort)
    key = hashlib.sha256(json.dumps([str(bundle.input), sorted(mapping.items())]).encode()).hexdigest()[:12]
    paths = []
    for entry in cohort.split(split):
        path = cache / key / f"{entry.id}.npz"
        if not path.is_file():
            sample = prepare_sample(bundle, cohort, entry, mapping)
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **sample)
        paths.append(path)
        advance()
    if not paths:
        raise MedVLMError(f"{cohort.root}: no studies in the split '{split}'.")
    return paths


def prepare_sample(
    bundle: Bundle, cohort: Cohort, entry: CohortEntry, mapping: dict[int, int]
) -> dict[str, np.ndarray]:
    """`{"image": [C, ...] float16, "label": [...] uint8, "target": class number or -1}` of one study."""
    if entry.mask is None:
        raise MedVLMError(f"{cohort.root}: study {entry.id} has no mask to learn from.")
    study = load_study(cohort.root / entry.study)
    mask = load_study(cohort.root / entry.mask).series[0].volume
    volume = study.series[0].volume
    if bundle.input.dims == 3:
        grid = plan_grid(volume, bundle.input)
        image, labels = resample(volume, grid, bundle.input), resample_labels(mask, grid)
    else:
        image, labels = image_tensor(volume, bundle.input), image_labels(mask, bundle.input)
    lookup = np.zeros(max(256, int(labels.max()) + 1), np.uint8)
    for theirs, ours in mapping.items():
        lookup[theirs] = ours
    return {
        "image": image.numpy().astype(np.float16),
        "label": lookup[labels.astype(np.int64)],
        "target": np.array(class_target(bundle, cohort, entry)),
    }


def label_mapping(bundle: Bundle, cohort: Cohort) -> dict[int, int]:
    """Cohort label number → the bundle's number of the structure with the same name.

    Raises:
        MedVLMError: the cohort lacks a structure that the bundle predicts.
    """
    ours = {name: number for number, name in bundle.labels.items() if number}
    mapping = {number: ours[name] for number, name in cohort.labels.items() if name in ours}
    missing = sorted(set(ours) - set(cohort.labels.values()))
    if missing:
        raise MedVLMError(f"{cohort.root}: the cohort's masks have no '{missing[0]}', which the expert predicts.")
    return mapping


def class_target(bundle: Bundle, cohort: Cohort, entry: CohortEntry) -> int:
    """The class of a study from its true Findings, or -1 where the expert has no classes."""
    if not bundle.classes:
        return IGNORE
    if entry.truth is None:
        raise MedVLMError(f"{cohort.root}: study {entry.id} has no true findings to take its class from.")
    for finding in read_findings(cohort.root / entry.truth):
        if finding.grade in bundle.classes and finding.presence == "present":
            return bundle.classes.index(finding.grade)
    raise MedVLMError(f"{cohort.root / entry.truth}: no finding names one of the classes {', '.join(bundle.classes)}.")


class ExpertDataset(Dataset[dict[str, torch.Tensor]]):
    """Prepared samples: `image [C, *patch]`, `label [1, *patch]`, `target []`."""

    def __init__(self, paths: Sequence[Path], transform: Transform | None = None) -> None:
        self.paths = list(paths)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        with np.load(self.paths[index]) as file:
            image = torch.from_numpy(file["image"].astype(np.float32))
            label = torch.from_numpy(file["label"])[None]
            target = int(file["target"])
        sample: dict[str, Any] = {"image": image, "label": label}
        if self.transform is not None:
            changed = self.transform(sample)
            # MONAI's label crop gives a list, here of one patch.
            sample = changed[0] if isinstance(changed, list) else changed
        plain = {key: torch.as_tensor(value).as_subclass(torch.Tensor) for key, value in sample.items()}
        return {"image": plain["image"], "label": plain["label"].long(), "target": torch.tensor(target)}


def build_transform(batches: Batches, labels: Mapping[int, str], seed: int) -> Transform:
    """MONAI transforms that cut a random patch and augment it.

    Args:
        batches: patch size, where patches are centred, and the random changes.
        labels: the bundle's structures.
        seed: of the patches and the changes.
    """
    from monai.transforms import (
        Compose,
        RandAdjustContrastd,
        RandCropByLabelClassesd,
        RandFlipd,
        RandGaussianNoised,
        RandGaussianSmoothd,
        RandRotate90d,
        RandShiftIntensityd,
        RandSpatialCropd,
        SpatialPadd,
    )

    keys = ["image", "label"]
    size, augment = tuple(batches.patch), batches.augment
    steps: list[Any] = [SpatialPadd(keys, spatial_size=size)]
    if batches.focus:
        ratios = [batches.focus.get(labels[number], 1.0) for number in sorted(labels)]
        steps.append(RandCropByLabelClassesd(keys, "label", size, ratios=ratios, num_classes=len(labels), warn=False))
    else:
        steps.append(RandSpatialCropd(keys, roi_size=size, random_size=False))
    if augment.flip:
        steps += [RandFlipd(keys, prob=augment.flip, spatial_axis=axis) for axis in range(len(size))]
    if augment.rotate:
        steps.append(RandRotate90d(keys, prob=augment.rotate, max_k=3, spatial_axes=(0, 1)))
    steps += [
        RandGaussianSmoothd("image", prob=augment.blur, sigma_x=(0.3, 0.8), sigma_y=(0.3, 0.8), sigma_z=(0.3, 0.5)),
        RandAdjustContrastd("image", prob=augment.gamma, gamma=(0.85, 1.18)),
        RandShiftIntensityd("image", prob=augment.shift, offsets=augment.shift_by),
        RandGaussianNoised("image", prob=augment.noise, std=augment.noise_std),
    ]
    return Compose(steps).set_random_state(seed=seed)
