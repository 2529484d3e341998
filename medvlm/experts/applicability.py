"""Whether an expert may be used on a series: modality, body part, geometry and intensities."""

from __future__ import annotations

import re

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.experts.bundle import Bundle
from medvlm.experts.card import Applicability
from medvlm.experts.domain import check_domain
from medvlm.experts.grid import BODY_THRESHOLD_HU
from medvlm.experts.spec import Channel
from medvlm.imaging.study import Series, Study, Volume


def check_header(bundle: Bundle, series: Series) -> Applicability:
    """What can be decided without reading voxels."""
    spec = bundle.spec
    if series.modality not in spec.modality:
        wanted = " or ".join(code for code in spec.modality if code)  # "": files that carry none are read, too
        found = series.modality or "unknown"
        return Applicability(False, f"the modality is {found}, {spec.name} reads {wanted}")
    if series.body_part and spec.body_part and not any(part in series.body_part for part in spec.body_part):
        return Applicability(False, f"the body part is {series.body_part}, {spec.name} reads {spec.body_part[0]}")
    described = set(re.findall(r"[a-z0-9]+", series.description.lower()))
    if other := sorted(described & set(spec.applies.not_described)):
        return Applicability(False, f"it is described as '{other[0]}', which {spec.name} does not read")
    return Applicability(True, f"{series.modality} {series.body_part}".strip())


def check_volume(bundle: Bundle, volume: Volume) -> Applicability:
    """What needs the voxels: calibration, units, geometry, and whether the intensities look like the body part."""
    limits = bundle.spec.applies
    if limits.colour is not None and limits.colour != volume.is_rgb:
        return Applicability(False, f"the image is {'colour' if volume.is_rgb else 'grey'}")
    if bundle.working is not None and volume.is_rgb != (bundle.working.channels == 3):
        return Applicability(False, "colour pixels, not intensities" if volume.is_rgb else "grey pixels, not colour")
    if bundle.dims == 2:
        slices = volume.array.shape[2]
        if slices != 1:
            return Applicability(False, f"{slices} slices instead of one image")
        unlike = check_domain(bundle, volume)
        return Applicability(not unlike, unlike or "one image")
    if not volume.calibrated:
        return Applicability(False, "the voxel size is unknown, so nothing can be measured in millimetres")
    if limits.unit and volume.unit != limits.unit:
        return Applicability(False, f"the intensities are not in {limits.unit}")
    slices = volume.array.shape[int(np.argmax(volume.spacing))]
    if min(slices, *volume.array.shape) < limits.min_slices:
        fewest = min(slices, *volume.array.shape)
        found = "1 slice" if fewest == 1 else f"{fewest} slices"
        return Applicability(False, f"{found}, at least {limits.min_slices} are needed")
    coarsest = float(volume.spacing.max())
    if limits.max_spacing is not None and coarsest > limits.max_spacing:
        return Applicability(False, f"voxels of {coarsest:.1f} mm, at most {limits.max_spacing:g} mm can be read")
    return _check_content(bundle, volume)


def _check_content(bundle: Bundle, volume: Volume) -> Applicability:
    limits = bundle.spec.applies
    canonical = volume.to_canonical()
    extent = canonical.spacing * np.array(canonical.array.shape)
    if limits.min_extent is not None and np.any(extent < limits.min_extent):
        covered, needed = (" x ".join(f"{value:.0f}" for value in values) for values in (extent, limits.min_extent))
        return Applicability(False, f"it covers {covered} mm, at least {needed} mm are needed")
    if limits.air_inside is not None:
        share = air_inside(canonical)
        low, high = limits.air_inside
        if not low <= share <= high:
            return Applicability(False, f"{share:.0%} of the body is air, {low:.0%} to {high:.0%} is expected here")
    if unlike := check_domain(bundle, volume):
        return Applicability(False, unlike)
    return Applicability(True, "modality, geometry and intensities fit")


def air_inside(canonical: Volume) -> float:
    """Share of air inside the outline of the body (lungs in a chest), on a coarse grid.

    The outline of a slice is everything between the first and last dense voxel along both in-plane axes.
    """
    steps = tuple(slice(None, None, max(1, int(4.0 // spacing))) for spacing in canonical.spacing)
    dense = canonical.array[steps] > BODY_THRESHOLD_HU
    inside = np.ones_like(dense)
    for axis in (0, 1):
        inside &= np.maximum.accumulate(dense, axis=axis)
        inside &= np.flip(np.maximum.accumulate(np.flip(dense, axis), axis=axis), axis)
    total = int(inside.sum())
    return float((inside & ~dense).sum() / total) if total else 0.0


def check_series(bundle: Bundle, series: Series) -> Applicability:
    """Header, then voxels; a series that cannot be read is not applicable, with the reader's reason."""
    first = check_header(bundle, series)
    if not first.ok:
        return first
    try:
        volume = series.volume
    except MedVLMError as error:
        return Applicability(False, f"it cannot be read: {error}")
    return check_volume(bundle, volume)


def choose_inputs(bundle: Bundle, study: Study) -> list[Series]:
    """The series of an expert that reads several together, in the order of its channels, all on one grid.

    Raises:
        MedVLMError: a channel has no series, or the series lie on different grids (says which).
    """
    chosen: list[Series] = []
    for channel in bundle.spec.inputs:
        fitting = [one for one in study.series if check_header(bundle, one).ok and _described(one, channel)]
        if not fitting:
            words = " or ".join(channel.words)
            raise MedVLMError(f"the expert {bundle.name} finds no {channel.name} series: none is described as {words}.")
        series = max(fitting, key=lambda one: one.volume.array.shape[2])
        verdict = check_series(bundle, series)
        if not verdict.ok:
            raise MedVLMError(f"the expert {bundle.name} cannot read the {channel.name} series: {verdict.reason}.")
        first = (chosen or [series])[0].volume
        same = first.array.shape == series.volume.array.shape
        if not same or not np.allclose(first.affine, series.volume.affine, atol=1e-2):
            raise MedVLMError(
                f"the expert {bundle.name} reads its series voxel by voxel, but the {channel.name} series lies on "
                "another grid than the first: register and resample them first."
            )
        chosen.append(series)
    return chosen


def _described(series: Series, channel: Channel) -> bool:
    words = set(re.findall(r"[a-z0-9]+", f"{series.description} {series.uid}".lower()))
    return bool(words & set(channel.words)) and not words & set(channel.without)
