"""The zoo bundles of medvlm with small random networks: the same configs, a thousandth of the weights."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from medvlm.content import builtin_root
from medvlm.imaging.study import Series, Study, Volume
from medvlm.storage import read_json, write_json, write_text

TINY_VISTA = (
    "$monai.networks.nets.VISTA3D("
    "image_encoder=monai.networks.nets.segresnet_ds.SegResNetDS2(in_channels=1, blocks_down=(1, 1), norm='instance', "
    "out_channels=8, init_filters=8, dsdepth=1), "
    "class_head=monai.networks.nets.vista3d.ClassMappingClassify(n_classes=512, feature_size=8, use_mlp=True), "
    "point_head=monai.networks.nets.vista3d.PointMappingSAM(feature_size=8, n_classes=512, last_supported=132))"
)


def shrink(name: str, content: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy a bundled zoo expert into a content folder, with a small network and small windows; no weights yet."""
    root = content / "experts" / name
    shutil.copytree(builtin_root() / "experts" / name, root)
    config = read_json(root / "configs" / "inference.json")
    if name == "vista3d":
        config |= {"network_def": TINY_VISTA, "patch_size": [32, 32, 32], "resample_spacing": [4.0, 4.0, 4.0]}
    else:
        config["network_def"] |= {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}
        config["inferer"]["roi_size"] = [48, 48, 48]
    write_json(root / "configs" / "inference.json", config)
    monkeypatch.setenv("MEDVLM_PATH", str(content))
    monkeypatch.setenv("MEDVLM_CACHE", str(content / "cache"))
    return root


def publish(root: Path, server: Path) -> Path:
    """Random weights of the bundle's network in a folder that stands for the server, pinned in `large_files.yml`."""
    from monai.bundle import ConfigParser

    torch.manual_seed(0)
    network = ConfigParser(read_json(root / "configs" / "inference.json")).get_parsed_content("network_def")
    server.mkdir(parents=True, exist_ok=True)
    file = server / f"model_{root.name}.pt"
    torch.save({"model": network.state_dict()}, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    entry = f"  - path: models/model.pt\n    url: {file.as_uri()}\n    hash_type: sha256\n    hash_val: {digest}\n"
    write_text(root / "large_files.yml", f"large_files:\n{entry}")
    return file


def ct(size: int = 36) -> Study:
    # One smooth body off the middle: a network of random weights then draws smooth regions.
    place = np.moveaxis(np.indices((size, size, size)), 0, -1) - np.array([0.35, 0.6, 0.45]) * size
    array = (1200 * np.exp(-((place / np.array([9, 7, 5])) ** 2).sum(axis=-1) / 2) - 800).astype(np.int16)
    # Row order and a flipped axis, so that a chain that forgets the way back is caught.
    affine = np.array([[0, -3.0, 0, 50], [3.0, 0, 0, -50], [0, 0, 4.0, 0], [0, 0, 0, 1]])
    volume = Volume(array, affine, unit="HU")
    return Study("study", "patient", (Series("ct", "CT", lambda: volume, body_part="abdomen"),), Path("nowhere"))


def mr(size: int = 84, names: tuple[str, ...] = ("t1c", "t1", "t2", "flair")) -> Study:
    rng = np.random.default_rng(1)
    series = []
    for name in names:
        array = rng.normal(300, 60, (size, size, size)).astype(np.float32)
        volume = Volume(array, np.diag([1.5, 1.5, 1.5, 1.0]))
        series.append(Series(f"series-{name}", "MR", lambda volume=volume: volume, description=f"AX {name} 3D"))
    return Study("study", "patient", tuple(series), Path("nowhere"))
