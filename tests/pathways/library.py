"""The library's pathways, loaded once a session."""

from __future__ import annotations

from functools import cache

from medvlm.pathways import load_pathway
from medvlm.pathways.reward import Scorer

LIBRARY = (
    "areds_simplified",
    "blood_smear",
    "bone_marrow",
    "breast_birads",
    "chest_xray",
    "ecg_acs",
    "liver_lirads",
    "lung_nodule",
    "lung_screening",
    "prostate_pirads",
    "retina_amd",
    "retina_dr",
    "thyroid_tirads",
)


@cache
def scorer(name: str) -> Scorer:
    """One scorer a pathway for all tests."""
    return Scorer(load_pathway(name))
