"""The `rules`, `decisions`, `bindings` and `tests` sections of a pathway file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medvlm.pathways.expressions import Compiler, Expression
from medvlm.pathways.located import Located, suggestion
from medvlm.pathways.spec import NOT_ASSESSABLE, Binding, Decision, Row, Rule, SelfTest, Slot, Symbol

_RULE_KEYS = ("that", "if", "then", "text", "for", "uncertain")
_DECISION_KEYS = ("target", "hit", "for", "rows", "else")
_TAKES = ("presence", "probability", "grade", "laterality", "site", "measurement", "count")


def read_rules(
    source: Located | None, compiler: Compiler, slots: Mapping[str, Slot], root: Located
) -> tuple[Rule, ...]:
    """Written rules, then the prerequisites of variables (`when`) as rules."""
    rules: list[Rule] = []
    for name, item in source.mapping("rules").items() if source else ():
        item.mapping(f"rule '{name}'", _RULE_KEYS)
        text = item.get("text", "").value or _rule_text(item)
        uncertain = item.get("uncertain", "").value or ""
        for suffix, member in _members(item, compiler):
            rules.append(Rule(name + suffix, _rule(name, item, compiler, member), text, item.line, uncertain))
    for slot in slots.values():
        rules += _prerequisite(slot, compiler, root)
    return tuple(rules)


def _rule(name: str, item: Located, compiler: Compiler, member: tuple[str, str] | None) -> Expression:
    if "that" in item.value:
        if "if" in item.value or "then" in item.value:
            item.fail(f"rule '{name}' has 'that' beside 'if' or 'then'", "write either 'that' or 'if' and 'then'")
        return _condition(item.value["that"], compiler, member)
    condition = _condition(item.need("if", f"rule '{name}'"), compiler, member)
    conclusion = _condition(item.need("then", f"rule '{name}'"), compiler, member)

    def implies(env: Mapping[str, Any]) -> bool:
        return condition.evaluate(env) is not True or conclusion.evaluate(env) is True

    slots = tuple(dict.fromkeys((*condition.slots, *conclusion.slots)))
    return Expression(
        f"if {condition.text} then {conclusion.text}", slots, implies, (*condition.cuts, *conclusion.cuts)
    )


def _rule_text(item: Located) -> str:
    if "that" in item.value:
        return str(item.value["that"].value)
    return f"if {item.get('if', '').value}, then {item.get('then', '').value}"


def _condition(item: Located, compiler: Compiler, member: tuple[str, str] | None) -> Expression:
    """A compiled expression that is true or false."""
    return compiler.compile(item, member, condition=True)


def _members(item: Located, compiler: Compiler) -> list[tuple[str, tuple[str, str] | None]]:
    scope = item.get("for", None)
    if scope.value is None:
        return [("", None)]
    if scope.value not in compiler.entities:
        scope.fail(f"there is no entity '{scope.value}'", suggestion(str(scope.value), compiler.entities))
    return [(f"[{member}]", (scope.value, member)) for member in compiler.entities[scope.value].members]


def _prerequisite(slot: Slot, compiler: Compiler, root: Located) -> list[Rule]:
    variable = slot.variable
    if variable.when is None:
        return []
    member = (variable.scope, slot.member) if variable.scope and slot.member else None
    condition = _condition(Located(variable.when, variable.line, root.file), compiler, member)
    if slot.name in condition.slots:
        Located(None, variable.line, root.file).fail(
            f"'{variable.id}' is its own prerequisite", "name other variables in 'when'"
        )
    name, may_fail = slot.name, variable.may_fail

    def holds(env: Mapping[str, Any]) -> bool:
        failed = env[name] == NOT_ASSESSABLE
        if condition.evaluate(env) is True:
            return may_fail or not failed
        return failed

    text = f"{variable.subject} can be answered only if {variable.when}"
    expression = Expression(f"when {variable.when}", (slot.name, *condition.slots), holds, condition.cuts)
    return [Rule(f"when_{name}", expression, text, variable.line)]


def read_decisions(source: Located | None, compiler: Compiler, slots: Mapping[str, Slot]) -> tuple[Decision, ...]:
    """Decision tables; one with `for: eye` becomes one table an eye."""
    decisions: list[Decision] = []
    for name, item in source.mapping("decisions").items() if source else ():
        item.mapping(f"decision '{name}'", _DECISION_KEYS)
        for suffix, member in _members(item, compiler):
            decisions.append(_decision(name + suffix, name, item, compiler, slots, member))
    seen: dict[str, Decision] = {}
    for decision in decisions:
        if decision.target in seen:
            message = f"'{decision.target}' is decided twice"
            Located(None, decision.line, source.file if source else "").fail(message, "join the two tables")
        seen[decision.target] = decision
    return tuple(decisions)


def _decision(
    full: str,
    name: str,
    item: Located,
    compiler: Compiler,
    slots: Mapping[str, Slot],
    member: tuple[str, str] | None,
) -> Decision:
    target_item = item.get("target", name)
    target = target_item.text("target")
    if member is not None and f"{target}[{member[1]}]" in slots:
        target = f"{target}[{member[1]}]"
    if target not in slots:
        target_item.fail(
            f"decision '{name}' has the target '{target}', which is no variable", suggestion(target, slots)
        )
    rows = []
    for row in item.need("rows", f"decision '{name}'").items("rows"):
        row.mapping("a row", ("if", "then", "text", "uncertain"))
        condition = _condition(row.need("if", "a row"), compiler, member)
        outcome = _outcome(row.need("then", "a row"), slots[target], compiler, member)
        text = row.get("text", "").value or condition.text
        rows.append(Row(condition, outcome, row.line, text, row.get("uncertain", "").value or ""))
    if "else" in item.value:
        last = item.value["else"]
        always = Expression("otherwise", (), lambda env: True)
        rows.append(Row(always, _outcome(last, slots[target], compiler, member), last.line, "otherwise"))
    if not rows:
        item.fail(f"decision '{name}' has no rows", "add '- {if: ..., then: ...}' under rows")
    hit = item.get("hit", "first").choice("hit", ("first", "unique", "max"))
    if hit == "max" and slots[target].variable.type not in ("ordinal", "number"):
        item.value["hit"].fail(f"hit: max needs an order, and '{target}' has none", "make it ordinal or use hit: first")
    for made in rows:
        read = (*made.condition.slots, *(made.outcome.slots if isinstance(made.outcome, Expression) else ()))
        if target in read:
            Located(None, made.line, item.file).fail(f"the row reads its own target '{target}'", "name inputs only")
    return Decision(full, target, hit, tuple(rows), item.line)  # type: ignore[arg-type]


def _outcome(item: Located, slot: Slot, compiler: Compiler, member: tuple[str, str] | None) -> Symbol | Expression:
    if isinstance(item.value, str) and item.value.startswith("="):
        return compiler.compile(Located(item.value[1:].strip(), item.line, item.file), member)
    return read_symbol(item, slot)


def read_symbol(item: Located, slot: Slot) -> Symbol:
    """A symbol of a slot as written in a file: `moderate`, `true`, `12`, `[macro, rim]`, `not_assessable`.

    Raises:
        PathwayError: the slot has no such symbol (names line and remedy).
    """
    variable, value = slot.variable, item.value
    if value == NOT_ASSESSABLE:
        if not (variable.when or variable.may_fail):
            item.fail(f"'{variable.id}' can always be assessed", "give it 'when:' or 'may_fail: true'")
        return NOT_ASSESSABLE
    if variable.type == "boolean":
        return item.flag(f"'{slot.name}'")
    if variable.type == "number":
        number = item.number(f"'{slot.name}'")
        if not variable.low <= number <= variable.high:
            limits = f"{variable.low:g} to {variable.high:g} {variable.unit}"
            item.fail(f"'{slot.name}' cannot be {number:g}", f"stay within {limits} or widen its range")
        return number
    if variable.type == "set":
        members = item.texts("a set") if not isinstance(value, list) or value else ()
        for member in members:
            if member not in variable.symbols:
                item.fail(f"'{variable.id}' has no value '{member}'", suggestion(member, variable.symbols))
        return frozenset(members)
    symbol = str(value)
    if symbol not in variable.symbols:
        item.fail(f"'{variable.id}' has no value '{symbol}'", suggestion(symbol, variable.symbols))
    return symbol


def read_bindings(source: Located | None, slots: Mapping[str, Slot]) -> tuple[Binding, ...]:
    """How Findings fill slots."""
    bindings = []
    for item in source.items("bindings") if source else ():
        keys = ("variable", "concept", "take", "measurement", "pick", "nth", "map", "threshold")
        item.mapping("a binding", keys)
        name = item.need("variable", "a binding")
        if name.value not in slots:
            name.fail(f"a binding fills '{name.value}', which is no variable", suggestion(str(name.value), slots))
        slot = slots[str(name.value)]
        take = item.get("take", "presence").choice("take", _TAKES)
        if take == "measurement":
            item.need("measurement", "a binding that takes a measurement")
        mapping = {}
        for key, target in item.value["map"].mapping("map").items() if "map" in item.value else ():
            read_symbol(target, slot)
            mapping[key.lower()] = target.value
        bindings.append(
            Binding(
                slot.name,
                item.need("concept", "a binding").text("concept"),
                take,
                str(item.get("measurement", "").value),
                item.get("pick", "largest").choice("pick", ("largest", "first")),
                int(item.get("nth", 1).number("nth")),
                mapping,
                item.get("threshold", 0.5).number("threshold"),
                item.line,
            )
        )
    return tuple(bindings)


def read_tests(source: Located | None, slots: Mapping[str, Slot]) -> tuple[SelfTest, ...]:
    """Embedded tests: `{given: {...}, expect: {...}}` or `{given: {...}, consistent: false}`."""
    tests = []
    for item in source.items("tests") if source else ():
        item.mapping("a test", ("given", "expect", "consistent", "text"))
        given = _assignment(item.need("given", "a test"), slots)
        expect = _assignment(item.value["expect"], slots) if "expect" in item.value else {}
        consistent = item.get("consistent", True).flag("consistent")
        if not expect and consistent and "consistent" not in item.value:
            item.fail("a test expects nothing", "add 'expect: {variable: value}' or 'consistent: false'")
        tests.append(SelfTest(given, expect, item.line, consistent))
    return tuple(tests)


def _assignment(source: Located, slots: Mapping[str, Slot]) -> dict[str, Symbol]:
    answers = {}
    for name, item in source.mapping("a test").items():
        if name not in slots:
            item.fail(f"a test names '{name}', which is no variable", suggestion(name, slots))
        answers[name] = read_symbol(item, slots[name])
    return answers
