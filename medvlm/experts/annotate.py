"""Running experts over a cohort through `Trainer.predict`: resumable, and one failing study does not stop the rest.

The folder it writes:

    annotation.json        which experts (version, weights) over which cohort
    findings/<study>.jsonl one Finding a line
    masks/<study>.nii.gz   label map on the study's own grid (where asked for)
    failed/<study>.json    expert → reason, for studies that an expert could not read
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import nibabel
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from medvlm.errors import MedVLMError
from medvlm.experts.applicability import check_header
from medvlm.experts.bundle import Bundle
from medvlm.experts.card import ExpertResult
from medvlm.experts.expert import Expert
from medvlm.experts.registry import find_expert, load_expert
from medvlm.experts.train import make_trainer
from medvlm.findings.finding import Finding, read_findings, write_findings
from medvlm.imaging.cohort import Cohort, CohortEntry, Split, read_cohort
from medvlm.imaging.reader import load_study
from medvlm.imaging.study import Series, Study, Volume
from medvlm.storage import atomic_path, read_json, write_json


@dataclass(frozen=True)
class Annotation:
    """What a run over a cohort did."""

    out: Path
    studies: int
    findings: int
    failed: dict[str, str]
    resumed: int


class StudyDataset(Dataset[tuple[CohortEntry, Study | str]]):
    """Studies, or the reason why they cannot be read. In a worker process the voxels that experts want are read too."""

    def __init__(self, cohort: Cohort, entries: Sequence[CohortEntry], bundles: Sequence[Bundle]) -> None:
        self.cohort = cohort
        self.entries = list(entries)
        self.bundles = list(bundles)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> tuple[CohortEntry, Study | str]:
        entry = self.entries[index]
        try:
            study = load_study(self.cohort.root / entry.study)
            return entry, study if get_worker_info() is None else self._with_voxels(study)
        except Exception as error:  # recorded by the caller; the other studies go on
            return entry, describe(error)

    def _with_voxels(self, study: Study) -> Study:
        """The study with the series that experts want, their voxels in memory, so that it can leave this process."""
        series = []
        for one in study.series:
            wanted = any(check_header(bundle, one).ok for bundle in self.bundles)
            load = _load_now(one) if wanted else _Failed(f"{study.source}: no expert reads this series.")
            series.append(replace(one, load=load))
        return replace(study, series=tuple(series))


@dataclass(frozen=True, eq=False)
class _Loaded:
    """A loader that has the voxels already."""

    volume: Volume

    def __call__(self) -> Volume:
        return self.volume


@dataclass(frozen=True)
class _Failed:
    """A loader that says why there are no voxels."""

    reason: str

    def __call__(self) -> Volume:
        raise MedVLMError(self.reason)


def _load_now(series: Series) -> _Loaded | _Failed:
    try:
        return _Loaded(series.volume)
    except MedVLMError as error:
        return _Failed(str(error))


class AnnotationModule(lightning.LightningModule):
    """`predict_step` runs every expert on one study and writes its files."""

    def __init__(self, experts: Sequence[Expert], out: Path, masks: bool) -> None:
        super().__init__()
        self.experts = list(experts)
        self.out = out
        self.masks = masks

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """A Study stays as it is: the experts move what they need."""
        return batch

    def predict_step(self, batch: tuple[CohortEntry, Study | str], index: int) -> None:
        entry, study = batch
        findings: list[Finding] = []
        reasons: dict[str, str] = {}
        for expert in self.experts:
            if isinstance(study, str):
                reasons[expert.name] = study
                continue
            try:
                result = expert.run(study)
            except Exception as error:  # whatever one study does, the others go on; the reason is recorded
                reasons[expert.name] = describe(error)
                continue
            findings += result.findings
            if self.masks and result.mask is not None:
                write_mask(self.out / "masks" / f"{entry.id}.nii.gz", result, study)
        failed = self.out / "failed" / f"{entry.id}.json"
        failed.unlink(missing_ok=True)
        if reasons:
            write_json(failed, reasons)
        # Written last: a study counts as done when its findings are there.
        if len(reasons) < len(self.experts):
            write_findings(self.out / "findings" / f"{entry.id}.jsonl", findings)


def describe(error: Exception) -> str:
    """An error as the reason of a failed study."""
    return str(error) if isinstance(error, MedVLMError) else f"{type(error).__name__}: {error}"


def annotate_cohort(
    root: Path,
    out: Path,
    experts: Sequence[str],
    splits: Sequence[Split] = ("train", "validation", "test"),
    masks: bool = False,
    device: str = "auto",
    workers: int = 1,
    trainer: dict[str, Any] | None = None,
) -> Annotation:
    """Run experts over a cohort and write their findings; studies that are done already are not run again.

    Args:
        root: the cohort folder.
        out: folder of the annotation; must be of the same experts if it exists.
        experts: names or paths of expert bundles.
        splits: which splits.
        masks: write the label maps too.
        device: where the experts run.
        workers: processes that read studies ahead.
        trainer: more arguments of `lightning.Trainer` (`devices`, `num_nodes`, `strategy`).

    Raises:
        MedVLMError: no such cohort or expert, another run's folder, or every study failed.
    """
    cohort = read_cohort(root)
    _claim(out, cohort, experts)
    entries = [entry for split in splits for entry in cohort.split(split)]
    todo = [entry for entry in entries if not (out / "findings" / f"{entry.id}.jsonl").is_file()]
    if todo:
        loaded = [load_expert(name, device) for name in experts]
        studies = StudyDataset(cohort, todo, [expert.bundle for expert in loaded])
        _predict(AnnotationModule(loaded, out, masks), studies, workers, trainer or {})
    failed = {path.stem: "; ".join(read_json(path).values()) for path in sorted((out / "failed").glob("*.json"))}
    done = read_annotations(out)
    if not done:
        first = next(iter(failed.values()), "there is none")
        raise MedVLMError(f"{root}: no study could be annotated ({first}).")
    count = sum(len(findings) for findings in done.values())
    return Annotation(out, len(done), count, failed, len(entries) - len(todo))


def read_annotations(folder: Path | str) -> dict[str, list[Finding]]:
    """Study id → Findings of an annotated cohort.

    Raises:
        MedVLMError: the folder is not one that `medvlm annotate` wrote.
    """
    folder = Path(folder)
    if not (folder / "annotation.json").is_file():
        raise MedVLMError(f"{folder}: no annotation.json here; write it with 'medvlm annotate COHORT --out {folder}'.")
    return {path.stem: read_findings(path) for path in sorted((folder / "findings").glob("*.jsonl"))}


def write_mask(path: Path, result: ExpertResult, study: Study) -> None:
    """Write a result's label map as NIfTI with the geometry of the series it was made from."""
    assert result.mask is not None
    image = nibabel.Nifti1Image(result.mask.astype(np.uint8), study.find_series(result.series).volume.affine)
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        nibabel.save(image, temporary)


def _claim(out: Path, cohort: Cohort, experts: Sequence[str]) -> None:
    """Write `annotation.json`, or check that the one that is there is of the same experts and cohort."""
    if not experts:
        raise MedVLMError("give at least one expert, for example --experts chest_ct.")
    bundles = [find_expert(name) for name in experts]
    made = {
        "schema": 1,
        "cohort": cohort.name,
        "experts": [
            {"name": bundle.name, "version": bundle.version, "weights": bundle.weights_hash()} for bundle in bundles
        ],
    }
    marker = out / "annotation.json"
    if marker.is_file():
        if read_json(marker) != made:
            raise MedVLMError(f"{out}: holds findings of other experts or another cohort; choose another --out.")
    else:
        write_json(marker, made)


def _predict(module: AnnotationModule, dataset: StudyDataset, workers: int, settings: dict[str, Any]) -> None:
    device = module.experts[0].device
    engine = make_trainer(
        {
            "accelerator": "gpu" if device.type == "cuda" else "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "callbacks": [_Bar()],
        }
        | settings
    )
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, shuffle=False)
    with warnings.catch_warnings():
        # Advice that does not fit a loop that writes files, and torch's talk with Lightning.
        for known in (".*does not have many workers.*", ".*predict returned None.*", ".*isinstance.treespec.*"):
            warnings.filterwarnings("ignore", message=known)
        engine.predict(module, loader, return_predictions=False)


class _Bar(lightning.pytorch.callbacks.RichProgressBar):
    """Lightning's bar under our name for the work."""

    @property
    def predict_description(self) -> str:
        return "annotating"
