"""Public data sets on disk → conversations or cohorts, split by patient, each with a data card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from medvlm.dialogue.adapters.bccd import prepare_bccd
from medvlm.dialogue.adapters.labels import CHEST_XRAY14, CHEXPERT, OCT
from medvlm.dialogue.adapters.mimic import MIMIC_DIFF_VQA, MIMIC_REPORTS
from medvlm.dialogue.adapters.prepare import Pictures, prepare
from medvlm.dialogue.adapters.source import Item, SourceSet
from medvlm.dialogue.adapters.tables import own_folder, own_table
from medvlm.dialogue.adapters.volume_sets import MSD, TOTAL_SEGMENTATOR, VolumeSet
from medvlm.dialogue.adapters.volumes import prepare_volumes
from medvlm.dialogue.adapters.vqa import OMNI_MED_VQA, PATH_VQA, PMC_VQA, SLAKE, SLAKE_BILINGUAL
from medvlm.dialogue.adapters.vqa_rad import VQA_RAD
from medvlm.dialogue.adapters.wbc import prepare_wbc
from medvlm.errors import MedVLMError

SOURCES: Mapping[str, SourceSet] = {
    source.name: source
    for source in (
        VQA_RAD,
        SLAKE,
        SLAKE_BILINGUAL,
        PATH_VQA,
        PMC_VQA,
        OMNI_MED_VQA,
        MIMIC_REPORTS,
        MIMIC_DIFF_VQA,
        CHEXPERT,
        CHEST_XRAY14,
        OCT,
    )
}
VOLUMES: Mapping[str, VolumeSet] = {source.name: source for source in (MSD, TOTAL_SEGMENTATOR)}
# Data of one's own: the folder says what it holds.
OWN: Mapping[str, Callable[[Path, str], SourceSet]] = {"csv": own_table, "folder": own_folder}
ADAPTERS = (*SOURCES, *VOLUMES, *OWN, "wbc", "bccd")


def prepare_named(
    name: str,
    root: Path,
    out: Path,
    split: str = "patient",
    seed: int = 0,
    subset: bool = False,
    pictures: Pictures = "copy",
    patient: str = "",
) -> str:
    """Run one adapter by its name; see `prepare.prepare`.

    Raises:
        MedVLMError: no such adapter (lists them), or what the adapter finds wrong.
    """
    if name in SOURCES:
        return prepare(SOURCES[name], root, out, split, seed, subset, pictures)
    if name in VOLUMES:
        return prepare_volumes(VOLUMES[name], root, out, seed, subset)
    if name in OWN:
        source = OWN[name](root, patient)
        return prepare(source, root, out, "patient" if split == "patient" else split, seed, True, pictures)
    if name == "bccd":
        return prepare_bccd(root, out, split)
    if name == "wbc":
        return prepare_wbc(root, out, split, seed)
    raise MedVLMError(f"no adapter '{name}'; there are: {', '.join(sorted(ADAPTERS))}.")


__all__ = ["ADAPTERS", "OWN", "SOURCES", "VOLUMES", "Item", "SourceSet", "VolumeSet", "prepare", "prepare_named"]
