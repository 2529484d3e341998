"""Results of experts kept between runs: the same voxels through the same weights are read once.

A result is found by a hash of everything it depends on: voxels, geometry, the weights and settings of the bundle, what
was asked for, the precision, and the versions that compute it. Neither the key nor the file holds a patient, a study or
a series: their identifiers are taken out before a result is kept and put back from the study at hand.

    MEDVLM_CACHE        off (or 0) keeps nothing
    MEDVLM_CACHE_DIR    the folder; by default `medvlm` in the user's cache folder
    MEDVLM_CACHE_GB     largest size, 2 by default; what was not used for longest goes first
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from medvlm.errors import MedVLMError
from medvlm.experts.bundle import Bundle
from medvlm.experts.card import ExpertResult
from medvlm.findings.finding import Finding
from medvlm.imaging.study import Volume
from medvlm.storage import atomic_path

log = logging.getLogger(__name__)
LARGEST_GB = 2.0


@dataclass(frozen=True)
class ResultCache:
    """A folder of results, bounded in size.

    Attributes:
        folder: where the results are.
        largest: bytes beyond which the results that were not used for longest are removed.
    """

    folder: Path
    largest: int

    @classmethod
    def of_user(cls) -> ResultCache | None:
        """The cache that the environment sets up; None where it is switched off.

        Raises:
            MedVLMError: the size in the environment is not a number.
        """
        if os.environ.get("MEDVLM_CACHE", "").strip().lower() in ("off", "0", "no", "false"):
            return None
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(os.environ.get("MEDVLM_CACHE_DIR") or Path(base) / "medvlm").expanduser() / "results"
        size = os.environ.get("MEDVLM_CACHE_GB", str(LARGEST_GB))
        try:
            return cls(folder, int(float(size) * 1e9))
        except ValueError:
            raise MedVLMError(f"MEDVLM_CACHE_GB is '{size}', which is not a number of gigabytes.") from None

    def get(self, key: str, study: str, series: str) -> ExpertResult | None:
        """The result kept under a key, with the identifiers of the study and series at hand; None if there is none.

        Args:
            key: of `result_key`.
            study, series: uids to write into the Findings.
        """
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as kept:
                said = json.loads(kept["said"].tobytes())
                mask = kept.get("mask")
            os.utime(path)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            log.warning("a kept result of %s is broken; it is computed anew", key[:8])
            path.unlink(missing_ok=True)
            return None
        return ExpertResult(
            expert=said["expert"],
            findings=tuple(_named(Finding.from_json(row), study, series) for row in said["findings"]),
            series=series,
            mask=mask,
            labels={int(number): name for number, name in said["labels"].items()},
            classes=said["classes"],
            seconds=said["seconds"],
        )

    def put(self, key: str, result: ExpertResult) -> None:
        """Keep a result; a folder that cannot be written costs a warning, not the result."""
        said = {
            "expert": result.expert,
            "findings": [_named(finding, "", "").to_json() for finding in result.findings],
            "labels": dict(result.labels),
            "classes": dict(result.classes),
            "seconds": result.seconds,
        }
        arrays = {"said": np.frombuffer(json.dumps(said).encode(), np.uint8)}
        if result.mask is not None:
            arrays["mask"] = result.mask
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with atomic_path(self._path(key)) as temporary:
                np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
            self._shrink()
        except OSError as error:
            log.warning("%s: the result is not kept (%s)", self.folder, error.strerror)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"

    def _shrink(self) -> None:
        """Remove what was not used for longest until the rest fits."""
        kept = sorted(((path.stat(), path) for path in self.folder.glob("*.npz")), key=lambda item: item[0].st_mtime)
        total = sum(stat.st_size for stat, _ in kept)
        for stat, path in kept:
            if total <= self.largest:
                break
            path.unlink(missing_ok=True)
            total -= stat.st_size


def result_key(
    bundle: Bundle, weights: str, volumes: Sequence[Volume], argument: str, device: torch.device, precision: torch.dtype
) -> str:
    """The hash of everything a result depends on, 64 hexadecimal digits.

    Args:
        bundle: settings, labels and calibration count; its name and folder do not.
        weights: hash of the weights.
        volumes: what is read.
        argument: what a prompted network is asked for; empty where it makes no difference.
        device, precision: where and how the network computes.
    """
    digest = hashlib.sha256()
    settings = (bundle.spec, bundle.working, sorted(bundle.labels.items()), bundle.classes)
    configs = [json.dumps(part, sort_keys=True, default=str) for part in (bundle.inference, bundle.calibration)]
    versions = [_version(name) for name in ("torch", "monai")]
    said = (_program(), versions, bundle.version, weights, settings, configs, argument, device.type, str(precision))
    digest.update(repr(said).encode())
    for volume in volumes:
        array = volume.array
        flags = (volume.unit, volume.calibrated, volume.oriented, volume.interpolated)
        digest.update(repr((array.shape, array.dtype.str, flags)).encode())
        digest.update(np.round(volume.affine, 6).astype("<f8").tobytes())
        for k in range(array.shape[2]):  # slice by slice, whatever the order in memory, without a copy of it all
            digest.update(np.ascontiguousarray(np.moveaxis(array[:, :, k], 0, 1)).data)
    return digest.hexdigest()


@cache
def _program() -> str:
    """Hash of the code that turns voxels into Findings: another program may find something else."""
    digest = hashlib.sha256()
    for folder in ("experts", "findings", "imaging"):
        for path in sorted((Path(__file__).parents[1] / folder).glob("*.*")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _named(finding: Finding, study: str, series: str) -> Finding:
    evidence = tuple(replace(one, series=series) for one in finding.evidence)
    return replace(finding, study=study, evidence=evidence)
