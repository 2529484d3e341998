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
    """Linear interpolation of a coarse random field `[a, b, c]` to `shape`, one axis after the other."""
    field = coarse
    for axis, size in enumerate(shape):
        position = np.linspace(0, field.shape[axis] - 1, size)
        low = np.minimum(position.astype(int), field.shape[axis] - 2)
        weight = (position - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        start = np.take(field, low, axis=axis)
        field = start + weight * (np.take(field, low + 1, axis=axis) - start)
    return field


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
