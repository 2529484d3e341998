"""Tiny bundles, series and cohorts made in the tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
import yaml

from medvlm.experts.bundle import read_bundle
from medvlm.experts.export import export_weights
from medvlm.findings.codes import code
from medvlm.findings.finding import Evidence, Finding, Measurement, Provenance, write_findings
from medvlm.imaging.cohort import Cohort, CohortEntry
from medvlm.imaging.study import Series, Study, Volume
from medvlm.storage import write_json, write_text

LABELS = {"0": "background", "1": "left organ", "2": "right organ", "3": "ball"}
SPEC: dict[str, Any] = {
    "name": "tiny",
    "task": "segmentation",
    "summary": "finds balls between two organs",
    "modality": ["CT"],
    "body_part": ["chest"],
    "limits": "made in a test",
    "licence": "Apache-2.0",
    "arguments": {"balls": "balls", "organs": "organs", "everything": "all of these"},
    "applies": {"unit": "HU", "min_slices": 8, "max_spacing": 6.0},
    "rules": [
        {
            "kind": "components",
            "argument": "balls",
            "concept": "lung_nodule",
            "id": "ball",
            "label": "ball",
            "minimum_ml": 0.01,
            "grades": {"part-solid": -300, "solid": 5000},
            "sites": {
                "left organ": {"side": "left", "code": "lower_lobe"},
                "right organ": {"side": "right", "code": "upper_lobe"},
            },
        },
        {
            "kind": "region",
            "argument": "organs",
            "concept": "pleural_effusion",
            "id": "organ",
            "label": "left organ",
            "minimum_ml": 0.1,
            "sides": ["left organ", "right organ"],
        },
        {
            "kind": "ratio",
            "argument": "organs",
            "concept": "cardiomegaly",
            "id": "width",
            "measure": "cardiothoracic_ratio",
            "numerator": ["left organ"],
            "denominator": ["left organ", "right organ"],
            "threshold": 0.4,
        },
    ],
}


def write_bundle(root: Path, spec: dict[str, Any] | None = None, weights: bool = True, **inference: Any) -> Path:
    """A bundle folder with a random network of a few hundred weights."""
    write_text(root / "findings.yaml", yaml.safe_dump({**SPEC, **(spec or {})}, sort_keys=False))
    write_json(
        root / "configs" / "metadata.json",
        {"version": "0.0.1", "network_data_format": {"outputs": {"pred": {"channel_def": LABELS}}}},
    )
    config = {
        "input": {"dims": 3, "spacing": [2, 2, 2], "low": -1000, "high": 1000, "multiple": [2, 2, 2]},
        "network_def": {
            "_target_": "monai.networks.nets.UNet",
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 4,
            "channels": [4, 8],
            "strides": [2],
            "norm": "BATCH",
        },
    }
    write_json(root / "configs" / "inference.json", config | inference)
    if weights:
        torch.manual_seed(0)
        export_weights(read_bundle(root).build_network(), root)
    return root


def scene(size: int = 32, ball: float = 4.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """`[size]³` HU and labels: two organs side by side (higher x is right), a ball of that radius in the right one."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((size, size, size), np.uint8)
    half = size // 2
    labels[2 : half - 1, 4:-4, 4:-4] = 1
    labels[half + 1 : -2, 4:-4, 4:-4] = 2
    centre = np.array([half + size // 4, half, half]) + rng.integers(-2, 3, 3)
    distance = np.linalg.norm(np.indices(labels.shape) - centre[:, None, None, None], axis=0)
    labels[distance <= ball] = 3
    values = np.choose(labels, [-900.0, -400.0, 100.0, 900.0]) + rng.normal(0, 20, labels.shape)
    return values.astype(np.int16), labels


def volume_of(array: np.ndarray, spacing: Sequence[float] = (2.0, 2.0, 2.0), **fields: Any) -> Volume:
    return Volume(array, np.diag([*spacing, 1.0]), unit=fields.pop("unit", "HU"), **fields)


def study_of(volume: Volume, modality: str = "CT", body_part: str = "chest", uid: str = "series") -> Study:
    series = Series(uid, modality, lambda: volume, body_part=body_part)
    return Study("study", "patient", (series,), Path("nowhere"))


def write_cohort(root: Path, count: int = 6) -> Cohort:
    """A cohort of NIfTI scenes with masks and truth: most for training, the last for test."""
    entries = []
    for number in range(count):
        name = f"s{number}"
        values, labels = scene(seed=number)
        for kind, array in (("ct", values), ("mask", labels)):
            image = nibabel.Nifti1Image(array, np.diag([2.0, 2.0, 2.0, 1.0]))
            image.header.set_xyzt_units("mm")
            image.set_sform(image.affine, code=1)
            (root / name).mkdir(parents=True, exist_ok=True)
            nibabel.save(image, root / name / f"{kind}.nii.gz")
        write_json(root / name / "ct.json", {"Modality": "CT"})
        centre = 2.0 * np.argwhere(labels == 3).mean(axis=0)
        write_findings(root / name / "truth.jsonl", [true_ball(tuple(float(v) for v in centre))])
        split = "test" if number == count - 1 else "validation" if number == count - 2 else "train"
        entries.append(
            CohortEntry(name, f"p{number}", split, f"{name}/ct.nii.gz", f"{name}/mask.nii.gz", f"{name}/truth.jsonl")
        )
    labels_of = {int(number): text for number, text in LABELS.items() if number != "0"}
    cohort = Cohort(root, "scenes", labels_of, tuple(entries))
    cohort.write()
    return cohort


def true_ball(centre: tuple[float, ...]) -> Finding:
    x, y, z = centre
    return Finding(
        id="ball-1",
        study="study",
        concept=code("lung_nodule"),
        presence="present",
        laterality=code("right"),
        site=code("upper_lobe"),
        grade="solid",
        measurements=(Measurement(code("long_axis"), 18.0, "mm"),),
        evidence=(Evidence("series", centroid=(x, y, z)),),
        provenance=Provenance("truth", "1"),
    )
