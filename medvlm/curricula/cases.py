"""The studies of a curriculum: their pictures, and the true symbols that follow from their findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from medvlm.curricula.pictures import SPOILT, turned_pictures
from medvlm.curricula.spec import Curriculum
from medvlm.errors import MedVLMError
from medvlm.findings.codes import code
from medvlm.findings.finding import read_findings
from medvlm.imaging.cohort import Cohort, CohortEntry, Split, read_cohort
from medvlm.pathways.bindings import bind_findings
from medvlm.pathways.cases import complete
from medvlm.pathways.reward import Scorer
from medvlm.pathways.spec import Symbol
from medvlm.storage import read_json

PHANTOMS = ("marrow", "oct", "chest-ct")
VARIABLES = "variables.json"


@dataclass(frozen=True)
class StudyCase:
    """One picture to ask about.

    Attributes:
        id: of the study, or of its spoilt copy.
        patient, split: of the study.
        pictures: its picture and, for training, the same turned; paths relative to the conversations.
        symbols: slot → true symbol.
    """

    id: str
    patient: str
    split: Split
    pictures: tuple[str, ...]
    symbols: Mapping[str, Symbol]


def given_cohort(curriculum: Curriculum) -> Cohort | None:
    """The cohort that a curriculum names; None where a phantom is to be made.

    Raises:
        MedVLMError: an unknown phantom, or no cohort at the given place.
    """
    cases = curriculum.cases
    if cases.cohort:
        return read_cohort(cases.cohort)
    if cases.phantom not in PHANTOMS:
        raise MedVLMError(f"{curriculum.path}: there is no phantom '{cases.phantom}'; choose {', '.join(PHANTOMS)}.")
    return None


def make_cohort(curriculum: Curriculum, out: Path, workers: int = 1) -> Cohort:
    """The cohort of a curriculum: read, or made (and completed) as a phantom in `out`.

    Raises:
        MedVLMError: as `given_cohort`.
    """
    given, cases = given_cohort(curriculum), curriculum.cases
    if given is not None:
        return given
    seed = curriculum.seed if cases.seed is None else cases.seed
    if cases.phantom == "marrow":
        from medvlm.phantom.marrow import make_marrow_cohort

        return make_marrow_cohort(out, cases.patients, seed)
    from medvlm.phantom.cohort import make_cohort as make_phantoms

    return make_phantoms(out, cases.patients, seed, workers=workers, kind=cases.phantom)


def true_case(curriculum: Curriculum, scorer: Scorer, cohort: Cohort, entry: CohortEntry) -> dict[str, Symbol]:
    """The symbols of a study: what its true findings say, and what follows from that.

    Raises:
        MedVLMError: no truth, or a class that the curriculum does not know.
    """
    if entry.truth is None:
        raise MedVLMError(f"{cohort.root}: study {entry.id} has no true findings to ask about.")
    truth, cases = cohort.root / entry.truth, curriculum.cases
    if cases.concept:
        concept = code(cases.concept)
        named = next((finding.grade for finding in read_findings(truth) if finding.concept == concept), None)
        if named is None or named not in cases.classes:
            known = ", ".join(cases.classes)
            raise MedVLMError(f"{truth}: class '{named}' is not among those of the curriculum: {known}.")
        found = dict(cases.classes[named])
    elif (truth.parent / VARIABLES).is_file():
        found = read_json(truth.parent / VARIABLES)
    else:
        found = {name: _rounded(scorer, name, value) for name, value in _bound(scorer, truth).items()}
    return complete(scorer.checker, found | dict(cases.given))


def _bound(scorer: Scorer, truth: Path) -> dict[str, Symbol]:
    return bind_findings(scorer.pathway, read_findings(truth))


def _rounded(scorer: Scorer, slot: str, value: Symbol) -> Symbol:
    """Numbers as the pathway counts them: whole steps within its range."""
    variable = scorer.pathway.slots[slot].variable
    if variable.type != "number":
        return value
    steps = round(float(value) / variable.step) * variable.step  # type: ignore[arg-type]
    return float(min(max(steps, variable.low), variable.high))


def study_cases(
    curriculum: Curriculum, scorer: Scorer, cohort: Cohort, pictures: Mapping[str, str], data: Path
) -> Iterator[StudyCase]:
    """Every study of a cohort and the spoilt copies of some, with the pictures that training shows.

    Args:
        curriculum: whose cases.
        scorer: of its pathway.
        cohort: the studies.
        pictures: study id → picture, relative to `data`.
        data: folder of the conversations; turned and spoilt pictures are written beside the others.
    """
    cases = curriculum.cases
    for entry in cohort.entries:
        symbols = true_case(curriculum, scorer, cohort, entry)
        yield _case(curriculum, entry, entry.id, pictures[entry.id], symbols, data)
        if Random(f"{curriculum.seed}/spoilt/{entry.id}").random() < cases.spoilt:
            name = f"{entry.id}-{SPOILT}"
            symbols = complete(scorer.checker, dict(cases.unreadable))
            yield _case(curriculum, entry, name, pictures[entry.id], symbols, data)


def _case(
    curriculum: Curriculum, entry: CohortEntry, name: str, picture: str, symbols: Mapping[str, Symbol], data: Path
) -> StudyCase:
    turned = curriculum.cases.turned if entry.split == "train" else "no"
    shown = turned_pictures(data, picture, turned, name if name != entry.id else "", curriculum.cases.cropped)
    return StudyCase(name, entry.patient, entry.split, shown, symbols)
