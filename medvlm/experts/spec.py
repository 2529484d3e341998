"""`findings.yaml`: what an expert is for, where it may be used, and which of its outputs become which Findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml

from medvlm.errors import MedVLMError

T = TypeVar("T")
RuleKind = Literal["components", "region", "ratio", "class"]


@dataclass(frozen=True)
class Applies:
    """Where the expert may be used; every limit that is set is checked before a run.

    Attributes:
        unit: unit the voxels must have (`HU`), or `""`.
        min_slices: slices along the longest-spaced axis.
        max_spacing: largest voxel edge in millimetres.
        min_extent: smallest `(x, y, z)` extent in millimetres, along the RAS axes.
        air_inside: lowest and highest share of air inside the outline of the body (lungs in a chest CT).
        colour: True or False where the number of channels matters.
    """

    unit: str = ""
    min_slices: int = 1
    max_spacing: float | None = None
    min_extent: tuple[float, float, float] | None = None
    air_inside: tuple[float, float] | None = None
    colour: bool | None = None


@dataclass(frozen=True)
class Site:
    """A structure that stands for a place: code keys of the place and of its side."""

    code: str = ""
    side: str = ""


@dataclass(frozen=True)
class Rule:
    """How one kind of output becomes Findings.

    Attributes:
        kind: `components` (one Finding an object), `region` (one a side, or one in all), `ratio` (a width or area
            over another), `class` (the predicted class of the image).
        argument: the trigger's argument that asks for these Findings.
        concept: key of the code in `medvlm/findings/codes.csv`.
        id: prefix of the Findings' ids.
        label: name of the structure in the network's outputs.
        sites: structure name → the place it stands for; an object lies where most of its surroundings are.
        sides: structures that span the body from side to side; a region is right or left of their middle.
        measurements: keys of the numbers to give (`long_axis`, `short_axis`, `volume`, `mean`).
        minimum_mm: smallest long axis of an object.
        minimum_ml: smallest volume of an object or region.
        minimum_peak: smallest peak probability of an object.
        level: an object is drawn where its interpolated probability exceeds this; below 0.5 where a network that
            rarely sees the object is shy of it.
        grades: grade → median intensity below which it holds; the first that holds is given.
        numerator, denominator: structures of a ratio.
        measure: key of the ratio's code (`cardiothoracic_ratio`, `area_ratio`).
        threshold: the ratio above which the concept is present; without one it is always present.
        tolerance: standard error of the ratio; gives the probability that it is above the threshold.
    """

    kind: RuleKind
    argument: str
    concept: str
    id: str
    label: str = ""
    sites: Mapping[str, Site] = field(default_factory=dict)
    sides: tuple[str, ...] = ()
    measurements: tuple[str, ...] = ("long_axis", "short_axis", "volume")
    minimum_mm: float = 0.0
    minimum_ml: float = 0.0
    minimum_peak: float = 0.5
    level: float = 0.5
    grades: Mapping[str, float] = field(default_factory=dict)
    numerator: tuple[str, ...] = ()
    denominator: tuple[str, ...] = ()
    measure: str = ""
    threshold: float | None = None
    tolerance: float = 0.02


@dataclass(frozen=True)
class FindingsSpec:
    """The whole of `findings.yaml`."""

    name: str
    task: Literal["segmentation", "classification"]
    summary: str
    modality: tuple[str, ...]
    body_part: tuple[str, ...]
    arguments: Mapping[str, str]
    rules: tuple[Rule, ...]
    applies: Applies = Applies()
    accuracy: tuple[str, ...] = ()
    limits: str = ""
    licence: str = ""


def read_spec(path: Path) -> FindingsSpec:
    """Read and check a `findings.yaml`.

    Raises:
        MedVLMError: missing, not YAML, an unknown or missing key, or a rule for an argument that is not declared.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MedVLMError(f"{path}: no such file; it says which outputs become which findings.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MedVLMError(f"{path}: not valid YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(data, dict):
        raise MedVLMError(f"{path}: expected keys such as 'name', 'arguments' and 'rules'.")
    rules = tuple(_rule(row, f"{path}, rule {number}") for number, row in enumerate(data.get("rules") or (), start=1))
    applies = _build(Applies, data.get("applies") or {}, f"{path}, applies")
    spec = _build(FindingsSpec, {**data, "rules": rules, "applies": applies}, str(path))
    for rule in spec.rules:
        if rule.argument not in spec.arguments:
            raise MedVLMError(f"{path}: rule '{rule.id}' is for the argument '{rule.argument}', which is not declared.")
    return spec


def _rule(data: Any, where: str) -> Rule:
    rule = _build(Rule, data, where)
    sites = {name: _build(Site, place, f"{where}, site '{name}'") for name, place in rule.sites.items()}
    if rule.kind not in get_args(RuleKind):
        raise MedVLMError(f"{where}: kind is one of {', '.join(get_args(RuleKind))}, not '{rule.kind}'.")
    return replace(rule, sites=sites)


def _build(kind: type[T], data: Any, where: str) -> T:
    """A frozen dataclass from a YAML mapping: lists become tuples, unknown keys are refused by name."""
    if not isinstance(data, dict):
        raise MedVLMError(f"{where}: expected a mapping, got {type(data).__name__}.")
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - known)
    if unknown:
        raise MedVLMError(f"{where}: unknown key '{unknown[0]}' (known: {', '.join(sorted(known))}).")
    try:
        return kind(**{key: tuple(item) if isinstance(item, list) else item for key, item in data.items()})
    except TypeError as error:
        raise MedVLMError(f"{where}: {error}.") from None
