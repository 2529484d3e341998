"""The brain expert on the real T1 head of Debian's mricron-data, against the brain mask that ships beside it."""

from importlib import metadata
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medvlm.experts.card import ExpertResult
from medvlm.experts.registry import find_expert, load_expert
from medvlm.findings import verbalise
from medvlm.imaging.reader import load_study

HEAD = Path("/usr/share/mricron/templates/ch2.nii.gz")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def result() -> ExpertResult:
    if not HEAD.is_file():
        pytest.skip("needs the real head of the Debian package mricron-data")
    if find_expert("brain_mri").missing:
        pytest.skip('needs pip install "medvlm-specialist[brain]"')
    return load_expert("brain_mri", "cpu").run(load_study(HEAD, modality="MR"))


def test_the_outline_agrees_with_the_mask_beside_the_head(result: ExpertResult) -> None:
    assert result.mask is not None
    ours = result.mask == 1
    theirs = np.asarray(nibabel.load(HEAD.with_name("ch2bet.nii.gz")).dataobj) > 0
    dice = 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum())
    assert dice >= 0.93


def test_the_volume_and_the_asymmetry_are_in_the_findings(result: ExpertResult) -> None:
    (brain,) = result.findings
    assert result.mask is not None
    # Voxels of 1 mm³: a thousand to the millilitre.
    assert brain.measure("Volume") == pytest.approx((result.mask == 1).sum() / 1000, abs=0.01)
    # An average head is symmetric to about a hundredth.
    assert abs(brain.measure("Asymmetry of right and left") or 1.0) < 0.02
    assert verbalise(result.findings).startswith("brain: 19")


def test_the_networks_are_those_of_the_installed_package(result: ExpertResult) -> None:
    bundle = find_expert("brain_mri")
    assert metadata.version("deepbet") == bundle.metadata["required_packages_version"]["deepbet"]
    assert sorted(bundle.weight_files()) == ["models/locator.ts", "models/model.ts"]
