"""TotalSegmentator as an expert: `runner: totalsegmentator`. The tool is called through its Python interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from medvlm.errors import MedVLMError
from medvlm.experts.bundle import Bundle
from medvlm.experts.infer import Prediction
from medvlm.imaging.study import Volume


class ToolRunner:
    """The installed tool, ready to run on a Volume.

    The tool gives a label map and no probabilities: Findings carry probability 1 of what it drew, never calibrated.
    """

    def __init__(self, bundle: Bundle, device: torch.device) -> None:
        self.bundle = bundle
        self.device = device
        self.precision = torch.float32
        self.settings = dict(bundle.inference.get("arguments", {}))

    def predict(self, volumes: Sequence[Volume], structures: Sequence[str] = ()) -> Prediction:
        """Run the tool and bring its label map onto our numbers.

        Raises:
            MedVLMError: the tool is not installed, fails (as without its own weights), or returns another grid.
        """
        import nibabel

        volume = volumes[0]
        image = nibabel.Nifti1Image(np.asarray(volume.array, np.float32), volume.affine)
        image.header.set_xyzt_units("mm")
        wanted = {} if self.settings.get("fast") else {"roi_subset": [n.replace(" ", "_") for n in structures] or None}
        try:
            made = _tool()(image, ml=True, quiet=True, device=self._device(), **self.settings, **wanted)
        except MedVLMError:
            raise
        except Exception as error:  # the tool's own errors are of any kind; the sentence says whose they are
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise MedVLMError(f"TotalSegmentator failed: {first}") from error
        mask = np.asarray(made.dataobj).astype(np.uint8)
        if mask.shape != volume.array.shape or not np.allclose(made.affine, volume.affine, atol=1e-3):
            raise MedVLMError("TotalSegmentator returned a label map on another grid than that of the series.")
        known = np.isin(mask, list(self.bundle.labels))
        mask = np.where(known, mask, 0).astype(np.uint8)
        return ToolPrediction(mask, torch.zeros(1, 1, 1, 1), None, {})

    def _device(self) -> str:
        return "gpu" if self.device.type == "cuda" else "cpu"


class ToolPrediction(Prediction):
    """A label map without probabilities: what is drawn is taken to be there."""

    def channel(self, label: int) -> np.ndarray:
        return (self.mask == label).astype(np.float32)

    def at(self, label: int, voxels: np.ndarray, volume: Volume) -> np.ndarray:
        return (self.mask[tuple(voxels.T)] == label).astype(np.float32)


def _tool() -> Any:
    try:
        from totalsegmentator.python_api import totalsegmentator
    except ImportError as error:
        raise MedVLMError(
            f"TotalSegmentator cannot be used ({error}): run 'pip install \"medvlm-specialist[totalsegmentator]\"'."
        ) from None
    return totalsegmentator
