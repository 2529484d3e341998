"""`medvlm experts new`: a bundle folder for a cohort, ready to train and to edit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from medvlm.errors import MedVLMError
from medvlm.experts.bundle import INFERENCE, METADATA
from medvlm.imaging.cohort import Cohort, read_cohort
from medvlm.imaging.reader import load_study
from medvlm.imaging.study import Series
from medvlm.storage import atomic_path, write_json, write_text

SAMPLE = 8  # studies that are looked at
SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
# Two-dimensional images are worked on at most at this size; volumes at most at about this many voxels an axis.
LARGEST_IMAGE, LARGEST_AXIS = 256, 192
CONCEPT = "lesion"


def new_expert(name: str, root: Path, out: Path) -> Path:
    """Write the folder of a segmentation expert for a cohort.

    The working grid, the intensity range and the structures come from the first studies of the cohort; every structure
    gets a rule that lists its objects. All of it is plain YAML and JSON to be edited before or after training.

    Args:
        name: snake-case name; its upper case is the trigger.
        root: cohort with masks.
        out: folder that holds experts (`experts`, so that `--content` of its parent finds it).

    Returns:
        The folder of the new expert.

    Raises:
        MedVLMError: a bad name, an expert of that name in `out`, or a cohort without masks.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{1,31}", name):
        raise MedVLMError(f"'{name}': an expert's name is lower-case letters, digits and underscores.")
    folder = out / name
    if folder.exists():
        raise MedVLMError(f"{folder}: is there already; choose another name or remove it.")
    cohort = read_cohort(root)
    if not cohort.labels or not any(entry.mask for entry in cohort.entries):
        raise MedVLMError(f"{root}: the cohort has no masks to learn from.")
    sample = [load_study(cohort.root / entry.study).series[0] for entry in cohort.split("train")[:SAMPLE]]
    if not sample:
        raise MedVLMError(f"{root}: no study in the split 'train'.")
    seen = look(sample)
    with atomic_path(folder) as temporary:
        write_json(temporary / INFERENCE, inference(seen, len(cohort.labels) + 1))
        write_json(temporary / METADATA, metadata(name, cohort, seen))
        write_yaml(temporary / "findings.yaml", findings(name, cohort, sample))
        write_yaml(temporary / "configs" / "train.yaml", training(folder, cohort, seen))
        card = f"# {name}\n\nTrained on {cohort.name}: say here on whom, how, and what its limits are.\n"
        write_text(temporary / "README.md", card)
    return folder


def write_yaml(path: Path, data: dict[str, Any]) -> None:
    """Write YAML with the keys in the given order."""
    write_text(path, yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=110))


def look(sample: Sequence[Series]) -> dict[str, Any]:
    """The `input` block that fits a sample of series."""
    volumes = [series.volume.to_canonical() for series in sample]
    flat = all(volume.array.shape[2] == 1 for volume in volumes)
    low, high = np.percentile(np.concatenate([volume.array.ravel()[::7] for volume in volumes]), (0.5, 99.5))
    seen: dict[str, Any] = {
        "dims": 2 if flat else 3,
        "channels": 3 if volumes[0].is_rgb else 1,
        "low": 0.0 if volumes[0].is_rgb else round(float(low), 1),
        "high": 255.0 if volumes[0].is_rgb else round(float(max(high, low + 1)), 1),
        "multiple": [8, 8] if flat else [8, 8, 8],
    }
    shapes = np.array([volume.array.shape[:3] for volume in volumes])
    if flat:
        seen["size"] = [int(min(LARGEST_IMAGE, -(-size // 8) * 8)) for size in np.median(shapes, axis=0)[:2]]
        return seen
    spacing = np.median([volume.spacing for volume in volumes], axis=0)
    extent = np.max([volume.spacing * np.array(volume.array.shape) for volume in volumes], axis=0)
    seen["spacing"] = np.maximum(spacing, extent / LARGEST_AXIS).round(2).tolist()
    return seen


def inference(seen: dict[str, Any], channels: int) -> dict[str, Any]:
    """`configs/inference.json`: a small U-Net on the working grid."""
    return {
        "input": seen,
        "network_def": {
            "_target_": "monai.networks.nets.UNet",
            "spatial_dims": seen["dims"],
            "in_channels": seen["channels"],
            "out_channels": channels,
            "channels": [24, 48, 72, 96],
            "strides": [2, 2, 2],
            "num_res_units": 1 if seen["dims"] == 2 else 0,
            "norm": "BATCH",
            "act": "RELU",
        },
    }


def metadata(name: str, cohort: Cohort, seen: dict[str, Any]) -> dict[str, Any]:
    """`configs/metadata.json` after the MONAI bundle specification."""
    shape = ["8*n"] * seen["dims"]
    tensor = {"spatial_shape": shape, "dtype": "float32", "value_range": [0, 1], "is_patch_data": False}
    structures = {"0": "background"} | {str(number): text for number, text in sorted(cohort.labels.items())}
    return {
        "schema": SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": "first version"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch"),
        "numpy_version": version("numpy"),
        "task": f"Segmentation of {', '.join(cohort.labels.values())}",
        "description": f"A U-Net for {name}",
        "authors": "to be filled in",
        "copyright": "to be filled in",
        "network_data_format": {
            "inputs": {
                "image": {"type": "image", "format": "magnitude", "num_channels": seen["channels"], **tensor},
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": len(structures),
                    **tensor,
                    "channel_def": {str(place): text for place, text in enumerate(structures.values())},
                }
            },
        },
    }


def findings(name: str, cohort: Cohort, sample: Sequence[Series]) -> dict[str, Any]:
    """`findings.yaml`: one argument and one rule a structure."""
    keys = {text: re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") for text in cohort.labels.values()}
    parts = sorted({series.body_part for series in sample if series.body_part})
    return {
        "name": name,
        "task": "segmentation",
        "summary": f"outlines {', '.join(cohort.labels.values())}",
        "modality": sorted({series.modality for series in sample}),
        "body_part": parts,
        "limits": "not yet measured",
        "licence": "not decided",
        "arguments": {key: f"{text}: number and size" for text, key in keys.items()} | {"everything": "all of these"},
        "rules": [
            {"kind": "components", "argument": key, "concept": CONCEPT, "id": key, "label": text}
            for text, key in keys.items()
        ],
    }


def training(folder: Path, cohort: Cohort, seen: dict[str, Any]) -> dict[str, Any]:
    """`configs/train.yaml`: a run of minutes on a CPU."""
    flat = seen["dims"] == 2
    return {
        "expert": str(folder),
        "cohort": str(cohort.root),
        "work": f"runs/expert-{folder.name}",
        "batches": {"patch": list(seen["size"]) if flat else [64, 64, 32], "batch_size": 8 if flat else 2},
        "optimiser": {"learning_rate": 0.002},
        "trainer": {"max_steps": 600, "check_val_every_n_epoch": 10},
    }
