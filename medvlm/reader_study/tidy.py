"""The tidy table: one row an answer (or a marked sentence), as Parquet and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvlm.errors import MedVLMError
from medvlm.storage import atomic_path

if TYPE_CHECKING:
    import pandas as pd

# What `collect` knows: nothing about cases and sources.
COLUMNS = (
    "study_id", "reader_id", "reader_group", "session", "position", "item_code", "question_id", "response_raw",
    "response_code", "error_category", "error_significance", "span_start", "span_end", "side", "read_seconds",
    "started_at", "submitted_at", "form_version", "imported_from_sha256",
)  # fmt: skip
# What the sealed key adds.
KEY_COLUMNS = (
    "period", "case_id", "cluster_id", "stratum", "modality", "other_modality", "role", "is_training", "is_probe",
    "probe_type", "duplicate_of", "truth",
)  # fmt: skip
_NUMBERS = {"session", "position", "span_start", "span_end", "read_seconds", "period", "truth"}


def write_table(stem: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> None:
    """Write `<stem>.csv` and `<stem>.parquet` with the given columns."""
    frame = table(rows, columns)
    with atomic_path(stem.with_suffix(".csv")) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")
    with atomic_path(stem.with_suffix(".parquet")) as temporary:
        frame.to_parquet(temporary, index=False)


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """A frame with exactly these columns; numbers are floats or whole numbers, the rest text."""
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=list(columns))
    for name in columns:
        if name in _NUMBERS:
            frame[name] = pd.to_numeric(frame[name], errors="coerce")
        elif not name.startswith("is_"):
            frame[name] = frame[name].fillna("").astype(str)
    return frame


def read_table(stem: Path) -> pd.DataFrame:
    """Read `<stem>.parquet`.

    Raises:
        MedVLMError: there is none.
    """
    import pandas as pd

    path = stem.with_suffix(".parquet")
    if not path.is_file():
        raise MedVLMError(f"{path}: no such table; run 'medvlm reader-study collect' first.")
    return pd.read_parquet(path)


def unblinded(frame: pd.DataFrame, key: Mapping[str, Any]) -> pd.DataFrame:
    """The tidy table with what the key says about each item."""
    import pandas as pd

    rows = []
    for code, item in key["items"].items():
        case = key["cases"][item["case"]]
        rows.append(
            {
                "item_code": code, "period": item["period"], "case_id": item["case"], "cluster_id": case["cluster"],
                "stratum": case["stratum"], "modality": item["source"], "other_modality": item["other"],
                "role": item["role"], "is_training": item["role"] == "training",
                "is_probe": bool(item["probe"]), "probe_type": item["probe"], "duplicate_of": item["duplicate_of"],
                "truth": case["truth"],
            }
        )  # fmt: skip
    known = pd.DataFrame(rows, columns=["item_code", *KEY_COLUMNS])
    known["truth"] = pd.to_numeric(known["truth"])
    return frame.merge(known, on="item_code", how="left", validate="many_to_one")
