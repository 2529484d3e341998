"""Export: plan → blinded packets, sealed key, manifest and audit log; nothing is left behind where a leak is found.

```
packets/                        what readers get: <reader>/session-<n>/{html,xlsx,redcap,labelstudio,images}
coordinator/key.sealed          which code is what, encrypted
coordinator/study.json          what `collect` needs: form, codes of each packet, hashes of all files; no source
coordinator/schedule.csv        reader, session, earliest day, items
coordinator/audit.jsonl         what was done, chained
```
"""

from __future__ import annotations

import csv
import datetime
import json
import secrets as random_secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import medvlm
from medvlm.errors import MedVLMError
from medvlm.reader_study import audit
from medvlm.reader_study.case_table import read_reports
from medvlm.reader_study.leaks import refuse_leaks
from medvlm.reader_study.normalise import Paragraph, normalise_report
from medvlm.reader_study.packet import Codes, Item, Packet, hashes, settle_folders, write_bytes
from medvlm.reader_study.picture_store import PictureStore
from medvlm.reader_study.plan import Assignment, Plan
from medvlm.reader_study.probes import plant_error
from medvlm.reader_study.seal import canonical, commitment_of, new_passphrase, seal_key, write_passphrase
from medvlm.reader_study.spec import StudySpec
from medvlm.reader_study.study_secrets import StudySecrets, study_secrets
from medvlm.storage import atomic_path, write_json

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Exported:
    """What an export made."""

    folder: Path
    packets: int
    items: int
    files: int
    commitment: str
    passphrase_file: Path | None


def export_study(
    spec: StudySpec, plan: Plan, out: Path, passphrase: str | None = None, progress: Progress | None = None
) -> Exported:
    """Write the packets of a study.

    Args:
        passphrase: of the sealed key; without one a random one is written beside `out`.

    Raises:
        MedVLMError: `out` exists, an input is missing, or the leak scan found something (then nothing is left).
    """
    if out.exists():
        raise MedVLMError(f"{out}: exists; an export is never overwritten. Choose another folder.")
    tell = progress or (lambda what, done, total: None)
    reports = read_reports(spec)
    codes = Codes()
    item_codes = {(item.reader, item.place): codes.draw() for item in plan.assignments}
    truth_of = {item_codes[item.reader, item.place]: (item.case, item.source) for item in plan.assignments}
    passphrase_file = None
    if passphrase is None:
        passphrase, passphrase_file = new_passphrase(), out.with_name(f"{out.name}.passphrase")
    with atomic_path(out) as folder, PictureStore(spec, codes, tell) as pictures:
        secrets = study_secrets(spec, pictures.header_secrets(), truth_of)
        texts = _normalised(spec, reports, secrets)
        planted = _plant(spec, plan, texts)
        payload = _payload(spec, plan, item_codes, planted)
        nonce = random_secrets.token_bytes(32)
        commitment = commitment_of(canonical(payload), nonce)
        packets = []
        sessions = plan.by_session()
        known: dict[tuple[int, int], str] = {}
        rows = []
        for number, ((reader, session), items) in enumerate(sessions.items(), start=1):
            tell("packets", number, len(sessions))
            packet = _packet(spec, plan, reader, session, items, item_codes, planted, pictures, commitment, codes)
            target = folder / "packets" / packet.folder
            _write(spec, target, packet, pictures)
            files = hashes(target, (path for path in target.rglob("*") if path.is_file()), known)
            manifest = {"packet": packet.id, "reader": reader, "session": session, "commitment": commitment}
            write_bytes(target / "packet.json", _json(manifest | {"files": files}))
            files["packet.json"] = hashes(target, [target / "packet.json"])["packet.json"]
            packets.append(packet)
            rows.append(_study_row(packet, files, plan))
        settle_folders(folder / "packets")
        tell("leak scan", 0, 1)
        refuse_leaks(folder / "packets", secrets)
        coordinator = folder / "coordinator"
        coordinator.mkdir()
        seal_key(coordinator / "key.sealed", payload, passphrase, nonce)
        study = _study_json(spec, rows, commitment)
        write_json(coordinator / "study.json", study)
        _schedule(coordinator / "schedule.csv", spec, plan)
        audit.append(coordinator / "audit.jsonl", "export", _audit_detail(spec, study, commitment))
    if passphrase_file is not None:
        write_passphrase(passphrase_file, passphrase)
    files_count = sum(len(row["files"]) for row in rows)
    return Exported(out, len(packets), len(plan.assignments), files_count, commitment, passphrase_file)


Report = tuple[Paragraph, ...]


def _normalised(
    spec: StudySpec, reports: Mapping[tuple[str, str], str], secrets: StudySecrets
) -> dict[tuple[str, str], Report]:
    """Normalised reports; identifiers and names of sources are taken out of every text alike."""
    words = _removable(spec, secrets)
    texts = {key: normalise_report(text, words) for key, text in reports.items()}
    empty = [key for key, text in texts.items() if not text]
    if empty:
        source, case = empty[0]
        raise MedVLMError(f"source {source}: nothing is left of the report of case {case} once signatures are out.")
    return texts


def _removable(spec: StudySpec, secrets: StudySecrets) -> list[str]:
    """Words to take out of texts: as they are written, and as the scan searches for them."""
    written = {case.id for case in spec.cases} | {case.patient for case in spec.cases}
    written |= {word for case in spec.cases for word in case.secrets} | set(spec.sensitive)
    written |= {name for source in spec.sources for name in source.labels}
    return sorted(word for word in written | secrets.identifiers | secrets.sources if len(word) >= 3)


@dataclass(frozen=True)
class _Shown:
    """The texts of one assignment, and the planted sentence of a probe."""

    left: Report
    right: Report | None
    probe: str = ""
    sentence: str = ""


def _plant(spec: StudySpec, plan: Plan, texts: Mapping[tuple[str, str], Report]) -> dict[tuple[str, str], _Shown]:
    shown = {}
    for number, item in enumerate(plan.assignments):
        left = texts.get((item.source, item.case), ())
        right = texts.get((item.other, item.case), ()) if item.other else None
        if not item.probe:
            shown[item.reader, item.place] = _Shown(left, right)
            continue
        changed, kind, sentence = plant_error(left, item.probe, np.random.default_rng([spec.seed, 3, number]))
        shown[item.reader, item.place] = _Shown(changed, right, kind, sentence)
    return shown


def _payload(
    spec: StudySpec,
    plan: Plan,
    item_codes: Mapping[tuple[str, str], str],
    planted: Mapping[tuple[str, str], _Shown],
) -> dict[str, Any]:
    """What the sealed key holds: everything that joins answers to cases and sources."""
    items = {}
    for item in plan.assignments:
        row = asdict(item)
        shown = planted[item.reader, item.place]
        if item.duplicate_of:
            row["duplicate_of"] = item_codes[item.reader, item.duplicate_of]
        items[item_codes[item.reader, item.place]] = row | {"probe": shown.probe, "probe_sentence": shown.sentence}
    cases = {case.id: {"cluster": case.cluster, "stratum": case.stratum, "truth": case.truth} for case in spec.cases}
    sources = {source.id: source.kind for source in spec.sources}
    endpoint = asdict(spec.endpoint) | {"components": dict(spec.endpoint.components)}
    groups = {reader.id: reader.group for reader in spec.readers}
    return {
        "study": spec.name, "title": spec.title, "seed": spec.seed, "items": items, "cases": cases,
        "sources": sources, "endpoint": endpoint, "groups": groups, "design": asdict(spec.design),
        "washout_days": spec.sessions.washout_days, "form": spec.form.id,
        "derived": dict(spec.form.derived), "low_is_better": [q.id for q in spec.form.questions if q.better == "low"],
        "references": {case.id: bool(case.reference) for case in spec.cases},
    }  # fmt: skip


def _packet(
    spec: StudySpec,
    plan: Plan,
    reader: str,
    session: int,
    items: list[Assignment],
    item_codes: Mapping[tuple[str, str], str],
    planted: Mapping[tuple[str, str], _Shown],
    pictures: PictureStore,
    commitment: str,
    codes: Codes,
) -> Packet:
    shown = []
    for item in items:
        texts = planted[reader, item.place]
        case = pictures.cases[item.case]
        reference = normalise_report(case.reference, ()) if case.reference else ()
        note = "Training item: it is not counted." if item.role == "training" else ""
        shown.append(
            Item(
                item_codes[reader, item.place], item.position, texts.left, texts.right,
                pictures.names_for(item.case), note, reference,
            )
        )  # fmt: skip
    earliest = next(slot.earliest for slot in plan.slots if (slot.reader, slot.session) == (reader, session))
    return Packet(codes.draw(10), "Reading room", reader, session, earliest, tuple(shown), spec.form, commitment)


def _write(spec: StudySpec, folder: Path, packet: Packet, pictures: PictureStore) -> None:
    if "html" in spec.formats:
        from medvlm.reader_study.write_room import write_room

        write_room(folder / "html", packet, pictures.scripts)
    if "xlsx" in spec.formats:
        from medvlm.reader_study.write_xlsx import write_xlsx

        write_xlsx(folder / "xlsx", packet)
    if "redcap" in spec.formats:
        from medvlm.reader_study.write_redcap import write_redcap

        write_redcap(folder / "redcap", packet)
    if "labelstudio" in spec.formats:
        from medvlm.reader_study.write_labelstudio import write_labelstudio

        write_labelstudio(folder / "labelstudio", packet)
    if set(spec.formats) - {"html"}:
        pictures.link_previews(folder / "images", packet)


def _study_row(packet: Packet, files: dict[str, str], plan: Plan) -> dict[str, Any]:
    sides = ("left", "right") if any(item.right is not None for item in packet.items) else ("",)
    lengths = [
        {side: sum(len(part.sentences) for part in (item.right if side == "right" else item.report) or ())
         for side in sides}
        for item in packet.items
    ]  # fmt: skip
    return {
        "packet": packet.id,
        "reader": packet.reader,
        "session": packet.session,
        "earliest": packet.earliest.isoformat() if packet.earliest else None,
        "items": [item.code for item in packet.items],
        "sentences": lengths,
        "files": files,
    }


def _study_json(spec: StudySpec, packets: list[dict[str, Any]], commitment: str) -> dict[str, Any]:
    groups = {reader.id: reader.group for reader in spec.readers}
    return {
        "schema": 1, "study": spec.name, "title": spec.title, "commitment": commitment,
        "form": spec.form.to_json(), "groups": groups, "packets": packets,
    }  # fmt: skip


def _schedule(path: Path, spec: StudySpec, plan: Plan) -> None:
    names = {reader.id: reader.name for reader in spec.readers}
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["reader", "name", "session", "period", "earliest", "items", "minutes", "packet_folder"])
        for slot in plan.slots:
            minutes = round(slot.items * spec.sessions.minutes_per_item)
            folder = f"packets/{slot.reader}/session-{slot.session}"
            writer.writerow(
                [slot.reader, names[slot.reader], slot.session, slot.period, slot.earliest or "", slot.items, minutes,
                 folder]
            )  # fmt: skip


def _audit_detail(spec: StudySpec, study: dict[str, Any], commitment: str) -> dict[str, Any]:
    import hashlib

    return {
        "study": spec.name,
        "seed": spec.seed,
        "commitment": commitment,
        "packets": len(study["packets"]),
        "items": sum(len(row["items"]) for row in study["packets"]),
        "study_json_sha256": hashlib.sha256(canonical(study)).hexdigest(),
        "medvlm": medvlm.__version__,
        "day": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def _json(data: Any) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()
