"""`study.yaml` → StudySpec: everything a coordinator decides, checked before anything is planned."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from medvlm.errors import MedVLMError
from medvlm.reader_study.forms import Form, load_form

DesignKind = Literal["crossed", "split-plot", "anchor-rotate", "pairwise"]
DESIGNS = ("crossed", "split-plot", "anchor-rotate", "pairwise")
Role = Literal["main", "training", "calibration", "probe"]
ROLES = ("main", "training", "calibration", "probe")
FORMATS = ("html", "redcap", "labelstudio", "xlsx")


@dataclass(frozen=True)
class Reader:
    """One reader; `name` never leaves the coordinator's folder."""

    id: str
    group: str = "readers"
    name: str = ""


@dataclass(frozen=True)
class Source:
    """What wrote the reports (a model, people), or a way of reading (with or without AI).

    Attributes:
        reports: folder of report folders, CSV, JSON or JSONL; empty for a reading of the images alone.
        labels: further words that would give the source away (model names, sites); never in a packet.
    """

    id: str
    kind: Literal["ai", "human", "reading"] = "ai"
    reports: str = ""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One case. `truth` is 0 or 1 where a reference exists; `secrets` are identifiers that must not be exported."""

    id: str
    patient: str = ""
    stratum: str = ""
    truth: float | None = None
    image: str = ""
    role: Role | None = None
    reference: str = ""
    secrets: tuple[str, ...] = ()

    @property
    def cluster(self) -> str:
        """The patient, or the case itself."""
        return self.patient or self.id


@dataclass(frozen=True)
class Design:
    """How readers meet cases and sources.

    Attributes:
        anchor: cases that every reader reads (anchor-rotate).
        readings: readers for each other case (anchor-rotate).
        blocks: blocks of readers, each with its own cases (split-plot).
    """

    kind: DesignKind = "crossed"
    anchor: int = 0
    readings: int = 2
    blocks: int = 2


@dataclass(frozen=True)
class Sessions:
    """Limits of the sittings. `start` is the first day; sessions of a period are `gap_days` apart."""

    max_items: int = 50
    washout_days: int = 14
    gap_days: int = 1
    minutes_per_item: float = 2.0
    start: datetime.date | None = None
    end: datetime.date | None = None
    max_sessions: int | None = None


@dataclass(frozen=True)
class Pictures:
    """How images are shown. Longer sides are made smaller to `max_side`; volumes are thinned to `max_slices`."""

    max_side: int = 512
    max_slices: int = 64


@dataclass(frozen=True)
class Endpoint:
    """The primary question and what is to be shown.

    Attributes:
        question: id of the question; `metric` mean or auc.
        margin: non-inferiority margin (in units of the metric), or None.
        difference: the difference that the study should be able to see.
        components: variance components for the power; see `power.py`.
        pilot: an iMRMC, RJafroc or CSV file from which components are estimated.
        reference: the source that others are compared with.
    """

    question: str = ""
    metric: Literal["mean", "auc"] = "mean"
    alpha: float = 0.05
    margin: float | None = None
    difference: float | None = None
    reference: str = ""
    components: Mapping[str, float] = field(default_factory=dict)
    pilot: str = ""


@dataclass(frozen=True)
class StudySpec:
    """A whole study as designed. `folder` is where relative paths start."""

    name: str
    readers: tuple[Reader, ...]
    sources: tuple[Source, ...]
    cases: tuple[Case, ...]
    form: Form
    endpoint: Endpoint
    design: Design = Design()
    sessions: Sessions = Sessions()
    pictures: Pictures = Pictures()
    title: str = ""
    seed: int = 0
    training: int = 0
    calibration: int = 0
    duplicates: float = 0.0
    probes: int = 0
    probe_types: tuple[str, ...] = ()
    formats: tuple[str, ...] = FORMATS
    sensitive: tuple[str, ...] = ()
    folder: Path = Path()

    def source(self, name: str) -> Source:
        """The source of that id."""
        return next(source for source in self.sources if source.id == name)

    def case(self, name: str) -> Case:
        """The case of that id."""
        return next(case for case in self.cases if case.id == name)


_KEYS = {item.name for item in fields(StudySpec)} - {"folder"} | {"groups"}
_Part = TypeVar("_Part")


def load_study_spec(path: Path) -> StudySpec:
    """Read `study.yaml`.

    Raises:
        MedVLMError: the file, a key or a value is not as it should be (names it and what would be).
    """
    path = Path(path)
    path = path / "study.yaml" if path.is_dir() else path
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise MedVLMError(f"{path}: no such file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MedVLMError(f"{path}: not valid YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(data, dict):
        raise MedVLMError(f"{path}: a study is a mapping of keys.")
    return study_spec(data, path.parent, str(path))


def study_spec(data: Mapping[str, Any], folder: Path, where: str = "study") -> StudySpec:
    """A spec from the mapping that `study.yaml` holds; see `load_study_spec`."""
    from medvlm.reader_study.case_table import read_cases

    unknown = set(data) - _KEYS
    if unknown:
        raise MedVLMError(f"{where}: unknown key '{sorted(unknown)[0]}'; there are: {', '.join(sorted(_KEYS))}.")
    for key in ("name", "readers", "sources", "cases", "form"):
        if not data.get(key):
            raise MedVLMError(f"{where}: '{key}' is missing.")
    form = load_form(data["form"], folder)
    endpoint = _part(Endpoint, data.get("endpoint") or {}, f"{where}, endpoint")
    scored = [question for question in form.questions if question.numeric or question.kind == "pairwise"]
    if not endpoint.question and scored:
        endpoint = _part(Endpoint, {**(data.get("endpoint") or {}), "question": scored[0].id}, where)
    form.question(endpoint.question)
    spec = StudySpec(
        name=str(data["name"]),
        title=str(data.get("title", data["name"])),
        readers=_readers(data["readers"], where),
        sources=tuple(_part(Source, row, f"{where}, sources") for row in data["sources"]),
        cases=read_cases(data["cases"], folder),
        form=form,
        endpoint=endpoint,
        design=_part(Design, data.get("design") or {}, f"{where}, design"),
        sessions=_part(Sessions, data.get("sessions") or {}, f"{where}, sessions"),
        pictures=_part(Pictures, data.get("pictures") or {}, f"{where}, pictures"),
        seed=int(data.get("seed", 0)),
        training=int(data.get("training", 0)),
        calibration=int(data.get("calibration", 0)),
        duplicates=float(data.get("duplicates", 0)),
        probes=int(data.get("probes", 0)),
        probe_types=tuple(data.get("probe_types") or ()),
        formats=tuple(data.get("formats") or FORMATS),
        sensitive=tuple(map(str, data.get("sensitive") or ())),
        folder=folder,
    )
    _check(spec, where)
    return spec


def _part(kind: type[_Part], row: Any, where: str) -> _Part:
    """A dataclass from a mapping whose keys are its fields."""
    if not isinstance(row, Mapping):
        raise MedVLMError(f"{where}: expected keys and values, found {type(row).__name__}.")
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
    unknown = set(row) - set(known)
    if unknown:
        raise MedVLMError(f"{where}: unknown key '{sorted(unknown)[0]}'; there are: {', '.join(known)}.")
    missing = [
        name
        for name, item in known.items()
        if name not in row and item.default is MISSING and item.default_factory is MISSING
    ]
    if missing:
        raise MedVLMError(f"{where}: '{missing[0]}' is missing.")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    if "id" in values:
        values["id"] = str(values["id"])
    return kind(**values)


def _readers(rows: Any, where: str) -> tuple[Reader, ...]:
    """A list of readers, or a number for each group: `{senior: 3, junior: 5}`."""
    if isinstance(rows, Mapping):
        if not all(isinstance(count, int) and count > 0 for count in rows.values()):
            raise MedVLMError(f"{where}, readers: give a whole number for each group, or a list of readers.")
        groups = [str(group) for group, count in rows.items() for _ in range(count)]
        return tuple(Reader(f"R{number:02d}", group) for number, group in enumerate(groups, start=1))
    if not isinstance(rows, list):
        raise MedVLMError(f"{where}, readers: give a list of readers or a number for each group.")
    return tuple(
        _part(Reader, row if isinstance(row, Mapping) else {"id": str(row)}, f"{where}, readers") for row in rows
    )


def _check(spec: StudySpec, where: str) -> None:
    for what, names in (
        ("readers", [reader.id for reader in spec.readers]),
        ("sources", [source.id for source in spec.sources]),
        ("cases", [case.id for case in spec.cases]),
    ):
        twice = {name for name in names if names.count(name) > 1} if len(names) < 5000 else set()
        if len(set(names)) != len(names):
            example = f" (for example '{sorted(twice)[0]}')" if twice else ""
            raise MedVLMError(f"{where}, {what}: an id occurs twice{example}.")
        bad = [name for name in names if any(character in name for character in ',"/\\\n\r\t')]
        if bad:
            raise MedVLMError(f"{where}, {what}: '{bad[0]}' has a comma, quote, slash or line break in it.")
    if spec.design.kind not in DESIGNS:
        raise MedVLMError(f"{where}, design: kind '{spec.design.kind}' is none of {', '.join(DESIGNS)}.")
    formats = set(spec.formats) - set(FORMATS)
    if formats:
        raise MedVLMError(f"{where}: format '{formats.pop()}' is none of {', '.join(FORMATS)}.")
    if spec.sessions.max_items < 1 or spec.sessions.minutes_per_item <= 0 or spec.sessions.washout_days < 0:
        raise MedVLMError(f"{where}, sessions: max_items and minutes_per_item must be positive, washout_days not less.")
    reference = spec.endpoint.reference
    if reference and reference not in {source.id for source in spec.sources}:
        raise MedVLMError(f"{where}, endpoint: the reference '{reference}' is no source.")
    paired = spec.form.question(spec.endpoint.question).kind == "pairwise"
    if paired != (spec.design.kind == "pairwise"):
        raise MedVLMError(
            f"{where}: the design is {spec.design.kind} and the endpoint '{spec.endpoint.question}' "
            f"{'is' if paired else 'is not'} a preference; a pairwise design goes with a preference question."
        )
