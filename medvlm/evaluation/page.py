"""One page an evaluation: bars with intervals, tables, the worst cases with their pictures. It needs no other file."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, TypeVar

import medvlm
from medvlm.evaluation.bootstrap import Interval
from medvlm.evaluation.table import gain, percent
from medvlm.storage import write_text

WORST = 20
MEANING = "what it is"
PICTURE_SIDE = 360


class OfPatient(Protocol):
    """Anything that belongs to a patient."""

    @property
    def patient(self) -> str: ...


Row = TypeVar("Row", bound=OfPatient)


@dataclass(frozen=True)
class Bar:
    """One bar with its interval."""

    label: str
    value: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Bars over one axis of shares; `low` and `high` are its ends."""

    title: str
    bars: tuple[Bar, ...]
    note: str = ""

    @property
    def low(self) -> float:
        return -1.0 if any(bar.low < -0.5 for bar in self.bars) else -0.5 if any(b.low < 0 for b in self.bars) else 0.0

    @property
    def high(self) -> float:
        return 1.0

    @property
    def ticks(self) -> tuple[float, ...]:
        return tuple(tick / 4 for tick in range(int(4 * self.low), 5))


@dataclass(frozen=True)
class Table:
    """A table of text."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


class Judged(Protocol):
    """An answer to a question about a patient, as every evaluation has."""

    @property
    def id(self) -> str: ...
    @property
    def patient(self) -> str: ...
    @property
    def question(self) -> str: ...
    @property
    def truth(self) -> str: ...
    @property
    def answer(self) -> str: ...


@dataclass(frozen=True)
class CaseView:
    """One wrong answer; `images` are data addresses, `more` further lines."""

    id: str
    lines: tuple[tuple[str, str], ...]
    images: tuple[str, ...] = ()
    # Lines in the colour of what is right and of what is wrong.
    right: str = "truth"
    wrong: str = "answer"


def answer_view(row: Judged, picture: Path | None, *more: tuple[str, str]) -> CaseView:
    """A wrong answer with its question, its truth and its picture."""
    lines = (("question", row.question), ("truth", row.truth), ("answer", row.answer), *more)
    return CaseView(row.id, lines, () if picture is None else (picture_address(picture),))


@dataclass(frozen=True)
class Page:
    """Everything that is shown."""

    title: str
    about: tuple[str, ...]
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    cases: tuple[CaseView, ...] = ()
    cases_title: str = "The worst cases"
    cases_note: str = ""
    signatures: tuple[str, ...] = ()
    # Columns of sentences, set from the left.
    wordy: tuple[str, ...] = (MEANING,)


def write_page(page: Page, path: Path) -> None:
    """Write one HTML file."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("medvlm.evaluation", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    write_text(path, environment.get_template("page.html").render(page=page, version=medvlm.__version__))


def bars(rows: Mapping[Any, Interval | None], signed: bool = False) -> tuple[Bar, ...]:
    """Intervals as bars; `signed` writes differences in points."""
    return tuple(
        Bar(words(str(name)), row.value, row.low, row.high, gain(row) if signed else percent(row.value))
        for name, row in rows.items()
        if row is not None
    )


def words(name: str) -> str:
    """`low_confidence` as `low confidence`."""
    return name.replace("_", " ")


def explained(
    title: str,
    name: str,
    rows: Mapping[Any, Interval | None],
    meaning: Mapping[str, str],
    signed: Sequence[str] = (),
) -> Table:
    """A table of intervals with what each is; those in `signed` are differences in points."""
    texts = {key: gain(row) if row is not None and key in signed else interval_text(row) for key, row in rows.items()}
    cells = tuple((words(key), text, meaning[key]) for key, text in texts.items())
    return Table(title, (name, "value (95 % CI)", MEANING), cells)


def interval_text(row: Interval | None) -> str:
    """`71 % (63 to 79)`."""
    if row is None:
        return "-"
    return f"{100 * row.value:.1f} % ({100 * row.low:.1f} to {100 * row.high:.1f})"


def picture_address(path: Path) -> str:
    """A picture, made small, as a data address; empty where it cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            small = image.convert("RGB")
    except OSError:
        return ""
    small.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    buffer = BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def worst_cases(rows: Sequence[Row], view: Callable[[Row], CaseView], limit: int = WORST) -> tuple[CaseView, ...]:
    """The first rows in order as cases, different patients before second cases of one; only these are drawn."""
    seen: Counter[str] = Counter()
    ranked = []
    for number, row in enumerate(rows):
        seen[row.patient] += 1
        ranked.append((seen[row.patient], number, row))
    return tuple(view(row) for _, _, row in sorted(ranked, key=lambda item: item[:2])[:limit])
