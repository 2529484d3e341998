"""RMS normalisation that keeps less and runs faster, in the place of a model's own.

Transformers' modules convert their input to float32, step by step, and autograd keeps every step. The same arithmetic
as one function keeps the input and one number a row, and computes the rest anew in the backward pass: a third to two
thirds of the time on a CPU, and a quarter of the memory in bf16.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


class _RMSNorm(torch.autograd.Function):
    """`weight * x / rms(x)` (Zhang & Sennrich, 2019), normalised in float32 and scaled in the dtype of `x`."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        inverse = norm.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        context.save_for_backward(x, weight, inverse)
        return weight * (x * inverse).to(x.dtype)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, weight, inverse = context.saved_tensors
        gradient = gradients[0]
        normed = x * inverse  # float32
        to_weight = None
        if context.needs_input_grad[1]:
            to_weight = (gradient * normed).flatten(0, -2).sum(0).to(weight.dtype)
        scaled = gradient * weight
        along = (normed * scaled).mean(-1, keepdim=True)
        return normed.mul_(along).neg_().add_(scaled).mul_(inverse).to(x.dtype), to_weight, None


def lean_norms(model: nn.Module) -> int:
    """Let the RMS norms of a model compute leanly, where that gives the same output and gradients as their own way.

    Only the way of computing changes: weights, names and what is saved stay. Each kind of module is tried on random
    rows first; families whose norms scale by `1 + weight` or add a bias keep their own.

    Returns:
        The number of modules that were switched.
    """
    known: dict[tuple[type, int, torch.dtype], bool] = {}
    switched = 0
    for module in model.modules():
        weight, epsilon = getattr(module, "weight", None), _epsilon(module)
        if "RMSNorm" not in type(module).__name__ or epsilon is None or weight is None or weight.ndim != 1:
            continue
        if len(inspect.signature(module.forward).parameters) != 1:
            continue  # gated, or something else besides
        kind = (type(module), weight.numel(), weight.dtype)
        if kind not in known:
            known[kind] = _same(module, epsilon)
        if known[kind]:
            module.forward = _forward(module, epsilon)
            switched += 1
    return switched


def _forward(module: Any, epsilon: float) -> Any:
    def forward(hidden_states: Tensor) -> Tensor:
        normed: Tensor = _RMSNorm.apply(hidden_states, module.weight, epsilon)
        return normed

    return forward


def _epsilon(module: Any) -> float | None:
    found = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    return float(found) if isinstance(found, (int, float)) else None


def _same(module: Any, epsilon: float) -> bool:
    """Whether the lean way gives the module's own output and gradient, within rounding, for random rows."""
    weight = module.weight.detach()
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2, 8, weight.numel(), generator=generator, dtype=torch.float32)
    x, gradient = (one.to(weight.device, weight.dtype) for one in (rows[0], rows[1]))
    found = []
    with torch.enable_grad():
        for way in (module.forward, _forward(module, epsilon)):
            given = x.clone().requires_grad_()
            out = way(given)
            if out.shape != given.shape or out.dtype != given.dtype:
                return False
            found.append((out, torch.autograd.grad(out, given, gradient)[0]))
    tolerance = 1e-5 if weight.dtype == torch.float32 else 2e-2
    return all(torch.allclose(one, other, rtol=tolerance, atol=tolerance) for one, other in zip(*found, strict=True))
