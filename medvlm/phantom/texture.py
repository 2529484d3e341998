"""What a scanner adds: parenchymal texture, fissure lines and noise with the grain of its kernel."""

from __future__ import annotations

import numpy as np

from medvlm.phantom.body import Body
from medvlm.phantom.grid import Grid
from medvlm.phantom.scanner import Acquisition


def add_lung_texture(rng: np.random.Generator, grid: Grid, body: Body) -> None:
    """Smooth density differences in the lungs and thin bright fissures, in place."""
    share = grid.soft(body.depth)
    coarse = rng.normal(0, 22, (12, 14, 14)).astype(np.float32)
    field = smooth_field(coarse, grid.shape)
    field += share * np.float32(120) * np.clip(1 - body.fissure / np.float32(grid.edge), 0, 1)
    # Solid tissue is not quite even either.
    field *= share + np.float32(0.3)
    np.add(body.hu, field, out=body.hu)


def smooth_field(coarse: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Linear interpolation of a coarse random field `[a, b, c]` to `shape`, axis by axis as matrix products."""
    field = coarse
    for axis, size in enumerate(shape):
        weights = _linear_weights(field.shape[axis], size)
        field = np.moveaxis(np.tensordot(weights, field, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(field)


def _linear_weights(coarse: int, fine: int) -> np.ndarray:
    """`[fine, coarse]` float32 weights of linear interpolation."""
    position = np.linspace(0, coarse - 1, fine)
    grid = np.arange(coarse)
    return np.maximum(1 - np.abs(position[:, None] - grid), 0).astype(np.float32)


def add_noise(rng: np.random.Generator, acquisition: Acquisition, hu: np.ndarray) -> None:
    """Correlated noise, in place: a soft kernel blurs it, a sharp one lifts its high frequencies."""
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    weight = np.float32(-0.22 if acquisition.sharp else 0.45)
    for axis in (1, 2):
        low, high = [slice(None)] * 3, [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        previous = noise[tuple(low)] * weight
        noise[tuple(high)] += previous
    # Each pass adds weight² to the variance; neighbouring slices of one scan differ a little in dose.
    spread = acquisition.noise / (1 + float(weight) ** 2)
    profile = spread * rng.uniform(0.9, 1.1, (hu.shape[0], 1, 1))
    noise *= profile.astype(np.float32)
    hu += noise
