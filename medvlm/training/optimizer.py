"""AdamW, or Muon for the matrices, over float32 copies of half-precision weights.

On a CPU with bf16 instructions bf16 weights and activations are about twice as fast as float32, and autocast loses
half of that to casting. But a bf16 weight has 8 bits: small updates would vanish in it. So the copies are updated and
rounded into the model.

Muon (Jordan et al., 2024) makes each matrix' update orthogonal. A tiny model trained from scratch learns to copy with
it in a fraction of the steps that AdamW takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

# Quintic Newton-Schulz iteration towards the nearest orthogonal matrix, steepest at zero (Jordan et al., 2024).
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
# Numbers that are updated together: what is computed on the way then takes some 50 MB, however large the model.
TOGETHER = 2**22
# Parameter, gradient, master, mean, square (or slices of them), step.
Piece = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


class MasterOptimizer(torch.optim.Optimizer):
    """AdamW or, for groups with `muon: True`, Muon; master weights and moments are float32."""

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        """
        Args:
            params: parameter groups; the parameters of a `muon: True` group are matrices.
            lr, betas, eps, weight_decay: as in `torch.optim.AdamW`.
            momentum: of Muon.
        """
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, defaults | {"muon": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of the masters, rounded into the parameters."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if not group["muon"]:
                for pieces in _together(self._pieces(group["params"])):
                    _adamw(group, pieces)
                continue
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self._state(parameter, True)
                    _muon(group, parameter.grad.float(), state)
                    parameter.copy_(state["master"])
        return loss

    def _pieces(self, parameters: list[Tensor]) -> Iterator[Piece]:
        """Parameters with their states; large ones in slices."""
        for parameter in parameters:
            state, gradient = self._state(parameter, False), parameter.grad
            if gradient is None:
                continue
            state["step"] += 1
            tensors = (parameter, gradient, state["master"], state["mean"], state["square"])
            # A sharded parameter (DTensor) is not sliced: its pieces would have to be shared out anew.
            sliced = parameter.numel() > TOGETHER and not hasattr(parameter, "device_mesh")
            if sliced and all(tensor.is_contiguous() for tensor in tensors):
                for parts in zip(*(tensor.view(-1).split(TOGETHER) for tensor in tensors), strict=True):
                    yield (*parts, state["step"])
            else:
                yield (*tensors, state["step"])

    def _state(self, parameter: Tensor, muon: bool) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["master"] = parameter.detach().float().clone()
            state["mean"] = torch.zeros_like(state["master"])
            if not muon:
                state["square"] = torch.zeros_like(state["master"])
                state["step"] = torch.tensor(0.0)
        return state

    @torch.no_grad()
    def restore(self) -> None:
        """Put the exact masters into the parameters, after the model was cast to float32."""
        for parameter, state in self.state.items():
            parameter.copy_(state["master"])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, but the masters and moments stay float32 (torch casts a state to its parameter's dtype)."""
        super().load_state_dict(state_dict)
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        order = [index for group in state_dict["param_groups"] for index in group["params"]]
        for index, parameter in zip(order, parameters, strict=True):
            for name, value in state_dict["state"].get(index, {}).items():
                device = value.device if name == "step" else parameter.device
                self.state[parameter][name] = value.clone().to(device)


def _together(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Lists of pieces of about `TOGETHER` numbers."""
    held: list[Piece] = []
    numbers = 0
    for piece in pieces:
        if held and numbers + piece[0].numel() > TOGETHER:
            yield held
            held, numbers = [], 0
        held.append(piece)
        numbers += piece[0].numel()
    if held:
        yield held


def _adamw(group: dict[str, Any], pieces: list[Piece]) -> None:
    parameters, gradients, masters, means, squares, steps = (list(column) for column in zip(*pieces, strict=True))
    adamw(
        masters,
        [gradient.float() for gradient in gradients],
        means,
        squares,
        [],
        [step - 1 for step in steps],  # torch counts on a copy: a sliced parameter comes here more than once
        foreach=True,
        amsgrad=False,
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=False,
    )
    torch._foreach_copy_(parameters, masters)


def _muon(group: dict[str, Any], gradient: Tensor, state: dict[str, Tensor]) -> None:
    momentum = group["momentum"]
    state["mean"].lerp_(gradient, 1 - momentum)
    update = orthogonal(gradient.lerp(state["mean"], momentum))  # Nesterov
    # This factor gives the update the root mean square that AdamW's has, so that one learning rate fits both.
    scale = 0.2 * max(update.shape) ** 0.5
    state["master"].mul_(1 - group["lr"] * group["weight_decay"])
    state["master"].add_(update, alpha=-group["lr"] * scale)


def orthogonal(matrix: Tensor) -> Tensor:
    """Roughly U Vᵀ of the singular value decomposition U S Vᵀ, by matrix products alone."""
    a, b, c = NEWTON_SCHULZ
    wide = matrix.bfloat16() if matrix.shape[0] <= matrix.shape[1] else matrix.bfloat16().T
    x = wide / (wide.norm() + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x if matrix.shape[0] <= matrix.shape[1] else x.T).float()
