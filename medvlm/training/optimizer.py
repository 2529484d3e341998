"""AdamW that keeps float32 copies of half-precision weights.

On a CPU with bf16 instructions bf16 weights and activations are about twice as fast as float32, and autocast loses
half of that to casting. But a bf16 weight has 8 bits: small updates would vanish in it. So the copies are updated and
rounded into the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw


class MasterAdamW(torch.optim.Optimizer):
    """AdamW with float32 master weights and moments, whatever the dtype of the parameters."""

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        """
        Args:
            params: parameter groups.
            lr, betas, eps, weight_decay: as in `torch.optim.AdamW`.
        """
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of the masters, rounded into the parameters."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            with_gradient = [parameter for parameter in group["params"] if parameter.grad is not None]
            if with_gradient:
                self._update(group, with_gradient)
        return loss

    def _update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        states = [self._state(parameter) for parameter in parameters]
        masters = [state["master"] for state in states]
        adamw(
            masters,
            [parameter.grad.float() for parameter in parameters if parameter.grad is not None],
            [state["mean"] for state in states],
            [state["square"] for state in states],
            [],
            [state["step"] for state in states],
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

    def _state(self, parameter: Tensor) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["master"] = parameter.detach().float().clone()
            state["mean"] = torch.zeros_like(state["master"])
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
