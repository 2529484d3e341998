"""The short style of findings, read back."""

from __future__ import annotations

import re
from typing import Any

from medvlm.findings.codes import concepts
from medvlm.findings.verbalise import UNIT_TEXT

_UNITS = {text: unit for unit, text in UNIT_TEXT.items() if text}
_BARE = {"mm": "Long axis", "mL": "Volume", "{count}": "Count"}
_NUMBER = re.compile(r"^(?:(?P<name>.*?)\s+)?(?P<value>-?\d+(?:\.\d+)?)(?:\s+(?P<unit>[^\s\d]\S*))?$")


def parse_short(text: str) -> list[dict[str, Any]]:
    """The inverse of `verbalise(findings, "short")`, as far as that style says.

    Returns:
        One dictionary a finding, with `concept` (key of the table, else the text), `presence`, and where they are said
        `laterality`, `site` (keys), `grade`, `measurements` (code meaning → value) and `probability`. Lines that are
        not in the format are ignored, so that text written by a model can be read.
    """
    found: list[dict[str, Any]] = []
    listed = ""
    for line in text.splitlines():
        item = re.match(r"^\s*\d+\.\s+(.*)$", line)
        if item and listed:
            found.append({"concept": listed} | _facts(item.group(1), listed))
            continue
        name, colon, rest = line.strip().partition(": ")
        if not colon:
            continue
        concept, countable = _concept(name)
        listed = concept if countable else ""
        if countable and rest.partition(",")[0].strip() != "none":
            continue  # the count; its items follow
        found.append({"concept": concept} | _facts(rest, concept))
    return found


def _concept(name: str) -> tuple[str, bool]:
    for concept in concepts().values():
        if concept.kind in ("list", "line", "state") and name in (concept.plural, concept.text):
            return concept.key, concept.kind == "list"
    return name, False


def _facts(text: str, key: str) -> dict[str, Any]:
    concept = concepts().get(key)
    state = concept.state if concept else ""
    facts: dict[str, Any] = {"presence": "present"}
    measurements: dict[str, float] = {}
    for part in (piece.strip() for piece in text.split(", ")):
        if part == "none" or (state and part == f"not {state}"):
            facts["presence"] = "absent"
        elif part == "possible":
            facts["presence"] = "uncertain"
        elif place := _place(part):
            facts |= place
        elif probability := re.fullmatch(r"p (0(?:\.\d+)?|1(?:\.0+)?)", part):
            sure = float(probability.group(1))
            # What is written is the probability of absence; what is kept is that of presence.
            facts["probability"] = round(1.0 - sure, 9) if facts["presence"] == "absent" else sure
        elif (number := _NUMBER.match(part)) and (meaning := _meaning(number.group("name"), number.group("unit"))):
            measurements[meaning] = float(number.group("value"))
        elif part and part != "present":
            facts["grade"] = part
    if measurements:
        facts["measurements"] = measurements
    return facts


def _place(text: str) -> dict[str, str] | None:
    sides = {concept.text: concept.key for concept in concepts().values() if concept.kind == "side"}
    sites = {concept.text: concept.key for concept in concepts().values() if concept.kind == "site"}
    first, _, rest = text.partition(" ")
    if first in sides and not rest:
        return {"laterality": sides[first]}
    if first in sides and rest in sites:
        return {"laterality": sides[first], "site": sites[rest]}
    return {"site": sites[text]} if text in sites else None


def _meaning(name: str | None, unit: str | None) -> str | None:
    """The code meaning of a written measurement; None where the words are not one."""
    if name:
        for concept in concepts().values():
            if concept.kind == "measurement" and concept.text == name:
                return concept.code.meaning
        return None
    return _BARE.get(_UNITS.get(unit or "", unit or "{count}"))
