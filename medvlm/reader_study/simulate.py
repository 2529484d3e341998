"""Simulated readers: they fill the packets of a study as people would, with known skill, bias, fatigue and agreement.

An answer comes from a latent value: the effect of the source, the difficulty of the case, how strict the reader is and
how the reader takes to the source, chance, and tiredness towards the end of a sitting. Scales cut it into categories.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medvlm.errors import MedVLMError
from medvlm.reader_study.collect import PacketRow, StudyFile, read_study
from medvlm.reader_study.forms import Question
from medvlm.reader_study.seal import canonical
from medvlm.storage import atomic_path


@dataclass(frozen=True)
class Behaviour:
    """How simulated readers answer; standard deviations are in steps of the scale.

    Attributes:
        effects: by source, added to the latent value (0 where not given).
        reader_sd: how much strictness differs between readers; `reader_source_sd` how they differ on the sources.
        case_sd: how much cases differ; `case_source_sd` the same within a source.
        noise_sd: the rest; small values make readers agree with themselves and each other.
        fatigue: steps lost from the first to the last item of a sitting.
        skill: chance of seeing a planted error, and of a normal case being read right.
        guessing: chance of guessing the source right.
        missing: share of items left out.
        separation: distance of diseased from normal cases in standard deviations, for reading studies.
    """

    effects: Mapping[str, float] = field(default_factory=dict)
    reader_sd: float = 0.4
    reader_source_sd: float = 0.15
    case_sd: float = 0.5
    case_source_sd: float = 0.4
    noise_sd: float = 0.6
    fatigue: float = 0.1
    skill: float = 0.8
    guessing: float = 0.5
    missing: float = 0.0
    separation: float = 1.5
    seconds: float = 60.0


def simulate_answers(
    packets: Path, key: Mapping[str, Any], out: Path, behaviour: Behaviour | None = None, seed: int = 0
) -> list[Path]:
    """Write one reading-room answers file for every packet into `out`.

    Raises:
        MedVLMError: an effect is given for a source that the study does not have.
    """
    behaviour = behaviour or Behaviour()
    unknown = set(behaviour.effects) - set(key["sources"])
    if unknown:
        raise MedVLMError(f"no source '{sorted(unknown)[0]}'; there are: {', '.join(key['sources'])}.")
    study = read_study(packets)
    persons = _Persons(study, key, behaviour, seed)
    files = []
    for number, packet in enumerate(study.packets):
        rng = np.random.default_rng([seed, 10, number])
        data = _packet_answers(study, packet, key, persons, behaviour, rng)
        data["digest"] = hashlib.sha256(canonical(data)).hexdigest()
        path = out / f"answers-{packet.reader}-session-{packet.session}.json"
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(data, indent=1, ensure_ascii=False), encoding="utf-8")
        files.append(path)
    return files


class _Persons:
    """The fixed traits: readers, cases and how they go with sources and questions."""

    def __init__(self, study: StudyFile, key: Mapping[str, Any], behaviour: Behaviour, seed: int) -> None:
        rng = np.random.default_rng([seed, 9])
        draw = rng.standard_normal
        self.strict = {reader: draw() * behaviour.reader_sd for reader in study.groups}
        self.liking = {
            (reader, source): draw() * behaviour.reader_source_sd
            for reader in study.groups
            for source in key["sources"]
        }
        self.hard = {case: draw() * behaviour.case_sd for case in key["cases"]}
        self.fit = {
            (case, source): draw() * behaviour.case_source_sd for case in key["cases"] for source in key["sources"]
        }

    def latent(self, reader: str, case: str, source: str, behaviour: Behaviour) -> float:
        """What the reader would say without chance and tiredness."""
        own = self.strict[reader] + self.liking[reader, source] + self.hard[case] + self.fit[case, source]
        return float(behaviour.effects.get(source, 0.0) + own)


def _packet_answers(
    study: StudyFile,
    packet: PacketRow,
    key: Mapping[str, Any],
    persons: _Persons,
    behaviour: Behaviour,
    rng: np.random.Generator,
) -> dict[str, Any]:
    day = packet.earliest or "2026-01-01"
    clock = datetime.datetime.fromisoformat(day + "T09:00:00+00:00")
    rows = []
    for place, code in enumerate(packet.items):
        item = key["items"][code]
        tired = behaviour.fatigue * place / max(1, len(packet.items) - 1)
        opened = clock
        seconds = round(float(behaviour.seconds * rng.lognormal(0, 0.4) * (1 - 0.2 * place / len(packet.items))), 1)
        clock += datetime.timedelta(seconds=math.ceil(seconds) + 3)
        row: dict[str, Any] = {
            "code": code, "position": place + 1, "answers": {}, "spans": [], "seconds": 0, "visits": 0
        }  # fmt: skip
        if rng.random() >= behaviour.missing:
            answers = _answers(study, item, key, persons, behaviour, tired, rng)
            spans = _spans(study, item, packet.sentences[place], behaviour, rng)
            row |= {
                "answers": answers, "spans": spans, "seconds": seconds, "visits": 1,
                "opened": opened.isoformat(), "submitted": clock.isoformat(),
            }  # fmt: skip
        rows.append(row)
    return {
        "format": "medvlm-answers", "version": 1, "packet": packet.packet, "reader": packet.reader,
        "session": packet.session, "commitment": study.commitment, "form": study.form.id,
        "form_version": study.form.version, "started": day + "T09:00:00+00:00", "items": rows,
    }  # fmt: skip


def _answers(
    study: StudyFile,
    item: Mapping[str, Any],
    key: Mapping[str, Any],
    persons: _Persons,
    behaviour: Behaviour,
    tired: float,
    rng: np.random.Generator,
) -> dict[str, str]:
    reader, case, source = item["reader"], item["case"], item["source"]
    latent = persons.latent(reader, case, source, behaviour) - tired
    if item["probe"]:
        latent -= 1.5 if rng.random() < behaviour.skill else 0.0
    other = persons.latent(reader, case, item["other"], behaviour) if item["other"] else 0.0
    truth = key["cases"][case]["truth"]
    answers = {}
    for question in study.form.questions:
        value = latent + rng.standard_normal() * behaviour.noise_sd
        if question.kind == "likert":
            answers[question.id] = _category(question, value, truth, behaviour)
        elif question.kind == "slider":
            low, high = question.minimum or 0, question.maximum or 100
            # Without a truth the latent value alone places the answer; with one, disease moves it by the separation.
            shift = behaviour.separation * ((truth if truth is not None else 0.5) - 0.5)
            share = 1 / (1 + math.exp(-1.5 * (shift + value)))
            answers[question.id] = f"{round(low + share * (high - low)):g}"
        elif question.kind == "count":
            answers[question.id] = str(min(int(rng.poisson(math.exp(-0.7 - 0.6 * value))), int(question.maximum or 20)))
        elif question.kind == "pairwise":
            gap = value - other + rng.standard_normal() * behaviour.noise_sd
            answers[question.id] = "equal" if abs(gap) < 0.3 else ("left" if gap > 0 else "right")
        elif question.kind == "guess":
            kind = "human" if key["sources"][source] == "human" else "ai"
            wrong = {"ai": "human", "human": "ai"}[kind]
            unsure = rng.random() < 0.3
            answers[question.id] = "unsure" if unsure else (kind if rng.random() < behaviour.guessing else wrong)
    return answers


def _category(question: Question, value: float, truth: float | None, behaviour: Behaviour) -> str:
    codes = [option.code for option in question.options]
    if set(codes) == {"0", "1"} and truth is not None:
        return "1" if value + behaviour.separation * (truth - 0.5) > 0 else "0"
    # The middle of the scale is a little below zero: reports are mostly agreed with.
    rank = round((len(codes) - 1) / 2 + 0.6 + value)
    return codes[min(max(rank, 0), len(codes) - 1)]


def _spans(
    study: StudyFile,
    item: Mapping[str, Any],
    sentences: Mapping[str, int],
    behaviour: Behaviour,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    if not any(question.kind == "spans" for question in study.form.questions):
        return []
    side, count = next(iter(sentences.items()))
    seen = bool(item["probe"]) and rng.random() < behaviour.skill
    if not count or (not seen and rng.random() > 0.08):
        return []
    category = {"laterality": "location", "measurement": "severity", "negation": "fabrication"}.get(
        item["probe"], item["probe"] if item["probe"] in ("fabrication", "omission", "severity") else "other"
    )
    weight = "significant" if seen or rng.random() < 0.3 else "insignificant"
    return [
        {"sentence": int(rng.integers(count)), "side": side, "category": category, "significance": weight}
    ]  # fmt: skip
