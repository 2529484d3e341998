"""A grammar that constrains decoding to readable answers, for xgrammar and llguidance.

Both read the GBNF dialect (`root ::= ...`) and JSON Schema. Neither is needed to write it.
"""

from __future__ import annotations

from typing import Any

from medvlm.pathways.consistency import Checker
from medvlm.pathways.parser import AnswerParser
from medvlm.pathways.phrasings import Split, answers
from medvlm.pathways.spec import NOT_ASSESSABLE, Pathway, Slot
from medvlm.pathways.units import normal_unit


def answer_grammar(pathway: Pathway, slot: Slot, split: Split = "train") -> str:
    """A GBNF grammar of all phrasings of a slot that the parser reads right; a number is free within its digits."""
    parser, checker = AnswerParser(pathway), Checker(pathway)
    variable = slot.variable
    texts: dict[str, None] = {}
    for symbol in checker.domains[slot.name].symbols:
        if variable.type == "number" and symbol != NOT_ASSESSABLE:
            continue
        for text in answers(pathway, slot, symbol, split):
            reading = parser.read(text, slot)
            if reading.state == "value" and reading.symbol == symbol:
                texts.setdefault(text)
    options = [_quoted(text) for text in texts]
    lines = []
    if variable.type == "number":
        unit = "" if normal_unit(variable.unit) == "count" else f" {variable.unit}"
        lines.append(
            f'number ::= [0-9] [0-9]? [0-9]? ("." [0-9])? {_quoted(unit)}' if unit else "number ::= [0-9] [0-9]?"
        )
        options += [f"number {_quoted('.')}", f"{_quoted(f'The {variable.subject} is ')} number {_quoted('.')}"]
    return "\n".join([f"root ::= {' | '.join(options)}", *lines]) + "\n"


def answers_schema(pathway: Pathway) -> dict[str, Any]:
    """A JSON Schema of all answers at once: one property a slot, its symbols as enum."""
    checker = Checker(pathway)
    properties: dict[str, Any] = {}
    for name, slot in pathway.slots.items():
        variable = slot.variable
        symbols = [item for item in checker.domains[name].symbols if isinstance(item, str)]
        if variable.type == "boolean":
            properties[name] = {"enum": [True, False, *symbols]}
        elif variable.type == "number":
            number = {"type": "number", "minimum": variable.low, "maximum": variable.high}
            properties[name] = {"anyOf": [number, {"enum": symbols}]} if symbols else number
        elif variable.type == "set":
            properties[name] = {"type": "array", "items": {"enum": list(variable.symbols)}, "uniqueItems": True}
        else:
            properties[name] = {"enum": symbols}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
