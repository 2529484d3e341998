"""Writing what a training run made into the bundle folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from medvlm.experts.bundle import WEIGHTS
from medvlm.storage import atomic_path

if TYPE_CHECKING:
    from torch import nn


def export_weights(network: nn.Module, root: Path) -> Path:
    """Write a network's weights as `models/model.safetensors`, floating point as bfloat16.

    The networks run in bfloat16 on the processors that have it, so the file holds what is used and is half as large;
    running statistics stay in float32, since they are subtracted from activations.
    """
    from safetensors.torch import save_file

    state = {}
    for name, value in network.state_dict().items():
        narrow = value.is_floating_point() and "running_" not in name
        state[name] = (value.to(torch.bfloat16) if narrow else value).cpu().contiguous().clone()
    with atomic_path(root / WEIGHTS) as temporary:
        save_file(state, temporary)
        # safetensors makes the file private; a bundle is meant to be shared.
        temporary.chmod(0o644)
    return root / WEIGHTS
