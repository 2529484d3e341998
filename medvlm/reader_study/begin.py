"""A study folder to start from: study.yaml, the table of cases and the reference reports of a cohort."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medvlm.errors import MedVLMError
from medvlm.storage import atomic_path, write_text

_YAML = """\
# Every key is described in the documentation under "Reader studies".
name: {name}
title: "{title}"
seed: {seed}
readers: {{senior: {senior}, junior: {junior}}}
sources:
  - {{id: vlm, kind: ai, reports: vlm, labels: [medvlm]}}
  - {{id: reference, kind: human, reports: reference.csv}}
cases: cases.csv
form: retinavlm
endpoint: {{question: correctness, difference: 0.5, margin: 0.5, reference: reference}}
training: 1
probes: {probes}
duplicates: 0.1
sessions: {{max_items: 20, washout_days: 14, minutes_per_item: 3}}
"""


@dataclass(frozen=True)
class StudyCase:
    """A case of the new study: where its image is and what the reference report says."""

    id: str
    patient: str
    image: Path
    reference: str
    stratum: str


def write_study_folder(out: Path, name: str, cases: Sequence[StudyCase], readers: int, seed: int) -> Path:
    """Write `study.yaml`, `cases.csv` and `reference.csv`; the model's reports are expected in `vlm/<case>/`.

    Raises:
        MedVLMError: fewer than 6 cases or 2 readers, or `study.yaml` is there already.
    """
    if len(cases) < 6 or readers < 2:
        raise MedVLMError(f"{len(cases)} cases and {readers} readers are too few for a study; take 6 and 2 or more.")
    if (out / "study.yaml").exists():
        raise MedVLMError(f"{out / 'study.yaml'}: exists; nothing is overwritten. Choose a new folder.")
    rows = [["id", "patient", "stratum", "image"]]
    rows += [[case.id, case.patient, case.stratum, str(case.image.resolve())] for case in cases]
    _write_csv(out / "cases.csv", rows)
    _write_csv(out / "reference.csv", [["case", "text"], *([case.id, case.reference] for case in cases)])
    junior = readers // 2
    text = _YAML.format(
        name=name, title=f"Reports of a model and reference reports, {name}", seed=seed, senior=readers - junior,
        junior=junior, probes=2 if len(cases) >= 12 else 0,
    )  # fmt: skip
    write_text(out / "study.yaml", text)
    return out / "study.yaml"


def _write_csv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
