"""Sharding weights, gradients and optimiser states over processes: FSDP2, as torch itself does it.

Each layer of the language part is a unit that is gathered when it computes; everything else (tower, projector,
embeddings, head) is one unit, gathered once a step, so that a process whose batch has no picture takes part in the same
exchanges as the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from medvlm.errors import MedVLMError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def shard(model: Any, mesh: DeviceMesh) -> None:
    """Shard a model in place.

    Args:
        model: as it will train, maybe wrapped by peft.
        mesh: one-dimensional mesh of the processes that share the weights.

    Raises:
        MedVLMError: the language part has no stack of layers.
    """
    from torch.distributed.fsdp import fully_shard

    decoder = (model.get_base_model() if hasattr(model, "peft_config") else model).get_decoder()
    stacks = [module for module in decoder.modules() if isinstance(module, torch.nn.ModuleList)]
    if not stacks:
        raise MedVLMError(f"{type(model).__name__}: no stack of layers found to shard; use --trainer.strategy=ddp.")
    for layer in max(stacks, key=len):
        fully_shard(layer, mesh=mesh)
    # The head's weights are used once more after the forward pass, by the fused loss: the root stays gathered.
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
