"""Ratings in and out: iMRMC, RJafroc workbooks and long CSV tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from medvlm.errors import MedVLMError, MissingExtraError
from medvlm.reader_study.statistics.ratings import Ratings, ratings_from_rows
from medvlm.storage import atomic_path, write_text

_NAMES = {
    "reader": ("reader", "readerid", "reader_id", "rater", "observer"),
    "case": ("case", "caseid", "case_id", "image", "item"),
    "modality": ("modality", "modalityid", "modality_id", "treatment", "test", "source", "arm"),
    "score": ("score", "rating", "value", "response", "y", "confidence"),
    "truth": ("truth", "gold", "disease", "label"),
    "cluster": ("patient", "patient_id", "cluster", "cluster_id"),
}
_TRUTH = {"truth", "-1"}


def read_ratings(path: Path, score: str = "") -> Ratings:
    """Read a file of ratings, judged by its content.

    iMRMC: free text, `BEGIN DATA:`, then `reader,case,modality,score` with truth rows (reader `truth` or -1).
    RJafroc: a workbook with the sheets TRUTH, FP (or NL) and TP (or LL), ROC paradigm. CSV: a header with columns for
    reader, case, modality (treatment, test), score (rating) and, where there is one, truth and patient.

    Args:
        score: name of the column of scores of a CSV, where it is none of the usual ones.

    Raises:
        MedVLMError: it is none of these, or a line is not as it should be (names it).
    """
    try:
        data = Path(path).read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise MedVLMError(f"{path}: no such file.") from None
    if data.startswith(b"PK"):
        return _read_rjafroc(Path(path))
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise MedVLMError(f"{path}: neither text nor a workbook.") from None
    for number, line in enumerate(lines):
        if line.upper().startswith("BEGIN DATA"):
            title = lines[0].strip() if number else ""
            return _read_imrmc(path, lines[number + 1 :], number + 2, title)
    return _read_table(path, lines, score)


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise MedVLMError(f"{where}: '{text[:30]}' is not a number.") from None
    if not np.isfinite(value):
        raise MedVLMError(f"{where}: '{text[:30]}' is not a finite number.")
    return value


def _read_imrmc(path: Path, lines: Iterable[str], first: int, title: str) -> Ratings:
    rows, truth = [], {}
    for number, line in enumerate(lines, start=first):
        fields = [field.strip() for field in line.split(",,")[0].rstrip(",").split(",")]
        if fields == [""]:
            continue
        if len(fields) < 4:
            raise MedVLMError(f"{path}, line {number}: expected reader,case,modality,score.")
        reader, case, modality, text = fields[:4]
        value = _number(text, f"{path}, line {number}")
        if reader in _TRUTH or modality in _TRUTH:
            if case in truth:
                raise MedVLMError(f"{path}, line {number}: a second truth for case {case}.")
            truth[case] = value
        else:
            rows.append((reader, case, modality, value))
    return _named(path, rows, truth, {}, title)


def _read_table(path: Path, lines: list[str], score: str) -> Ratings:
    rows = list(csv.DictReader(io.StringIO("\n".join(lines))))
    if not rows:
        raise MedVLMError(f"{path}: no rows after the header.")
    names = {str(name).strip().strip('"').casefold(): str(name) for name in rows[0] if name}
    columns: dict[str, str] = {}
    for what, known in _NAMES.items():
        wanted = (score.casefold(), *known) if what == "score" and score else known
        found = next((names[name] for name in wanted if name in names), None)
        if found is not None:
            columns[what] = found
    for what in ("reader", "case", "score"):
        if what not in columns:
            raise MedVLMError(f"{path}: no column for the {what}; give one of {', '.join(_NAMES[what])}.")
    table, truth, clusters = [], {}, {}
    for number, row in enumerate(rows, start=2):
        where = f"{path}, line {number}"
        reader, case = (row[columns[what]].strip() for what in ("reader", "case"))
        modality = row[columns["modality"]].strip() if "modality" in columns else "all"
        text = (row[columns["score"]] or "").strip()
        if text in ("", "NA", "NaN"):
            continue  # a missing read
        if reader in _TRUTH or modality in _TRUTH:  # the data frame of the iMRMC R package
            truth[case] = _number(text, where)
            continue
        table.append((reader, case, modality, _number(text, where)))
        if "truth" in columns:
            value = _number(row[columns["truth"]], where)
            if truth.setdefault(case, value) != value:
                raise MedVLMError(f"{where}: case {case} has another truth than before.")
        if "cluster" in columns:
            clusters[case] = row[columns["cluster"]].strip()
    return _named(path, table, truth, clusters, Path(path).stem)


def _named(
    path: Path,
    rows: list[tuple[str, str, str, float]],
    truth: Mapping[str, float],
    clusters: Mapping[str, str],
    title: str,
) -> Ratings:
    try:
        return ratings_from_rows(rows, truth, clusters, title)
    except MedVLMError as error:
        raise MedVLMError(f"{path}: {error}") from None


def _read_rjafroc(path: Path) -> Ratings:
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise MissingExtraError("openpyxl", "reader-study", "reading a workbook") from None
    book = load_workbook(path, data_only=True, read_only=True)
    sheets = {name.upper(): book[name] for name in book.sheetnames}
    false, true = sheets.get("FP", sheets.get("NL")), sheets.get("TP", sheets.get("LL"))
    if "TRUTH" not in sheets or false is None or true is None:
        raise MedVLMError(f"{path}: an RJafroc workbook has the sheets TRUTH, FP (or NL) and TP (or LL).")
    truth: dict[str, float] = {}
    for row in list(sheets["TRUTH"].iter_rows(values_only=True))[1:]:
        if row[0] is None:
            continue
        if int(row[1]) > 1:
            raise MedVLMError(f"{path}: case {row[0]} has several lesions; only ROC data are read.")
        truth[_id(row[0])] = float(int(row[1]) > 0)
    rows = []
    for sheet, last in ((false, 3), (true, 4)):
        for row in list(sheet.iter_rows(values_only=True))[1:]:
            if row[0] is not None:
                rows.append((_id(row[0]), _id(row[2]), _id(row[1]), float(row[last])))
    return _named(path, rows, truth, {}, path.stem)


def _id(value: object) -> str:
    return str(int(value)) if isinstance(value, int | float) else str(value).strip()


def write_imrmc(path: Path, ratings: Ratings, title: str = "") -> None:
    """Write an iMRMC file: ids without commas, quotes or spaces, one truth row a case (reader and modality `truth`).

    Raises:
        MedVLMError: there is no truth, or two names become one without their special characters.
    """
    if ratings.truth is None:
        raise MedVLMError("an iMRMC file needs the truth of every case.")
    modalities, readers, cases = (_plain(names) for names in (ratings.modalities, ratings.readers, ratings.cases))
    lines = [
        " ".join((title or ratings.title or "reader study").split()),
        f"N0: {int((ratings.truth == 0).sum())}",
        f"N1: {int((ratings.truth == 1).sum())}",
        f"NR: {len(readers)}",
        f"NM: {len(modalities)}",
        "BEGIN DATA:",
    ]
    lines += [f"truth,{case},truth,{int(value)}" for case, value in zip(cases, ratings.truth)]
    for m, r, c in np.argwhere(~np.isnan(ratings.scores)):
        lines.append(f"{readers[r]},{cases[c]},{modalities[m]},{ratings.scores[m, r, c]:.10g}")
    write_text(path, "\n".join(lines) + "\n")


def _plain(names: Iterable[str]) -> list[str]:
    plain = ["".join(ch if ch.isascii() and (ch.isalnum() or ch in "._-") else "_" for ch in name) for name in names]
    plain = [f"x{name}" if name in _TRUTH else name for name in plain]
    if len(set(plain)) != len(plain):
        raise MedVLMError("two names differ only in characters that an iMRMC file cannot hold; rename one.")
    return plain


def write_rjafroc(path: Path, ratings: Ratings) -> dict[str, dict[str, int]]:
    """Write an RJafroc workbook of ROC data (factorial designs only); ids become whole numbers.

    Returns:
        The number that stands for each name: `{"case": {...}, "reader": {...}, "modality": {...}}`.

    Raises:
        MedVLMError: a read or the truth is missing; RJafroc accepts neither.
    """
    if ratings.truth is None or not ratings.crossed:
        raise MedVLMError("an RJafroc workbook needs the truth and every read; use the iMRMC file instead.")
    try:
        from openpyxl import Workbook
    except ImportError:
        raise MissingExtraError("openpyxl", "reader-study", "an RJafroc workbook") from None
    book = Workbook()
    truth, false, true = book.active, book.create_sheet("FP"), book.create_sheet("TP")
    truth.title = "TRUTH"
    truth.append(["CaseID", "LesionID", "Weight", "ReaderID", "ModalityID", "Paradigm"])
    false.append(["ReaderID", "ModalityID", "CaseID", "FP_Rating"])
    true.append(["ReaderID", "ModalityID", "CaseID", "LesionID", "TP_Rating"])
    readers = ",".join(map(str, range(len(ratings.readers))))
    modalities = ",".join(map(str, range(len(ratings.modalities))))
    order = [*np.flatnonzero(ratings.truth == 0), *np.flatnonzero(ratings.truth == 1)]
    for row, case in enumerate(order):
        lesion = int(ratings.truth[case])
        truth.append([row + 1, lesion, lesion, readers, modalities, {0: "ROC", 1: "FCTRL"}.get(row)])
    for row, case in enumerate(order):
        for m in range(len(ratings.modalities)):
            for r in range(len(ratings.readers)):
                value = float(ratings.scores[m, r, case])
                if ratings.truth[case]:
                    true.append([str(r), str(m), row + 1, 1, value])
                else:
                    false.append([str(r), str(m), row + 1, value])
    with atomic_path(path) as temporary:
        book.save(temporary)
    return {
        "case": {ratings.cases[case]: row + 1 for row, case in enumerate(order)},
        "reader": {name: index for index, name in enumerate(ratings.readers)},
        "modality": {name: index for index, name in enumerate(ratings.modalities)},
    }
