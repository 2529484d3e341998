"""Rating forms: what a reader is asked about each item, as presets or as the user's own YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from medvlm.errors import MedVLMError

Kind = Literal["likert", "count", "slider", "pairwise", "guess", "spans", "edit", "text"]
KINDS = ("likert", "count", "slider", "pairwise", "guess", "spans", "edit", "text")
NUMERIC = ("likert", "count", "slider")
PRESETS = Path(__file__).parent / "presets"

GUESSES = {"ai": "A machine", "human": "A person", "unsure": "Cannot tell"}
PREFERENCES = {"left": "Left", "equal": "Equally good", "right": "Right"}
# Error categories of the per-sentence marking, each with its nearest ReXVal category.
ERROR_CATEGORIES = {
    "fabrication": ("Finding that is not there", "false report of a finding"),
    "omission": ("Something missing here", "missing finding"),
    "location": ("Wrong place or side", "wrong location"),
    "severity": ("Wrong size, number or severity", "wrong severity"),
    "comparison": ("Wrong comparison with a prior", "comparison"),
    "device": ("Wrong device or line", "false report of a finding"),
    "contradiction": ("Contradicts itself", ""),
    "recommendation": ("Wrong advice", ""),
    "wording": ("Unclear wording", ""),
    "other": ("Other", ""),
}
SIGNIFICANCE = {"significant": "Clinically significant", "insignificant": "Not clinically significant"}


@dataclass(frozen=True)
class Option:
    """One answer: the code that is stored and the words that are shown."""

    code: str
    label: str


@dataclass(frozen=True)
class Question:
    """One question about one item.

    Attributes:
        id: name of the column, `[a-z][a-z0-9_]*`, at most 40 characters.
        kind: `likert` (ordered options), `count` (whole number), `slider` (number), `pairwise` (left, equal, right),
            `guess` (machine, person, unsure), `spans` (marked sentences), `edit` (the report rewritten) or `text`.
        better: which end of the scale is good; only for the words of the report.
    """

    id: str
    kind: Kind
    text: str
    options: tuple[Option, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    required: bool = True
    section: str = ""
    help: str = ""
    better: Literal["high", "low"] = "high"

    @property
    def numeric(self) -> bool:
        """The answer is a number or an ordered category."""
        return self.kind in NUMERIC

    def score(self, code: str) -> float:
        """The number that stands for an answer: the code where codes are numbers, else its rank from 1."""
        if self.kind != "likert":
            return float(code)
        codes = [option.code for option in self.options]
        try:
            values = {item: float(item) for item in codes}
        except ValueError:
            values = {item: float(rank) for rank, item in enumerate(codes, start=1)}
        return values[code]

    def check(self, raw: object) -> tuple[str, str | None]:
        """The stored code of an answer as it came in, and what is wrong with it (or None).

        A label is taken for its code, case and spaces aside; an empty answer is wrong only where one is required.
        """
        text = "" if raw is None else " ".join(str(raw).split())
        if not text:
            return "", f"{self.id} is missing" if self.required else None
        if self.options:
            for option in self.options:
                if text == option.code or text.casefold() == option.label.casefold():
                    return option.code, None
            if text.endswith(".0") and any(text[:-2] == option.code for option in self.options):
                return text[:-2], None
            return text, f"{self.id}: '{text[:40]}' is none of {', '.join(option.code for option in self.options)}"
        if self.kind in ("count", "slider"):
            return self._check_number(text)
        return (str(raw).strip() if self.kind in ("edit", "text") else text), None

    def _check_number(self, text: str) -> tuple[str, str | None]:
        try:
            value = float(text)
        except ValueError:
            return text, f"{self.id}: '{text[:40]}' is not a number"
        low = 0.0 if self.minimum is None else self.minimum
        if value != value or value < low or (self.maximum is not None and value > self.maximum):
            top = "" if self.maximum is None else f" to {self.maximum:g}"
            return text, f"{self.id}: {text[:40]} is outside {low:g}{top}"
        if self.kind == "count" and value != int(value):
            return text, f"{self.id}: {text[:40]} is not a whole number"
        return f"{value:g}", None


@dataclass(frozen=True)
class Form:
    """A titled list of questions; `derived` are scores computed from several answers."""

    id: str
    title: str
    questions: tuple[Question, ...]
    version: str = "1"
    reference: str = ""
    derived: Mapping[str, Any] = field(default_factory=dict)

    def question(self, name: str) -> Question:
        """The question of that id.

        Raises:
            MedVLMError: there is none.
        """
        for question in self.questions:
            if question.id == name:
                return question
        raise MedVLMError(
            f"form {self.id}: no question '{name}'; there are: {', '.join(q.id for q in self.questions)}."
        )

    def to_json(self) -> dict[str, Any]:
        """What the reading room and the packets carry: words and ranges, nothing about the study."""
        rows = []
        for q in self.questions:
            row: dict[str, Any] = {"id": q.id, "kind": q.kind, "text": q.text, "required": q.required}
            row |= {name: getattr(q, name) for name in ("minimum", "maximum", "section", "help") if getattr(q, name)}
            if q.kind in ("count", "slider"):
                row["minimum"] = q.minimum or 0
            if q.options:
                row["options"] = [[option.code, option.label] for option in q.options]
            rows.append(row)
        return {"id": self.id, "title": self.title, "version": self.version, "questions": rows}


def form_from_json(data: Mapping[str, Any], derived: Mapping[str, Any] | None = None) -> Form:
    """The inverse of `Form.to_json`."""
    questions = tuple(
        Question(
            id=row["id"],
            kind=row["kind"],
            text=row["text"],
            options=tuple(Option(*pair) for pair in row.get("options", ())),
            minimum=row.get("minimum"),
            maximum=row.get("maximum"),
            required=row["required"],
            section=row.get("section", ""),
            better=row.get("better", "high"),
        )
        for row in data["questions"]
    )
    return Form(data["id"], data["title"], questions, data["version"], derived=derived or {})


def list_presets() -> list[str]:
    """Names of the forms that come with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_form(name: str | Path, beside: Path = Path()) -> Form:
    """A preset by name, or a YAML file (relative to `beside`).

    Raises:
        MedVLMError: no such preset or file, or a question is not well formed (names it).
    """
    path = PRESETS / f"{name}.yaml"
    if not path.is_file():
        path = beside / name
    if not path.is_file():
        raise MedVLMError(f"form '{name}' is neither a file nor a preset ({', '.join(list_presets())}).")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise MedVLMError(f"{path}: not valid YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(data, dict) or not data.get("questions"):
        raise MedVLMError(f"{path}: a form needs 'questions'.")
    questions = tuple(_question(row, data.get("scales") or {}, path) for row in data["questions"])
    names = [question.id for question in questions]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise MedVLMError(f"{path}: two questions are called '{twice.pop()}'.")
    identifier = str(data.get("id", path.stem))
    return Form(
        identifier,
        str(data.get("title", identifier)),
        questions,
        str(data.get("version", "1")),
        str(data.get("reference", "")),
        data.get("derived") or {},
    )


_FIELDS = {"id", "kind", "scale", "options", "text", "minimum", "maximum", "required", "section", "help", "better"}


def _question(row: Any, scales: Mapping[str, Any], path: Path) -> Question:
    if not isinstance(row, dict) or "id" not in row or "text" not in row:
        raise MedVLMError(f"{path}: a question needs 'id', 'kind' and 'text'.")
    name = str(row["id"])
    if set(row) - _FIELDS:
        raise MedVLMError(f"{path}, question {name}: unknown key '{sorted(set(row) - _FIELDS)[0]}'.")
    good = name.isascii() and name.replace("_", "").isalnum() and name[0].isalpha() and name == name.lower()
    if not good or len(name) > 40:
        raise MedVLMError(f"{path}: '{name}' is not a column name: small letters, digits and _, at most 40.")
    kind = row.get("kind")
    if kind not in KINDS:
        raise MedVLMError(f"{path}, question {name}: kind '{kind}' is none of {', '.join(KINDS)}.")
    given = row.get("options") or scales.get(row.get("scale", ""), {})
    fixed: dict[Any, dict[Any, Any]] = {"guess": GUESSES, "pairwise": PREFERENCES}
    options: dict[Any, Any] = fixed.get(kind) or given or {}
    if kind == "likert" and len(options) < 2:
        raise MedVLMError(f"{path}, question {name}: a likert question needs 'options' or a known 'scale'.")
    return Question(
        id=name,
        kind=kind,
        text=str(row["text"]),
        options=tuple(Option(_plain(code), _plain(label)) for code, label in dict(options).items()),
        minimum=row.get("minimum"),
        maximum=row.get("maximum", 100 if kind == "slider" else None),
        required=bool(row.get("required", kind not in ("text", "spans", "edit"))),
        section=str(row.get("section", "")),
        help=str(row.get("help", "")),
        better=row.get("better", "high"),
    )


def _plain(value: Any) -> str:
    """Text of a YAML value; a bare yes or no is read by YAML as true or false."""
    return {True: "Yes", False: "No"}[value] if isinstance(value, bool) else str(value)
