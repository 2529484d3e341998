"""The `entities` and `variables` sections of a pathway file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from medvlm.pathways.domains import MAX_SET
from medvlm.pathways.located import Located, suggestion
from medvlm.pathways.spec import NOT_ASSESSABLE, Entity, Phrasings, Value, Variable
from medvlm.pathways.units import known_unit

_ID = re.compile(r"[a-z][a-z0-9_]*")
_SYMBOL = re.compile(r"[A-Za-z0-9_]+")
_TYPES = ("boolean", "categorical", "ordinal", "number", "set")
_RESERVED = {
    "and",
    "or",
    "not",
    "in",
    "has",
    "true",
    "false",
    "always",
    "any",
    "all",
    "count",
    "max",
    "min",
    "sum",
    "points",
    NOT_ASSESSABLE,
}
_VARIABLE_KEYS = (
    "type",
    "concept",
    "article",
    "exclude",
    "plural",
    "ask",
    "frame",
    "values",
    "unit",
    "range",
    "step",
    "tolerance",
    "dimension",
    "scope",
    "when",
    "may_fail",
    "weight",
    "costs",
)
_VALUE_KEYS = (
    "say",
    "say_heldout",
    "synonyms",
    "words",
    "short",
    "denied",
    "exclude",
    "parent",
    "abstract",
    "points",
    "train",
    "heldout",
)
_FRAMES = {"boolean": "presence", "number": "number", "ordinal": "category", "categorical": "attribute"}


def read_entities(source: Located | None) -> dict[str, Entity]:
    """`entities: {eye: {right: [right eye, OD], left: [left eye, OS]}}`."""
    entities: dict[str, Entity] = {}
    if source is None:
        return entities
    for name, item in source.mapping("entities").items():
        _check_id(name, item, "entity")
        members = {
            member: words.texts(f"the wording of {name} '{member}'")
            for member, words in item.mapping(f"entity '{name}'").items()
        }
        entities[name] = Entity(name, members)
    return entities


def read_variables(
    source: Located, entities: Mapping[str, Entity], frames: Mapping[str, Phrasings]
) -> dict[str, Variable]:
    """All variables in the order of the file."""
    variables = {}
    for name, item in source.mapping("variables").items():
        _check_id(name, item, "variable")
        variables[name] = _variable(name, item, entities, frames)
    if not variables:
        source.fail("there are no variables", "add at least one under 'variables:'")
    return variables


def _check_id(name: str, item: Located, what: str) -> None:
    if not _ID.fullmatch(name):
        item.fail(f"'{name}' is not a name for a {what}", "use small letters, digits and _, starting with a letter")
    if name in _RESERVED:
        item.fail(f"'{name}' is a word of the language", f"rename the {what}")


def _variable(name: str, item: Located, entities: Mapping[str, Entity], frames: Mapping[str, Phrasings]) -> Variable:
    fields = item.mapping(f"variable '{name}'", _VARIABLE_KEYS)
    kind = item.need("type", f"variable '{name}'").choice("type", _TYPES)
    concept = item.get("concept", name.replace("_", " ")).texts("concept")
    article = item.get("article", None)
    scope = item.get("scope", None)
    if scope.value is not None and scope.value not in entities:
        scope.fail(f"there is no entity '{scope.value}'", suggestion(str(scope.value), entities))
    values = _values(name, kind, item)
    frame = item.get("frame", _FRAMES.get(kind, "attribute"))
    frame_name = frame.text("frame")
    wanted = f"{frame_name}.true" if frame_name == "presence" else frame_name
    if wanted not in frames:
        frame.fail(f"there is no frame '{frame_name}'", suggestion(frame_name, frames))
    settings: dict[str, Any] = {}
    if kind == "number":
        settings = _number(name, item)
    else:
        for key in ("unit", "range", "step", "tolerance", "dimension"):
            if key in fields:
                fields[key].fail(f"'{key}' is for numbers, and '{name}' is {kind}", "remove it or use 'type: number'")
    when = fields.get("when")
    return Variable(
        id=name,
        type=kind,  # type: ignore[arg-type]
        values=values,
        concept=concept,
        article=article.text("article") if article.value is not None else "",
        exclude=fields["exclude"].texts("exclude") if "exclude" in fields else (),
        plural=item.get("plural", False).flag("plural"),
        ask=_phrasings(fields["ask"], "ask") if "ask" in fields else Phrasings(),
        frame=frame_name,
        scope=scope.value,
        when=when.text("when") if when else None,
        may_fail=item.get("may_fail", False).flag("may_fail"),
        weight=_positive(item.get("weight", 1.0), "weight"),
        costs=_costs(name, kind, item, values),
        line=item.line,
        **settings,
    )


def _positive(item: Located, what: str) -> float:
    number = item.number(what)
    if number <= 0:
        item.fail(f"{what} must be above 0, not {number:g}", "write a positive number")
    return number


def _number(name: str, item: Located) -> dict[str, Any]:
    unit = item.need("unit", f"number '{name}'")
    if not known_unit(unit.text("unit")):
        unit.fail(
            f"the unit '{unit.value}' is not known", "use mm, cm, mL, %, HU, ms, ng/L, years, days, points or count"
        )
    limits = item.need("range", f"number '{name}'")
    pair = [entry.number("range") for entry in limits.items("range")]
    if len(pair) != 2 or pair[0] >= pair[1]:
        limits.fail("range must be [lowest, highest]", "write two numbers, the smaller first")
    step = _positive(item.get("step", 1.0), "step")
    return {
        "unit": unit.text("unit"),
        "low": pair[0],
        "high": pair[1],
        "step": step,
        "tolerance": item.get("tolerance", 0.0).number("tolerance"),
        "dimension": item.get("dimension", "max").choice("dimension", ("max", "mean", "min", "first")),
    }


def _phrasings(item: Located, what: str) -> Phrasings:
    if isinstance(item.value, dict):
        item.mapping(what, ("train", "heldout"))
        train = item.need("train", what).texts(what)
        return Phrasings(train, item.value["heldout"].texts(what) if "heldout" in item.value else ())
    return Phrasings(item.texts(what))


def _values(name: str, kind: str, item: Located) -> tuple[Value, ...]:
    if kind == "number":
        if "values" in item.value:
            item.value["values"].fail(f"number '{name}' cannot have values", "remove them or use 'type: ordinal'")
        return ()
    if kind == "boolean" and "values" not in item.value:
        return (Value("true", line=item.line), Value("false", line=item.line))
    entries = item.need("values", f"variable '{name}'").mapping(f"values of '{name}'")
    values = tuple(_value(name, symbol, entry) for symbol, entry in entries.items())
    symbols = [value.symbol for value in values]
    if kind == "boolean" and sorted(symbols) != ["false", "true"]:
        item.value["values"].fail(f"boolean '{name}' has the values {symbols}", "name them true and false")
    if kind != "boolean" and sum(not value.abstract for value in values) < 2 and kind != "set":
        item.value["values"].fail(f"'{name}' has fewer than two values", "add the other answers")
    if kind == "set" and len(symbols) > MAX_SET:
        item.value["values"].fail(f"set '{name}' has more than {MAX_SET} values", "use one boolean for each")
    for value in values:
        if value.parent is not None and value.parent not in symbols:
            # A parent that is no value of its own is only a name for the group.
            entries[value.symbol].get("parent").text("parent")
    return values


def _value(name: str, symbol: str, item: Located) -> Value:
    if not _SYMBOL.fullmatch(symbol):
        item.fail(f"'{symbol}' is not a symbol of '{name}'", "use letters, digits and _ (put wordings into 'say')")
    if symbol in (NOT_ASSESSABLE, "unknown", "no_match", "ambiguous"):
        item.fail(f"'{symbol}' is reserved", "use 'may_fail: true' or 'when:' on the variable, or rename the value")
    if isinstance(item.value, list | str | int | float) and not isinstance(item.value, bool):
        return Value(symbol, say=item.texts("a wording"), line=item.line)
    fields = item.mapping(f"value '{symbol}' of '{name}'", _VALUE_KEYS)

    def texts(key: str) -> tuple[str, ...]:
        return fields[key].texts(key) if key in fields else ()

    return Value(
        symbol,
        say=texts("say"),
        say_heldout=texts("say_heldout"),
        synonyms=texts("synonyms"),
        words=texts("words"),
        short=texts("short"),
        denied=texts("denied"),
        exclude=texts("exclude"),
        parent=fields["parent"].text("parent") if "parent" in fields else None,
        abstract=item.get("abstract", False).flag("abstract"),
        points=item.get("points", 0.0).number("points"),
        phrasings=Phrasings(texts("train"), texts("heldout")),
        line=item.line,
    )


def _costs(name: str, kind: str, item: Located, values: tuple[Value, ...]) -> dict[tuple[str, str], float]:
    """`costs: {under: 2, over: 1}` or `{"truth -> answer": 2}`."""
    if "costs" not in item.value:
        return {}
    costs: dict[tuple[str, str], float] = {}
    symbols = [value.symbol for value in values]
    for key, entry in item.value["costs"].mapping("costs").items():
        factor = entry.number("a cost")
        if factor < 0:
            entry.fail(f"a cost cannot be negative ({factor:g})", "write 0 or more")
        if key in ("under", "over"):
            if kind not in ("ordinal", "number"):
                entry.fail(f"'{key}' needs an order, and '{name}' is {kind}", "write 'truth -> answer: 2'")
            costs[(key, "")] = factor
            continue
        truth, arrow, answer = (part.strip() for part in key.partition("->"))
        for symbol in (truth, answer):
            if not arrow or symbol not in symbols:
                entry.fail(f"the cost '{key}' is not 'truth -> answer'", suggestion(symbol, symbols))
        costs[(truth, answer)] = factor
    return costs
