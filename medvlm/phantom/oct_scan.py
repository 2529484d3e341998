"""From a synthetic eye to a B-scan: surfaces, reflectivity, labels, then what the machine does to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medvlm.phantom.oct_eye import Eye, Mound, Patch

LABELS: dict[int, str] = {
    1: "retina",
    2: "pigment epithelium",
    3: "choroid",
    4: "drusen",
    5: "pigment epithelial detachment",
    6: "subretinal fluid",
    7: "intraretinal fluid",
    8: "subretinal material",
    9: "hypertransmission",
    10: "atrophy",
}
NUMBER = {name: number for number, name in LABELS.items()}
# Share of the retina's thickness above the photoreceptors, grey level 0..1: nerve fibres, ganglion cells with inner
# plexiform, inner nuclear, outer plexiform, outer nuclear layer.
INNER = ((0.10, 0.72), (0.27, 0.52), (0.13, 0.34), (0.10, 0.50), (0.40, 0.27))
# Micrometres above the pigment epithelium, thickness, grey level: external limiting membrane, ellipsoid zone,
# interdigitation zone.
LINES = ((58.0, 8.0, 0.44), (30.0, 15.0, 0.76), (13.0, 9.0, 0.60))
OUTER_UM = 64.0
EPITHELIUM_UM = 22.0
FLUID, VITREOUS = 0.10, 0.07
# How far the layers smooth out what lifts them.
SOFT_UM = 130.0


@dataclass(frozen=True)
class Frame:
    """The picture's geometry: `[rows, columns]`, micrometres a pixel."""

    rows: int
    columns: int
    deep_um: float
    wide_um: float

    @property
    def half_width(self) -> float:
        return self.columns * self.wide_um / 2


FRAMES = {"small": Frame(256, 320, 6.2, 18.75), "full": Frame(496, 512, 3.87, 11.72)}


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Heights above Bruch's membrane `[columns]` in micrometres, and where Bruch's membrane lies in the picture."""

    bruch: np.ndarray
    epithelium: np.ndarray
    outer: np.ndarray
    inner: np.ndarray


def lay_surfaces(rng: np.random.Generator, eye: Eye, frame: Frame) -> Surfaces:
    """The surfaces of the eye in one picture; `bruch` is in micrometres below the upper edge."""
    x = (np.arange(frame.columns) + 0.5) * frame.wide_um - frame.half_width
    lift = _lift(eye.mounds, x)
    below = _heights(eye.fluid, x) + _heights((*eye.material, *eye.scar), x)
    pit = eye.pit * np.exp(-(x**2) / (2 * eye.pit_width**2))
    rim = 22.0 * np.exp(-((np.abs(x) - 2.1 * eye.pit_width) ** 2) / (2 * (0.8 * eye.pit_width) ** 2))
    thickness = eye.thickness + rim - pit
    # Fluid in the retina makes it thick, the loss of photoreceptors thin.
    for cyst in eye.cysts:
        thickness = thickness + 0.9 * cyst.height * np.exp(-((x - cyst.centre) ** 2) / (2 * (1.6 * cyst.half) ** 2))
    loss = _spread(eye.atrophy, x, 60.0)
    thickness = thickness - 75.0 * _spread(eye.atrophy, x, 350.0)
    outer = lift + EPITHELIUM_UM * (1 - 0.85 * loss) + below
    # The inner surface follows what lies below in part and softly: small drusen do not reach it.
    raised = ndimage.gaussian_filter1d(lift + below, SOFT_UM / frame.wide_um, mode="nearest")
    inner = EPITHELIUM_UM + 0.85 * raised + thickness
    inner = np.maximum(inner, outer + 75.0) + _wander(rng, x, 3.0, 500.0)
    depth = frame.rows * frame.deep_um
    room = depth - (inner.max() + eye.choroid)
    top = np.clip(rng.uniform(0.25, 0.6) * room, 40.0, 0.4 * depth)
    base = top + inner.max()
    bruch = base - eye.bend * (x / frame.half_width) ** 2 + eye.tilt * x + _wander(rng, x, 2.0, 900.0)
    return Surfaces(bruch, lift + EPITHELIUM_UM, outer, inner)


def render(rng: np.random.Generator, eye: Eye, frame: Frame, surfaces: Surfaces) -> tuple[np.ndarray, np.ndarray]:
    """Reflectivity 0..1 and labels, both `[rows, columns]`."""
    x = (np.arange(frame.columns) + 0.5) * frame.wide_um - frame.half_width
    height = surfaces.bruch[None] - (np.arange(frame.rows)[:, None] + 0.5) * frame.deep_um
    lift = surfaces.epithelium - EPITHELIUM_UM
    grey = np.full(height.shape, VITREOUS)
    labels = np.zeros(height.shape, np.uint8)
    loss, leak = _spread(eye.atrophy, x, 25.0), _spread(eye.leaks, x, 25.0)
    _choroid(rng, eye, height, grey, labels, np.maximum(loss, 0.75 * leak), frame)
    _mounds(rng, eye, x, height, lift, grey, labels)
    _epithelium(rng, eye, x, height, lift, loss, leak, grey, labels)
    _below_retina(rng, eye, x, height, surfaces, grey, labels)
    _retina(rng, eye, x, height, surfaces, loss, grey, labels)
    _cysts(rng, eye, x, height, surfaces, grey, labels)
    _shadows(rng, eye, x, height, surfaces, grey)
    return grey, labels


def _choroid(
    rng: np.random.Generator,
    eye: Eye,
    height: np.ndarray,
    grey: np.ndarray,
    labels: np.ndarray,
    light: np.ndarray,
    frame: Frame,
) -> None:
    floor = -eye.choroid + _wander(rng, np.arange(height.shape[1]) * frame.wide_um, 14.0, 700.0)
    inside = (height < 0) & (height >= floor)
    depth = np.clip(-height / eye.choroid, 0, None)
    shape = height.shape
    # Vessels: a smooth random field, cut; wider and darker with depth.
    field = ndimage.gaussian_filter(rng.standard_normal(shape), (32 / frame.deep_um, 52 / frame.wide_um))
    field /= field.std()
    lumen = np.clip((field - 0.1 + 0.35 * np.minimum(depth, 1)) * 0.9, 0, 1) * (height < -25)
    tissue = 0.60 * np.exp(-depth / 1.1) - 0.17 * lumen
    # Light that the epithelium no longer stops.
    tissue += 0.34 * light[None] * np.exp(-depth / 2.2)
    sclera = 0.30 * np.exp(-(depth - 1)) + 0.26 * light[None] * np.exp(-depth / 2.2)
    grey[inside] = tissue[inside]
    behind = height < floor
    grey[behind] = sclera[behind]
    labels[inside] = NUMBER["choroid"]
    labels[inside & (light[None] > 0.5)] = NUMBER["hypertransmission"]
    line = np.abs(height + 4) < 6
    grey[line] = np.maximum(grey[line], 0.55)


def _mounds(
    rng: np.random.Generator,
    eye: Eye,
    x: np.ndarray,
    height: np.ndarray,
    lift: np.ndarray,
    grey: np.ndarray,
    labels: np.ndarray,
) -> None:
    level = {"drusen": 0.46, "drusenoid": 0.42, "serous": 0.12, "fibrovascular": 0.40}
    for mound in eye.mounds:
        top = _profile(mound, x)
        inside = (height >= 0) & (height < np.minimum(top, lift)[None]) & (top > 0)[None]
        texture = rng.standard_normal(height.shape)
        if mound.kind == "fibrovascular":
            texture = ndimage.gaussian_filter(texture, (1.2, 7.0)) * 9.0
        grey[inside] = level[mound.kind] + 0.05 * ndimage.gaussian_filter(texture, 1.5)[inside] * 4
        labels[inside] = NUMBER["drusen" if mound.kind == "drusen" else "pigment epithelial detachment"]


def _epithelium(
    rng: np.random.Generator,
    eye: Eye,
    x: np.ndarray,
    height: np.ndarray,
    lift: np.ndarray,
    loss: np.ndarray,
    leak: np.ndarray,
    grey: np.ndarray,
    labels: np.ndarray,
) -> None:
    above = height - lift[None]
    band = (above >= 0) & (above < EPITHELIUM_UM * (1 - 0.85 * loss)[None])
    # Attenuated but not lost where light only leaks.
    level = (0.88 - 0.35 * leak - 0.5 * loss) + _wander(rng, x, 0.03, 60.0)
    grey[band] = np.broadcast_to(level[None], height.shape)[band]
    labels[band] = NUMBER["pigment epithelium"]
    gone = (above >= 0) & (above < EPITHELIUM_UM) & (loss > 0.5)[None]
    labels[gone] = NUMBER["atrophy"]


def _below_retina(
    rng: np.random.Generator,
    eye: Eye,
    x: np.ndarray,
    height: np.ndarray,
    surfaces: Surfaces,
    grey: np.ndarray,
    labels: np.ndarray,
) -> None:
    low = surfaces.epithelium
    tissue = _heights((*eye.material, *eye.scar), x)
    bright = _heights(eye.scar, x) > 0
    inside = (height >= low[None]) & (height < (low + tissue)[None])
    texture = ndimage.gaussian_filter(rng.standard_normal(height.shape), (1.5, 3.0)) * 5.0
    grey[inside] = (np.where(bright, 0.78, 0.60)[None] + 0.06 * texture)[inside]
    labels[inside] = NUMBER["subretinal material"]
    fluid = _heights(eye.fluid, x)
    inside = (height >= (low + tissue)[None]) & (height < (low + tissue + fluid)[None])
    grey[inside] = FLUID
    labels[inside] = NUMBER["subretinal fluid"]


def _retina(
    rng: np.random.Generator,
    eye: Eye,
    x: np.ndarray,
    height: np.ndarray,
    surfaces: Surfaces,
    loss: np.ndarray,
    grey: np.ndarray,
    labels: np.ndarray,
) -> None:
    low, top = surfaces.outer, surfaces.inner
    inside = (height >= low[None]) & (height < top[None])
    outer = OUTER_UM * (1 - 0.9 * loss)
    depth = np.clip((top[None] - height) / np.maximum(top - low - outer, 10.0)[None], 0, 1)
    # The inner layers give way at the fovea; nerve fibres are thicker on the side of the disc.
    fovea = np.exp(-(x**2) / (2 * (0.75 * eye.pit_width) ** 2))
    shares = np.array([share for share, _ in INNER])[:, None] * np.ones_like(x)
    shares[0] *= (1 - 0.95 * fovea) * (1 + 0.5 * np.tanh(eye.nasal * x / 1500))
    shares[1] *= 1 - 0.85 * fovea
    shares[2] *= 1 - 0.8 * fovea
    shares[3] *= 1 - 0.5 * fovea
    edges = np.concatenate([np.zeros((1, x.size)), np.cumsum(shares / shares.sum(axis=0), axis=0)])
    value = np.zeros_like(height)
    for (_, level), start, stop in zip(INNER, edges[:-1], edges[1:], strict=True):
        part = (depth >= start[None]) & (depth <= stop[None])
        value[part] = level
    above = height - low[None]
    stretch = (outer / OUTER_UM)[None]
    photoreceptors = above < outer[None]
    value[photoreceptors] = 0.32
    weak = (1 - loss - 0.5 * (_heights((*eye.material, *eye.scar), x) > 0))[None]
    for place, width, level in LINES:
        line = photoreceptors & (np.abs(above - place * stretch) < width * stretch / 2)
        value[line] = (0.32 + (level - 0.32) * np.broadcast_to(np.clip(weak, 0.05, 1), height.shape))[line]
    value += 0.05 * ndimage.gaussian_filter(rng.standard_normal(height.shape), (1.0, 6.0)) * 4
    grey[inside] = value[inside]
    labels[inside] = NUMBER["retina"]
    rim = (height >= top[None] - 7) & (height < top[None])
    grey[rim] = np.maximum(grey[rim], 0.62)


def _cysts(
    rng: np.random.Generator,
    eye: Eye,
    x: np.ndarray,
    height: np.ndarray,
    surfaces: Surfaces,
    grey: np.ndarray,
    labels: np.ndarray,
) -> None:
    for cyst in eye.cysts:
        column = int(np.clip(np.searchsorted(x, cyst.centre), 0, x.size - 1))
        low, top = surfaces.outer[column] + OUTER_UM, surfaces.inner[column]
        middle = top - cyst.depth * (top - low)
        tall = min(cyst.height, 0.42 * (top - low))
        inside = ((x[None] - cyst.centre) / cyst.half) ** 2 + ((height - middle) / tall) ** 2 <= 1
        inside &= labels == NUMBER["retina"]
        grey[inside] = FLUID + 0.02
        labels[inside] = NUMBER["intraretinal fluid"]


def _shadows(
    rng: np.random.Generator, eye: Eye, x: np.ndarray, height: np.ndarray, surfaces: Surfaces, grey: np.ndarray
) -> None:
    """Retinal vessels and hyperreflective foci: bright, and dark below."""
    for _ in range(int(rng.integers(3, 8))):
        centre, half = rng.uniform(-1, 1) * x.max(), rng.uniform(22, 48)
        if abs(centre) < eye.pit_width:
            continue
        column = int(np.clip(np.searchsorted(x, centre), 0, x.size - 1))
        place = surfaces.inner[column] - rng.uniform(25, 55)
        vessel = ((x[None] - centre) / half) ** 2 + ((height - place) / half) ** 2 <= 1
        grey[vessel] = 0.68
        stripe = np.exp(-((x - centre) ** 2) / (2 * (0.8 * half) ** 2))[None]
        grey[:] = np.where(height < place, grey * (1 - 0.42 * stripe), grey)
    for centre, depth in eye.foci:
        column = int(np.clip(np.searchsorted(x, centre), 0, x.size - 1))
        low, top = surfaces.outer[column], surfaces.inner[column]
        place, half = top - depth * (top - low), rng.uniform(18, 34)
        spot = ((x[None] - centre) / half) ** 2 + ((height - place) / (0.7 * half)) ** 2 <= 1
        grey[spot] = 0.92
        stripe = np.exp(-((x - centre) ** 2) / (2 * half**2))[None]
        grey[:] = np.where(height < place - half, grey * (1 - 0.3 * stripe), grey)


def expose(
    rng: np.random.Generator, eye: Eye, grey: np.ndarray, labels: np.ndarray, frame: Frame
) -> tuple[np.ndarray, np.ndarray]:
    """What the machine makes of the reflectivity: blur, attenuation, speckle, noise, log compression.

    Returns:
        The picture, uint8, and the labels, which move with the eye.
    """
    frames = float(rng.uniform(2.5, 14))
    gain, dim = rng.uniform(0.92, 1.08), np.ones(grey.shape[1])
    if not eye.gradable:
        fault = int(rng.integers(3))
        gain = rng.uniform(0.3, 0.42) if fault == 0 else 0.8
        if fault == 1:
            # The beam is blocked over most of the picture (lid, dense vitreous opacity).
            centre = rng.uniform(0.2, 0.8) * dim.size
            dim = 1 - 0.93 * np.exp(-(((np.arange(dim.size) - centre) / (0.42 * dim.size)) ** 4))
        if fault == 2:
            # The eye moved and was out of focus: columns shift against each other.
            jumps = np.cumsum(rng.random(dim.size) < 0.06)
            shifts = np.rint(rng.normal(0, 16, int(jumps.max()) + 1)).astype(int)
            grey, labels = (
                np.stack([np.roll(array[:, c], shifts[jumps[c]]) for c in range(dim.size)], axis=1)
                for array in (grey, labels)
            )
            grey = ndimage.gaussian_filter(grey, (4.5, 5.0))
            frames = 3.0
    elif rng.random() < 0.25:
        dim = 1 - rng.uniform(0.1, 0.35) * np.linspace(*((0, 1) if rng.random() < 0.5 else (1, 0)), dim.size)
    grey = ndimage.gaussian_filter(grey, (4.5 / frame.deep_um, 9.0 / frame.wide_um))
    # Grey is the logarithm of intensity over about four decades; speckle multiplies the intensity.
    intensity = 10.0 ** (4.0 * np.clip(grey * gain * dim[None], 0, 1.1))
    speckle = rng.gamma(frames, 1 / frames, grey.shape)
    speckle = ndimage.gaussian_filter(speckle, (0.45, 0.6))
    floor = 10.0 ** rng.uniform(0.45, 0.8)
    noise = floor * rng.gamma(frames / 2, 2 / frames, grey.shape)
    shown = np.log10(intensity * speckle + noise) / 4.0
    low = np.log10(floor) / 4.0 - 0.03
    return np.rint(255 * np.clip((shown - low) / (0.97 - low), 0, 1)).astype(np.uint8), labels


def _profile(mound: Mound, x: np.ndarray) -> np.ndarray:
    return mound.height * np.clip(1 - ((x - mound.centre) / mound.half) ** 2, 0, 1) ** mound.power


def _lift(mounds: tuple[Mound, ...], x: np.ndarray) -> np.ndarray:
    return np.max([np.zeros_like(x), *(_profile(mound, x) for mound in mounds)], axis=0)


def _heights(patches: tuple[Patch, ...], x: np.ndarray) -> np.ndarray:
    shapes = (patch.height * np.clip(1 - ((x - patch.centre) / patch.half) ** 2, 0, 1) ** 0.8 for patch in patches)
    return np.max([np.zeros_like(x), *shapes], axis=0)


def _spread(patches: tuple[Patch, ...], x: np.ndarray, soft: float) -> np.ndarray:
    """1 inside a patch, 0 outside, with an edge of `soft` micrometres; half-way at the edge itself."""
    shapes = (0.5 - 0.5 * np.tanh((np.abs(x - patch.centre) - patch.half) / (soft / 2)) for patch in patches)
    return np.max([np.zeros_like(x), *shapes], axis=0)


def _wander(rng: np.random.Generator, x: np.ndarray, size: float, length: float) -> np.ndarray:
    """A smooth random line of that standard deviation and correlation length."""
    step = float(x[1] - x[0])
    line = ndimage.gaussian_filter1d(rng.standard_normal(x.size), max(length / step / 2, 0.5), mode="reflect")
    return size * line / max(float(line.std()), 1e-9)
