"""Sets on MIMIC-CXR: reports, and the questions of Medical-Diff-VQA. Both need credentialed access to PhysioNet."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from medvlm.dialogue.adapters.source import YES_NO, Item, SourceSet, one_line, plain_answer, vqa_symbols
from medvlm.dialogue.adapters.sources import csv_rows, first_existing
from medvlm.errors import MedVLMError
from medvlm.imaging.cohort import Split

SPLIT_TABLE = ("mimic-cxr-2.0.0-split.csv.gz", "mimic-cxr-2.0.0-split.csv")
VIEW_TABLE = ("mimic-cxr-2.0.0-metadata.csv.gz", "mimic-cxr-2.0.0-metadata.csv")
SPLITS: Mapping[str, Split] = {"train": "train", "validate": "validation", "val": "validation", "test": "test"}
FRONTAL = ("PA", "AP")
ASK_REPORT = "Describe the findings of this chest X-ray and give an impression."

_SECTION = re.compile(r"^[ \t]*(FINDINGS|IMPRESSION)\s*:", re.MULTILINE | re.IGNORECASE)
_ANY_SECTION = re.compile(r"^[ \t]*[A-Z][A-Z /()-]{3,40}:", re.MULTILINE)


def sections(report: str) -> dict[str, str]:
    """`findings` and `impression` of a report, each in one line; what is missing is left out."""
    found: dict[str, str] = {}
    for match in _SECTION.finditer(report):
        end = _ANY_SECTION.search(report, match.end())
        text = one_line(report[match.end() : end.start() if end else len(report)])
        if text:
            found[match.group(1).lower()] = text
    return found


def read_reports(root: Path) -> Iterator[Item]:
    """One item a frontal picture whose report has findings or an impression."""
    views = _frontal(root)
    for row in csv_rows(first_existing(root, SPLIT_TABLE, "MIMIC-CXR split table"), ("dicom_id", "study_id")):
        if row["dicom_id"] not in views:
            continue
        folder = _study(row["subject_id"], row["study_id"])
        file = root / f"{folder}.txt"
        try:
            found = sections(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise MedVLMError(f"{file}: the report cannot be read ({error.strerror}).") from None
        if not found:
            continue
        text = " ".join(f"{name.upper()}: {found[name]}" for name in ("findings", "impression") if name in found)
        name = f"{folder}/{row['dicom_id']}.jpg"
        yield Item(
            id=f"mimic-{row['dicom_id']}",
            patient=f"p{row['subject_id']}",
            split=SPLITS[row["split"]],
            pictures={name: root / name},
            question=ASK_REPORT,
            answer=text,
            task="report",
            symbols={"study": f"s{row['study_id']}", "needs_expert": False, "answer": text, **found},
        )


def count_pictures(root: Path) -> dict[str, int]:
    """Pictures, studies and patients of the published split table."""
    numbers: dict[str, set[str]] = defaultdict(set)
    for row in csv_rows(first_existing(root, SPLIT_TABLE, "MIMIC-CXR split table"), ("dicom_id", "split")):
        split = SPLITS[row["split"]]
        for key, value in (("pictures", "dicom_id"), ("studies", "study_id"), ("patients", "subject_id")):
            numbers[f"{split} {key}"].add(row[value])
            numbers[key].add(row[value])
    return {key: len(values) for key, values in numbers.items()}


def read_diff_vqa(root: Path) -> Iterator[Item]:
    """Questions about one picture, and about the difference to an earlier one (shown first)."""
    table = first_existing(root, ("mimic_pair_questions.csv",), "table of Medical-Diff-VQA")
    shown: dict[str, str] = {}
    for dicom, (subject, study) in _frontal(root).items():
        shown.setdefault(study, f"{_study(subject, study)}/{dicom}.jpg")
    columns = ("subject_id", "study_id", "ref_id", "question_type", "question", "answer", "split")
    for number, row in enumerate(csv_rows(table, columns)):
        kind, answer = row["question_type"].strip().lower(), plain_answer(row["answer"])
        studies = [row["ref_id"], row["study_id"]] if kind == "difference" else [row["study_id"]]
        names = [shown.get(study.split(".")[0], "") for study in studies]
        if not all(names):
            raise MedVLMError(f"{table}, line {number + 2}: study {row['study_id']} has no frontal picture on disk.")
        yield Item(
            id=f"diff_vqa-{number:06d}",
            patient=f"p{row['subject_id']}",
            split=SPLITS[row["split"].strip().lower()],
            pictures={name: root / name for name in names},
            question=one_line(row["question"]),
            answer=answer,
            task=kind,
            symbols=vqa_symbols(f"s{row['study_id']}", answer, answer in YES_NO, question_type=kind),
        )


def _frontal(root: Path) -> dict[str, tuple[str, str]]:
    """Frontal picture → subject and study."""
    table = first_existing(root, VIEW_TABLE, "MIMIC-CXR metadata table")
    rows = csv_rows(table, ("dicom_id", "subject_id", "study_id", "ViewPosition"))
    return {row["dicom_id"]: (row["subject_id"], row["study_id"]) for row in rows if row["ViewPosition"] in FRONTAL}


def _study(subject: str, study: str) -> str:
    return f"files/p{subject[:2]}/p{subject}/s{study}"


_ACCESS = "PhysioNet Credentialed Health Data License 1.5.0: training and a data use agreement are needed"
MIMIC_REPORTS = SourceSet(
    name="mimic_cxr",
    title="MIMIC-CXR",
    source="PhysioNet mimic-cxr-jpg and mimic-cxr 2.x; Johnson et al., Scientific Data 6 (2019) 317, arXiv 1901.07042",
    licence=_ACCESS,
    layout="mimic-cxr-2.0.0-split.csv.gz, -metadata.csv.gz and files/ with pictures (.jpg) and reports (.txt)",
    patient="subject_id",
    read=read_reports,
    table=count_pictures,
    counts={
        "pictures": 377110,
        "train pictures": 368960,
        "validation pictures": 2991,
        "test pictures": 5159,
        "patients": 65379,
    },
)
MIMIC_DIFF_VQA = SourceSet(
    name="mimic_diff_vqa",
    title="MIMIC-Diff-VQA",
    source="PhysioNet medical-diff-vqa 1.0.0; Hu et al., KDD 2023, arXiv 2307.11986",
    licence=_ACCESS,
    layout="mimic_pair_questions.csv, mimic-cxr-2.0.0-metadata.csv.gz and files/ with the pictures of MIMIC-CXR-JPG",
    patient="subject_id",
    read=read_diff_vqa,
    counts={"questions": 700703},
)
