"""What a curriculum file says: where the cases come from, what is asked of them, and the stages in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml

from medvlm.content import find_content
from medvlm.errors import MedVLMError
from medvlm.storage import read_json

Objective = Literal["contrastive", "finetune", "preference", "policy"]
Order = Literal["standard", "conclusion_first", "random", "subset", "mixed"]
Kind = Literal["pathway", "caption", "plain", "expert"]
Turned = Literal["no", "mirrored", "square"]
OTHER_PICTURES = ("blank", "shuffled", "wrong_window")
T = TypeVar("T")


@dataclass(frozen=True)
class Cases:
    """Where pictures and their true symbols come from.

    Attributes:
        phantom: a built-in phantom, made when the curriculum runs (`marrow`, `oct`, `chest-ct`).
        cohort: a folder with cohort.json instead, such as `medvlm data prepare` writes.
        patients: size of the phantom cohort.
        seed: of the phantom cohort; None takes the curriculum's.
        concept: concept whose grade is the class of a study; empty: the study's own variables, or the pathway's
            bindings of its true findings, fill the slots.
        classes: class → slot → symbol; what follows by the pathway's rules is filled in.
        given: slot → symbol that holds for every study.
        expert: expert whose findings conversations of the kind `expert` show; it reads all studies once.
        turned: training pictures are also shown `mirrored` (left to right) or turned to all eight sides (`square`).
        cropped: cut the dark margins above and below the picture.
        spoilt: share of the studies that give one more case, a picture that is out of focus.
        unreadable: slot → symbol of such a case.
    """

    phantom: str = ""
    cohort: str = ""
    patients: int = 300
    seed: int | None = None
    concept: str = ""
    classes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    expert: str = ""
    turned: Turned = "no"
    cropped: bool = False
    spoilt: float = 0.0
    unreadable: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """One kind of conversation.

    Attributes:
        kind: `pathway` (its questions), `caption` (the reference report in words), `plain` (questions of
            questions.yaml, answered from the picture) or `expert` (the same with the expert on offer).
        slots: what is asked; empty asks all of the pathway.
        order: of the questions.
        hint: `none`, `right`, `misleading`, `confirm_right`, `confirm_misleading` or `mixed`.
        per_study: conversations a study.
        wordings: use only so many wordings of each question and answer; 0 uses all. Few words are learnt sooner.
        questions: ask at most so many of the slots, drawn for each conversation; 0 asks all.
        share: share of the training patients that it is made for, 0..1.
        practice: `expert`: conversations with made-up findings and no picture, a study.
    """

    kind: Kind = "pathway"
    slots: tuple[str, ...] = ()
    order: Order = "standard"
    hint: str = "none"
    per_study: int = 1
    wordings: int = 0
    questions: int = 0
    share: float = 1.0
    practice: int = 0


@dataclass(frozen=True)
class Skill:
    """One thing the model is tested on after every stage: greedy answers to held-out patients.

    Attributes:
        source: which conversations.
        slots: which of their questions count; empty counts all.
        heldout: ask (and accept) wordings that no training conversation has.
    """

    source: str
    slots: tuple[str, ...] = ()
    heldout: bool = False


@dataclass(frozen=True)
class Stop:
    """When a stage ends before its last epoch, by a skill on the validation patients after each epoch.

    Attributes:
        skill: which skill.
        reached: share of right answers (0..1) that is enough.
        patience: epochs without a new best after which it ends; 0 waits for ever.
        at_most: conversations that are asked each time.
    """

    skill: str
    reached: float = 1.0
    patience: int = 0
    at_most: int = 200


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        id: name of its folder.
        objective: `contrastive` (pictures against descriptions of their symbols), `finetune`, `preference` (pairs from
            the model's own answers) or `policy`.
        sources: source → weight; a weight of 2 shows each of its conversations twice an epoch, 0.5 half of them.
        replay: share of the conversations of earlier stages that is shown again.
        gate: skill → accuracy (0..1) below which the curriculum stops after this stage.
        stop: when the stage ends early.
        start: begin with the model of this earlier stage, or `new` for the one before all stages, instead of with the
            stage before; so one file holds arms that are compared.
        tested: test the skills after the stage.
        group: preference: conversations sampled for each script to find pairs.
        images: preference: other pictures that the right answers are set against (`blank`, `shuffled`, `wrong_window`).
        settings: options of `medvlm fit`, such as `trainer.max_epochs: 4`.
    """

    id: str
    objective: Objective = "finetune"
    sources: Mapping[str, float] = field(default_factory=dict)
    replay: float = 0.0
    gate: Mapping[str, float] = field(default_factory=dict)
    stop: Stop | None = None
    start: str = ""
    tested: bool = True
    group: int = 4
    images: tuple[str, ...] = ("blank", "shuffled")
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Curriculum:
    """A whole curriculum.

    Attributes:
        id, title: its name and one line about it.
        pathway: the guideline that asks and scores.
        cases: where pictures come from.
        model: `tiny` or a model that `medvlm fit --model.name` takes.
        tiny_config: sizes of `tiny`.
        sources, skills, stages: by name, and in order.
        settings: options of `medvlm fit` for every stage.
        seed: of everything random.
        path: the file.
    """

    id: str
    title: str
    pathway: str
    cases: Cases
    sources: Mapping[str, Source]
    skills: Mapping[str, Skill]
    stages: tuple[Stage, ...]
    model: str = "tiny"
    tiny_config: str = "models/tiny.yaml"
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    path: Path = Path()

    def on(self, cohort: str) -> Curriculum:
        """The same on another cohort; on its own where none is named."""
        return replace(self, cases=replace(self.cases, phantom="", cohort=cohort)) if cohort else self

    def before(self, stage: Stage) -> tuple[Stage, ...]:
        """The stages that a stage builds on, in order; side branches are left out."""
        place = {item.id: number for number, item in enumerate(self.stages)}
        number = place[stage.id]
        start = stage.start or (self.stages[number - 1].id if number else "new")
        if start == "new":
            return ()
        parent = self.stages[place[start]]
        return (*self.before(parent), parent)


def load_curriculum(name: str | Path) -> Curriculum:
    """Read a curriculum by name, folder or file.

    Raises:
        MedVLMError: no such curriculum, an unknown key, or a name that is nowhere defined.
    """
    path = find_content("curricula", name)
    path = path / "curriculum.yaml" if path.is_dir() else path
    if not path.is_file():
        raise MedVLMError(f"{path.parent}: has no curriculum.yaml; give a folder that has one.")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise MedVLMError(f"{path}: not YAML ({' '.join(str(error).split())[:160]}).") from None
    if not isinstance(data, dict):
        raise MedVLMError(f"{path}: a curriculum is a mapping with pathway, cases, sources, skills and stages.")
    data = dict(data)
    data["cases"] = _build(Cases, data.get("cases"), f"{path}, cases")
    for key, kind in (("sources", Source), ("skills", Skill)):
        rows = data.get(key) or {}
        if not isinstance(rows, dict):
            raise MedVLMError(f"{path}, {key}: expected a mapping of names.")
        data[key] = {name: _build(kind, row, f"{path}, {key}.{name}") for name, row in rows.items()}
    stages = [_stage(row, f"{path}, stage {number}") for number, row in enumerate(data.get("stages") or [], 1)]
    curriculum = _build(Curriculum, data | {"stages": tuple(stages), "path": path}, str(path))
    _check(curriculum)
    return curriculum


def _stage(row: Any, where: str) -> Stage:
    if isinstance(row, dict) and row.get("stop") is not None:
        row = row | {"stop": _build(Stop, row["stop"], f"{where}, stop")}
    return _build(Stage, row, where)


def _build(kind: type[T], data: Any, where: str) -> T:
    """A dataclass from a mapping; lists become tuples."""
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(data, dict):
        raise MedVLMError(f"{where}: expected a mapping with keys among {', '.join(sorted(known))}.")
    unknown = sorted(set(data) - known)
    if unknown:
        raise MedVLMError(f"{where}: unknown key '{unknown[0]}'; known are {', '.join(sorted(known - {'path'}))}.")
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in data.items()})
    except TypeError as error:
        missing = str(error).rpartition("argument")[2].lstrip("s: ")
        raise MedVLMError(f"{where}: {missing} is missing.") from None


def _check(curriculum: Curriculum) -> None:
    """Names that refer to each other exist."""
    path = curriculum.path
    if not curriculum.stages:
        raise MedVLMError(f"{path}: has no stages.")
    if bool(curriculum.cases.phantom) == bool(curriculum.cases.cohort):
        raise MedVLMError(f"{path}: cases come from one of 'phantom' and 'cohort'.")
    ids = [stage.id for stage in curriculum.stages]
    for stage in curriculum.stages:
        where = f"{path}, stage '{stage.id}'"
        if ids.count(stage.id) > 1:
            raise MedVLMError(f"{where}: two stages have this id.")
        if stage.objective not in get_args(Objective):
            raise MedVLMError(
                f"{where}: objective is one of {', '.join(get_args(Objective))}, not '{stage.objective}'."
            )
        if not stage.sources:
            raise MedVLMError(f"{where}: has no sources.")
        for name in stage.sources:
            _known(name, curriculum.sources, f"{where}, sources")
        if stage.gate and not stage.tested:
            raise MedVLMError(f"{where}: a gate needs the stage's tests; leave 'tested: false' out.")
        for name in stage.images:
            _known(name, dict.fromkeys(OTHER_PICTURES), f"{where}, images")
        for name in stage.gate:
            _known(name, curriculum.skills, f"{where}, gate")
        if stage.start:
            _known(stage.start, dict.fromkeys(["new", *ids[: ids.index(stage.id)]]), f"{where}, start")
        if stage.stop is not None:
            _known(stage.stop.skill, curriculum.skills, f"{where}, stop")
    for name, skill in curriculum.skills.items():
        _known(skill.source, curriculum.sources, f"{path}, skill '{name}'")


def _known(name: str, names: Mapping[str, Any], where: str) -> None:
    if name not in names:
        raise MedVLMError(f"{where}: '{name}' is not defined; defined are {', '.join(names) or 'none'}.")


def read_card(run: Path) -> dict[str, Any]:
    """`card.json` of a run.

    Raises:
        MedVLMError: no finished stage there.
    """
    if not (run / "card.json").is_file():
        raise MedVLMError(f"{run}: no card.json; no stage of a curriculum has finished there.")
    card: dict[str, Any] = read_json(run / "card.json")
    return card
