"""`findings.yaml`: what an expert is for, where it may be used, and which of its outputs become which Findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml

from medvlm.errors import MedVLMError

T = TypeVar("T")
RuleKind = Literal["components", "region", "ratio", "class", "volume", "count", "score"]
Runner = Literal["grid", "chain", "ensemble", "totalsegmentator"]


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
        not_described: words in a series' description that tell that it is something else (`flair`).
    """

    unit: str = ""
    min_slices: int = 1
    max_spacing: float | None = None
    min_extent: tuple[float, float, float] | None = None
    air_inside: tuple[float, float] | None = None
    colour: bool | None = None
    not_described: tuple[str, ...] = ()


@dataclass(frozen=True)
class Channel:
    """One of several series that an expert reads together.

    Attributes:
        name: of the channel (`T1c`).
        words: the series' description holds one of them.
        without: and none of these.
    """

    name: str
    words: tuple[str, ...]
    without: tuple[str, ...] = ()


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
            over another), `class` (the predicted class of the image), `volume` (one Finding a structure, with the
            measurements of the whole of it), `count` (one Finding with the number of objects), `score` (one Finding a
            class with its probability, for networks whose classes do not exclude each other).
        argument: the trigger's argument that asks for these Findings.
        concept: key of the code in `medvlm/findings/codes.csv`.
        id: prefix of the Findings' ids.
        label: name of the structure in the network's outputs, or of a union.
        structures: structure → key of its code, or `""` for a code made from its name; for `volume` and `score`.
        sites: structure name → the place it stands for; an object lies where most of its surroundings are.
        sides: structures that span the body from side to side; a region is right or left of their middle.
        measurements: keys of the numbers to give (`long_axis`, `short_axis`, `volume`, `mean`; of regions `volume`, or
            `area` in a single image).
        widths: grade → extent along x in millimetres up to which it holds, of a region's widest part.
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
        open_ends: end of the volume (`inferior`) → square centimetres of a cut there that do not make a structure
            partial; for what continues beyond every scan (a brainstem into the cord).
        minimum_px: smallest number of voxels or pixels of an object, where millimetres are unknown.
    """

    kind: RuleKind
    argument: str
    id: str
    concept: str = ""
    label: str = ""
    sites: Mapping[str, Site] = field(default_factory=dict)
    sides: tuple[str, ...] = ()
    measurements: tuple[str, ...] = ("long_axis", "short_axis", "volume")
    minimum_mm: float = 0.0
    minimum_ml: float = 0.0
    minimum_peak: float = 0.5
    level: float = 0.5
    grades: Mapping[str, float] = field(default_factory=dict)
    widths: Mapping[str, float] = field(default_factory=dict)
    numerator: tuple[str, ...] = ()
    denominator: tuple[str, ...] = ()
    measure: str = ""
    threshold: float | None = None
    tolerance: float = 0.02
    minimum_px: int = 1
    open_ends: Mapping[str, float] = field(default_factory=dict)
    structures: Mapping[str, str] = field(default_factory=dict)

    def named(self) -> tuple[str, ...]:
        """The structures that this rule reads."""
        names = (self.label, *self.sites, *self.sides, *self.numerator, *self.denominator, *self.structures)
        return tuple(dict.fromkeys(name for name in names if name))


@dataclass(frozen=True)
class FindingsSpec:
    """The whole of `findings.yaml`.

    Attributes:
        name: snake-case name; its upper case is the trigger.
        task: what the network does.
        summary, limits, licence: sentences of the card.
        modality: DICOM modality codes that are read.
        body_part: body parts that are read, lower case; empty for any.
        arguments: argument of the trigger → what it gives.
        rules: which output becomes which Finding.
        applies: where the expert may be used.
        accuracy: the metrics that the card shows.
        unions: name → structures that are one thing together (`whole cell: [nucleus, cytoplasm]`); rules may name it,
            and its Dice is measured.
        runner: what runs the network: `grid` (the `input` block of the config), `chain` (a bundle of MONAI's model zoo
            with its own transforms), `ensemble` (several image classifiers) or `totalsegmentator` (that tool).
        labels: number → name in the final label map, where they are not the network's channels.
        inputs: the series that the expert reads together; empty for one.
        prompt: the network's argument that takes the classes to look for; empty for networks that find all.
        activation: what makes the network's output a probability: `softmax`, `sigmoid`, or `none` where it is one.
        channels: structure or union → channel of the network's output, where they are not the labels.
        requires: Python packages that must be installed, and the extra that brings each.
    """

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
    unions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    runner: Runner = "grid"
    labels: Mapping[int, str] = field(default_factory=dict)
    inputs: tuple[Channel, ...] = ()
    prompt: str = ""
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    channels: Mapping[str, int] = field(default_factory=dict)
    requires: Mapping[str, str] = field(default_factory=dict)

    def rules_of(self, argument: str) -> tuple[Rule, ...]:
        """The rules of an argument; all for `everything` and for none."""
        wanted = argument.strip().lower()
        return tuple(rule for rule in self.rules if wanted in ("", "everything", rule.argument))

    def structures_of(self, argument: str) -> tuple[str, ...]:
        """The structures that the rules of an argument read, unions taken apart; of all rules for `everything`."""
        names = [
            part for rule in self.rules_of(argument) for name in rule.named() for part in self.unions.get(name, (name,))
        ]
        return tuple(dict.fromkeys(names))


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
    unions = {name: tuple(parts) for name, parts in (data.get("unions") or {}).items()}
    inputs = tuple(_build(Channel, row, f"{path}, inputs") for row in data.get("inputs") or ())
    built = {"rules": rules, "applies": applies, "unions": unions, "inputs": inputs}
    spec = _build(FindingsSpec, {**data, **built}, str(path))
    if spec.runner not in get_args(Runner):
        raise MedVLMError(f"{path}: runner is one of {', '.join(get_args(Runner))}, not '{spec.runner}'.")
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
