"""The small language of conditions: `size >= 6 and not (type == solid or any(growing))`.

Operators: `and or not == != < <= > >= in has + - *`; functions: `any all count max min sum` over the members of an
entity, `points(variable)` for point sums; `always` is true. Comparing a value that is not assessable gives false.
An expression is parsed once into plain closures; nothing is ever evaluated as Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from medvlm.pathways.located import Located, suggestion

if TYPE_CHECKING:
    from medvlm.pathways.spec import Entity, Variable

Environment = Mapping[str, Any]
Function = Callable[[Environment], Any]

_NA = "not_assessable"
_TOKEN = re.compile(r"\s*(?:(?P<word>\d*[A-Za-z_]\w*)|(?P<number>\d+(?:\.\d+)?)|(?P<op>==|!=|<=|>=|[<>()\[\],+*-]))")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_FUNCTIONS = ("any", "all", "count", "max", "min", "sum", "points")
_MAX_DEPTH = 40


@dataclass(frozen=True, eq=False)
class Expression:
    """A compiled expression.

    Attributes:
        text: as written.
        slots: names of the slots it reads.
        evaluate: full assignment (slot → symbol) → bool or number.
        cuts: `(slot, constant, side)` where numbers are split: side 0 between `< c` and `>= c`, 1 between `<= c` and
            `> c`.
    """

    text: str
    slots: tuple[str, ...]
    evaluate: Function
    cuts: tuple[tuple[str, float, int], ...] = ()


@dataclass(frozen=True)
class _Node:
    """A sub-expression: its function and, for a variable or an aggregate of one, the variable it is a value of."""

    call: Function
    variable: Variable | None = None
    slots: tuple[str, ...] = ()
    kind: str = "boolean"  # boolean, number, symbol, set
    constant: Any = None


class Compiler:
    """Compiles expressions over the variables of one pathway."""

    def __init__(self, variables: Mapping[str, Variable], entities: Mapping[str, Entity]) -> None:
        self.variables = variables
        self.entities = entities

    def compile(self, source: Located, member: tuple[str, str] | None = None, condition: bool = False) -> Expression:
        """Compile text found at `source`.

        Args:
            source: the text with its line.
            member: binds variables of one entity: `(entity, member)`.
            condition: the whole must be a yes/no value.

        Raises:
            PathwayError: the text is not an expression over known variables and values (names line and remedy).
        """
        if isinstance(source.value, bool):
            value = source.value
            return Expression(str(value).lower(), (), lambda env: value)
        text = source.text("a condition")
        parser = _Parser(self, source, text, member)
        node = parser.whole()
        call = parser.truth(node) if condition else node.call
        return Expression(text, tuple(dict.fromkeys(parser.slots)), call, tuple(dict.fromkeys(parser.cuts)))


class _Parser:
    """Recursive descent over one expression."""

    def __init__(self, owner: Compiler, source: Located, text: str, member: tuple[str, str] | None) -> None:
        self.owner, self.source, self.text, self.member = owner, source, text, member
        self.slots: list[str] = []
        self.cuts: list[tuple[str, float, int]] = []
        self.tokens = self._tokens()
        self.at = 0
        self.depth = 0

    def _tokens(self) -> list[tuple[str, str]]:
        tokens, position = [], 0
        while self.text[position:].strip():
            match = _TOKEN.match(self.text, position)
            if not match:
                rest = self.text[position:].strip()
                self.fail(f"cannot read '{rest[:12]}'", "use and, or, not, ==, !=, <, <=, >, >=, in (a, b), has")
            tokens.append((str(match.lastgroup), match.group(match.lastgroup or 0)))
            position = match.end()
        return [*tokens, ("end", "")]

    def fail(self, problem: str, remedy: str) -> NoReturn:
        self.source.fail(f"in '{self.text}': {problem}", remedy)

    def peek(self, *words: str) -> bool:
        kind, text = self.tokens[self.at]
        return kind != "end" and text in words

    def take(self) -> tuple[str, str]:
        token = self.tokens[self.at]
        self.at += token[0] != "end"
        return token

    def expect(self, text: str) -> None:
        if not self.peek(text):
            found = self.tokens[self.at][1] or "the end"
            self.fail(f"expected '{text}' before '{found}'", "check the brackets")
        self.take()

    def whole(self) -> _Node:
        node = self.either()
        if self.tokens[self.at][0] != "end":
            found = self.tokens[self.at][1]
            self.fail(f"'{found}' is not expected there", "join conditions with and / or")
        return node

    def either(self) -> _Node:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            self.fail("brackets are nested too deep", "split the condition into several rules")
        node = self.both()
        while self.peek("or"):
            self.take()
            left, right = self.truth(node), self.truth(self.both())
            node = _Node(lambda env, a=left, b=right: a(env) or b(env))  # type: ignore[misc]
        self.depth -= 1
        return node

    def both(self) -> _Node:
        node = self.negation()
        while self.peek("and"):
            self.take()
            left, right = self.truth(node), self.truth(self.negation())
            node = _Node(lambda env, a=left, b=right: a(env) and b(env))  # type: ignore[misc]
        return node

    def negation(self) -> _Node:
        if not self.peek("not"):
            return self.comparison()
        self.take()
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            self.fail("'not' is nested too deep", "write the condition without repeated 'not'")
        inner = self.truth(self.negation())
        self.depth -= 1
        return _Node(lambda env: not inner(env))

    def truth(self, node: _Node) -> Function:
        if node.kind != "boolean":
            name = node.variable.id if node.variable else "a number"
            self.fail(f"'{name}' is not a yes/no value", "compare it with ==, < or in (...)")
        call = node.call
        return lambda env: call(env) is True

    def comparison(self) -> _Node:
        left = self.arithmetic()
        if self.peek("==", "!=", "<", "<=", ">", ">="):
            operator = self.take()[1]
            return self._compare(left, operator, self.operand(left))
        if self.peek("in"):
            self.take()
            self.expect("(")
            options = [self.operand(left)]
            while self.peek(","):
                self.take()
                options.append(self.operand(left))
            self.expect(")")
            allowed = frozenset(option.constant for option in options)
            if None in allowed:
                self.fail("'in (...)' lists values only", "compare two variables with ==")
            call = left.call
            for option in options:
                self._cut(left, "==", option)
            return _Node(lambda env: call(env) in allowed)
        if self.peek("has"):
            self.take()
            if left.kind != "set":
                self.fail("'has' needs a set variable", "use == for a variable of one value")
            symbol = self._symbol(self.take()[1], left.variable)
            call = left.call
            return _Node(lambda env: isinstance(call(env), frozenset) and symbol in call(env))
        return left

    def operand(self, left: _Node) -> _Node:
        """The right side: a value of the left side's variable, or an arithmetic term."""
        kind, text = self.tokens[self.at]
        if text == _NA:
            self.take()
            return _Node(lambda env: _NA, kind="symbol", constant=_NA)
        if left.kind == "symbol" and kind in ("word", "number"):
            self.take()
            symbol = self._symbol(text, left.variable)
            return _Node(lambda env: symbol, left.variable, kind="symbol", constant=symbol)
        if left.kind == "boolean" and text in ("true", "false"):
            self.take()
            return _Node(lambda env: text == "true", constant=text == "true")
        return self.arithmetic()

    def _symbol(self, text: str, variable: Variable | None) -> str:
        assert variable is not None
        if text not in variable.symbols:
            self.fail(f"'{variable.id}' has no value '{text}'", suggestion(text, variable.symbols))
        return text

    def _compare(self, left: _Node, operator: str, right: _Node) -> _Node:
        a, b, compare = left.call, right.call, _COMPARE[operator]
        if right.constant == _NA:
            if operator not in ("==", "!="):
                self.fail(f"'{operator}' cannot be used with {_NA}", "use == or !=")
            wanted = operator == "=="
            return _Node(lambda env: (a(env) == _NA) is wanted)
        if left.kind == "symbol":
            variable = left.variable
            if operator not in ("==", "!=") and (variable is None or variable.type != "ordinal"):
                name = variable.id if variable else "it"
                self.fail(f"'{name}' has no order", "use == or in (...), or make its type ordinal")
            if operator not in ("==", "!=") and variable is not None:
                rank = variable.rank
                return _Node(lambda env: a(env) != _NA and b(env) != _NA and compare(rank[a(env)], rank[b(env)]))
        elif left.kind != right.kind:
            self.fail("the two sides are of different kinds", "compare numbers with numbers, values with values")
        self._cut(left, operator, right)
        return _Node(lambda env: a(env) != _NA and b(env) != _NA and compare(a(env), b(env)))

    def _cut(self, left: _Node, operator: str, right: _Node) -> None:
        """Remember where a number is split; two free numbers cannot be compared exactly."""
        if left.kind != "number":
            return
        for node, other in ((left, right), (right, left)):
            if node.variable is not None and node.variable.type == "number" and other.constant is not None:
                flipped = node is right
                sides = {"==": (0, 1), "!=": (0, 1), "<": (0,), ">=": (0,), "<=": (1,), ">": (1,)}[operator]
                sides = tuple(1 - side for side in sides) if flipped and len(sides) == 1 else sides
                self.cuts += [(slot, float(other.constant), side) for slot in node.slots for side in sides]

    def arithmetic(self) -> _Node:
        node = self.product()
        while self.peek("+", "-"):
            operator = self.take()[1]
            node = self._combine(node, self.product(), operator)
        return node

    def product(self) -> _Node:
        node = self.atom()
        while self.peek("*"):
            self.take()
            node = self._combine(node, self.atom(), "*")
        return node

    def _combine(self, left: _Node, right: _Node, operator: str) -> _Node:
        for node in (left, right):
            if node.kind not in ("number", "boolean"):
                name = node.variable.id if node.variable else "it"
                self.fail(f"'{name}' is not a number", f"use points({name}) or a number variable")
        a, b = _numeric(left.call), _numeric(right.call)
        if operator == "*":
            return _Node(lambda env: a(env) * b(env), kind="number")
        sign = 1 if operator == "+" else -1
        return _Node(lambda env: a(env) + sign * b(env), kind="number")

    def atom(self) -> _Node:
        kind, text = self.take()
        if text == "(":
            node = self.either()
            self.expect(")")
            return node
        if text == "-" and self.tokens[self.at][0] == "number":
            value = -float(self.take()[1])
            return _Node(lambda env: value, kind="number", constant=value)
        if kind == "number":
            number = float(text)
            return _Node(lambda env: number, kind="number", constant=number)
        if text in ("true", "always", "false"):
            constant = text != "false"
            return _Node(lambda env: constant, constant=constant)
        if kind != "word":
            self.fail("a value is missing" if kind == "end" else f"'{text}' is not expected there", "complete it")
        if text in _FUNCTIONS and self.peek("("):
            return self._function(text)
        return self._variable(text)

    def _variable(self, name: str) -> _Node:
        variable = self.owner.variables.get(name)
        if variable is None:
            self.fail(f"'{name}' is not a variable", suggestion(name, (*self.owner.variables, *_FUNCTIONS)))
        slot = name
        if variable.scope:
            members = self.owner.entities[variable.scope].members
            if self.peek("["):
                self.take()
                chosen = self.take()[1]
                self.expect("]")
                if chosen not in members:
                    self.fail(f"'{variable.scope}' has no '{chosen}'", suggestion(chosen, members))
            elif self.member and self.member[0] == variable.scope:
                chosen = self.member[1]
            else:
                remedy = f"write {name}[{next(iter(members))}], any({name}) or 'for: {variable.scope}'"
                self.fail(f"'{name}' is asked for each {variable.scope}", remedy)
            slot = f"{name}[{chosen}]"
        self.slots.append(slot)
        kind = {"boolean": "boolean", "number": "number", "set": "set"}.get(variable.type, "symbol")
        return _Node(lambda env: env[slot], variable, (slot,), kind)

    def _function(self, name: str) -> _Node:
        self.expect("(")
        if name == "points":
            node = self._variable(self.take()[1])
            self.expect(")")
            if node.variable is None or node.kind in ("number", "boolean"):
                self.fail("points() needs a variable with values", "give it a categorical, ordinal or set variable")
            points = {value.symbol: value.points for value in node.variable.values}
            call = node.call
            return _Node(lambda env: _points(call(env), points), kind="number")
        start, outer = self.at, self.member
        if outer is not None:
            self.fail(f"{name}() cannot be used under 'for:'", "write it in a rule or table without 'for:'")
        entity = self._entity_ahead(name)
        nodes = []
        for member in self.owner.entities[entity].members:
            self.at, self.member = start, (entity, member)
            nodes.append(self.either())
        self.member = outer
        self.expect(")")
        first = nodes[0]
        calls = [node.call for node in nodes]
        slots = tuple(slot for node in nodes for slot in node.slots)
        if name in ("any", "all", "count"):
            tests = [self.truth(node) for node in nodes]
            if name == "count":
                return _Node(lambda env: float(sum(test(env) for test in tests)), kind="number")
            fold = any if name == "any" else all
            return _Node(lambda env: fold(test(env) for test in tests))
        if name == "sum":
            numbers = [_numeric(call) for call in calls]
            return _Node(lambda env: sum(number(env) for number in numbers), kind="number")
        choose = max if name == "max" else min
        if first.kind == "symbol" and first.variable is not None and first.variable.type == "ordinal":
            rank = first.variable.rank

            def extreme(env: Environment) -> Any:
                found = [value for value in (call(env) for call in calls) if value != _NA]
                return choose(found, key=rank.__getitem__) if found else _NA

            return _Node(extreme, first.variable, slots, "symbol")
        if first.kind != "number":
            self.fail(f"{name}() needs an ordinal or a number", "use any() or count() for yes/no values")

        def extreme_number(env: Environment) -> Any:
            found = [value for value in (call(env) for call in calls) if value != _NA]
            return choose(found) if found else _NA

        return _Node(extreme_number, first.variable, slots, "number")

    def _entity_ahead(self, name: str) -> str:
        for kind, text in self.tokens[self.at :]:
            variable = self.owner.variables.get(text) if kind == "word" else None
            if variable is not None and variable.scope:
                return variable.scope
        return self.fail(f"{name}() needs a variable with a scope", "give the variable 'scope:' or compare it directly")


def _numeric(call: Function) -> Function:
    def number(env: Environment) -> float:
        value = call(env)
        return 0.0 if value == _NA else float(value)

    return number


def _points(value: Any, points: Mapping[str, float]) -> float:
    if isinstance(value, frozenset):
        return sum(points[symbol] for symbol in value)
    return points.get(value, 0.0)
