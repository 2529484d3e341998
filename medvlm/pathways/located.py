"""YAML read with the line of every entry, so that a mistake can be pointed at.

Scalars are read as a clinician means them: only `true`, `false`, `null` and numbers are special; `yes`, `no`, `on` and
`off` stay words. A key written twice is an error instead of a silent loss.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from medvlm.errors import MedVLMError

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"-?\d+")
_FLOAT = re.compile(r"-?\d+\.\d+")


class PathwayError(MedVLMError):
    """A mistake in a pathway file: one sentence with file, line and remedy."""


@dataclass(frozen=True)
class Located:
    """A value of a YAML file with its line (from 1).

    `value` is a str, bool, int, float, None, `dict[str, Located]` or `list[Located]`.
    """

    value: Any
    line: int
    file: str

    def fail(self, problem: str, remedy: str) -> NoReturn:
        """Raise a PathwayError that names this line."""
        raise PathwayError(f"{self.file}, line {self.line}: {problem}; {remedy}.")

    def plain(self) -> Any:
        """The value without lines."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value

    def mapping(self, what: str, allowed: Iterable[str] | None = None) -> dict[str, Located]:
        """The value as a mapping whose keys are among `allowed`."""
        if not isinstance(self.value, dict):
            self.fail(f"{what} must be a mapping (key: value)", "write one entry a line, indented under it")
        if allowed is not None:
            names = tuple(allowed)
            for key, item in self.value.items():
                if key not in names:
                    item.fail(f"{what} has no entry '{key}'", suggestion(key, names))
        return self.value

    def items(self, what: str) -> list[Located]:
        """The value as a list."""
        if not isinstance(self.value, list):
            self.fail(f"{what} must be a list", "write '- ' before each entry or [a, b]")
        return self.value

    def text(self, what: str) -> str:
        """The value as text (numbers are given as written)."""
        if isinstance(self.value, bool) or not isinstance(self.value, str | int | float) or self.value == "":
            self.fail(f"{what} must be text", "write a word or a phrase, in quotes if it has a colon")
        return str(self.value)

    def texts(self, what: str) -> tuple[str, ...]:
        """The value as a list of texts; one text is a list of one."""
        if isinstance(self.value, list):
            return tuple(item.text(what) for item in self.value)
        return (self.text(what),)

    def number(self, what: str) -> float:
        """The value as a number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            self.fail(f"{what} must be a number, not {self.value!r}", "write digits without a unit")
        return float(self.value)

    def choice(self, what: str, options: Iterable[str]) -> str:
        """The value as one of `options`."""
        names = tuple(options)
        if self.value not in names:
            self.fail(f"{what} cannot be {self.value!r}", suggestion(str(self.value), names))
        return str(self.value)

    def flag(self, what: str) -> bool:
        """The value as true or false."""
        if not isinstance(self.value, bool):
            self.fail(f"{what} must be true or false, not {self.value!r}", "write true or false")
        return self.value

    def get(self, key: str, default: Any = None) -> Located:
        """An entry of a mapping, or `default` with this line."""
        if isinstance(self.value, dict) and key in self.value:
            found: Located = self.value[key]
            return found
        return Located(default, self.line, self.file)

    def need(self, key: str, what: str) -> Located:
        """An entry of a mapping that must be there."""
        if not isinstance(self.value, dict) or key not in self.value:
            self.fail(f"{what} has no '{key}'", f"add '{key}:' to it")
        found: Located = self.value[key]
        return found


def suggestion(word: str, options: Iterable[str]) -> str:
    """A remedy for an unknown word: the nearest option, or the options."""
    names = sorted(set(options))
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean '{near[0]}'"
    return f"choose one of: {', '.join(names)}" if names else "remove it"


def read_located(path: Path) -> Located:
    """Read a YAML file.

    Raises:
        PathwayError: the file is missing, is not YAML, is empty or has a key twice (names the line).
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise PathwayError(f"{path}: no such file; give the path of a pathway.yaml.") from None
    except UnicodeDecodeError:
        raise PathwayError(f"{path}: not a text file; save it as UTF-8.") from None
    return parse_located(text, str(path))


def parse_located(text: str, file: str) -> Located:
    """Parse YAML text; `file` is the name used in messages."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise PathwayError(
            f"{file}, line {line}: not valid YAML ({error.problem}); check the indentation, colons and quotes there."
        ) from None
    except yaml.YAMLError as error:
        raise PathwayError(f"{file}, line 1: not valid YAML ({error}); save it as plain UTF-8 text.") from None
    if node is None:
        raise PathwayError(f"{file}, line 1: the file is empty; start with 'pathway:' and 'variables:'.")
    return _convert(node, file)


def _convert(node: yaml.Node, file: str) -> Located:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        entries: dict[str, Located] = {}
        for key_node, value_node in node.value:
            item = _convert(value_node, file)
            key = str(key_node.value)
            if key in entries:
                here = Located(None, key_node.start_mark.line + 1, file)
                here.fail(f"'{key}' is written twice", f"join it with line {entries[key].line} or rename it")
            # An entry is pointed at by the line of its key, which is where the reader looks.
            entries[key] = Located(item.value, key_node.start_mark.line + 1, file)
        return Located(entries, line, file)
    if isinstance(node, yaml.SequenceNode):
        return Located([_convert(item, file) for item in node.value], line, file)
    assert isinstance(node, yaml.ScalarNode)
    return Located(_scalar(node), line, file)


def _scalar(node: yaml.ScalarNode) -> Any:
    text = node.value
    if node.style in ("'", '"', "|", ">"):
        return text
    if text in ("true", "false"):
        return text == "true"
    if text in ("", "null", "~"):
        return None
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
