"""The configs of the bundled experts run under MONAI itself, without medvlm, and agree with it."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from medvlm.content import builtin_root
from medvlm.experts.registry import load_expert
from medvlm.imaging.study import Volume

BUNDLE = builtin_root() / "experts" / "chest_ct"


@pytest.fixture(scope="module")
def volume() -> Volume:
    """A box of soft tissue around two boxes of lung, on the expert's own spacing so that no resampling differs."""
    array = np.full((112, 96, 48), -1000, np.int16)
    array[8:104, 8:88, :] = 40
    array[20:50, 24:72, 6:42] = -850
    array[62:92, 24:72, 6:42] = -850
    return Volume(array, np.diag([2.0, 2.0, 4.0, 1.0]), unit="HU")


def test_monais_own_pipeline_gives_what_the_expert_gives(volume: Volume, tmp_path: Path) -> None:
    from monai.bundle import ConfigParser

    image = nibabel.Nifti1Image(volume.array, volume.affine)
    nibabel.save(image, tmp_path / "ct.nii.gz")
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "inference.json"))
    parser["bundle_root"] = str(BUNDLE)
    parser["device"] = "cpu"
    parser.get_parsed_content("imports")
    sample = parser.get_parsed_content("preprocessing")({"image": str(tmp_path / "ct.nii.gz")})
    parser.get_parsed_content("load_weights")
    network = parser.get_parsed_content("network").eval()
    with torch.no_grad():
        theirs = parser.get_parsed_content("inferer")(sample["image"][None], network)[0].argmax(dim=0).numpy()
    predictor = load_expert(BUNDLE, "cpu").predictor
    ours, _ = predictor.logits(torch.as_tensor(np.asarray(sample["image"])))
    # bfloat16 against float32: equal but for voxels on an edge between structures.
    assert (ours.argmax(dim=0).numpy() == theirs).mean() > 0.99
