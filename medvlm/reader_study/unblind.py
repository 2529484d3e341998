"""Opening the key: only for complete answers (or with a stated reason), always logged; and checking for changes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvlm.errors import MedVLMError
from medvlm.reader_study import audit
from medvlm.reader_study.collect import read_study, verify_packets
from medvlm.reader_study.seal import open_key, read_passphrase
from medvlm.reader_study.tidy import read_table, unblinded
from medvlm.storage import read_json

if TYPE_CHECKING:
    import pandas as pd


def unblind_collected(
    collected: Path, key_file: Path, passphrase_file: Path | None = None, emergency: str = ""
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The tidy table with cases and sources, and the opened key. The opening goes into the audit log.

    Raises:
        MedVLMError: answers were changed or are missing (without an emergency), or the key is not theirs.
    """
    data = _collected_json(collected)
    problems = _answer_problems(collected, data)
    if problems:
        raise MedVLMError(f"{collected}: {problems[0]}; the key stays closed.")
    key = open_key(key_file, read_passphrase(passphrase_file, key_file), data["commitment"])
    frame = read_table(collected / "answers")
    missing = missing_answers(frame, key, data)
    if missing and not emergency:
        raise MedVLMError(
            f"{missing} required answers are missing (see {collected / 'completion.csv'}); the key stays closed. "
            'To open it all the same give --emergency "why".'
        )
    log = _log_of(key_file, data)
    audit.append(
        log,
        "unblind",
        {"table_sha256": data["table_sha256"], "missing": missing, "emergency": emergency, "study": data["study"]},
    )
    return unblinded(frame, key), key


def missing_answers(frame: pd.DataFrame, key: Mapping[str, Any], data: Mapping[str, Any]) -> int:
    """How many required answers of the whole study are not there."""
    required = [question["id"] for question in data["form"]["questions"] if question["required"]]
    asked = {(code, name) for code in key["items"] for name in required}
    return len(asked - set(zip(frame["item_code"], frame["question_id"])))


def verify_study(packets: Path, collected: Path | None) -> list[str]:
    """Everything that is not as it was written, one sentence each.

    Raises:
        MedVLMError: the audit log or the coordinator's file is broken.
    """
    problems = verify_packets(packets, read_study(packets))
    if collected is not None:
        data = _collected_json(collected)
        head = data["audit_head"]
        audit.check_head(packets / "coordinator" / "audit.jsonl", head["number"], head["hash"])
        problems += _answer_problems(collected, data)
        logged = {entry.detail.get("sha256") for entry in audit.read_log(packets / "coordinator" / "audit.jsonl")}
        for path in sorted((collected / "imports").iterdir()):
            if hashlib.sha256(path.read_bytes()).hexdigest() not in logged:
                problems.append(f"{path.name} was changed since it was collected")
    return problems


def _collected_json(collected: Path) -> dict[str, Any]:
    path = collected / "collected.json"
    if not path.is_file():
        raise MedVLMError(f"{collected}: no collected.json here; run 'medvlm reader-study collect' first.")
    data: dict[str, Any] = read_json(path)
    return data


def _answer_problems(collected: Path, data: Mapping[str, Any]) -> list[str]:
    digest = hashlib.sha256((collected / "answers.csv").read_bytes()).hexdigest()
    if digest != data["table_sha256"]:
        return ["answers.csv was changed since it was collected"]
    from medvlm.reader_study.tidy import COLUMNS, table

    again = table(read_table(collected / "answers").to_dict("records"), COLUMNS)
    text = again.to_csv(index=False, lineterminator="\n").encode()
    return [] if hashlib.sha256(text).hexdigest() == digest else ["answers.parquet and answers.csv differ"]


def _log_of(key_file: Path, data: Mapping[str, Any]) -> Path:
    """The audit log: beside the key, or where the study was exported to.

    Raises:
        MedVLMError: it is in neither place.
    """
    for folder in (key_file.resolve().parent, Path(data["coordinator"])):
        if (folder / "audit.jsonl").is_file():
            audit.check_head(folder / "audit.jsonl", data["audit_head"]["number"], data["audit_head"]["hash"])
            return folder / "audit.jsonl"
    raise MedVLMError(f"{key_file}: no audit.jsonl beside it; the opening of the key must be logged there.")
