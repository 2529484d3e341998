"""Pathway files: YAML → checked `Pathway`.

Every mistake is one sentence with file, line and remedy. What can only be found by trying all cases (tables with
holes, phrasings that read as something else, dead rules) is `lint.py`'s part.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from medvlm.content import find_content, list_content
from medvlm.pathways.expressions import Compiler
from medvlm.pathways.load_rules import read_bindings, read_decisions, read_rules, read_tests
from medvlm.pathways.load_turns import read_reward, read_turns
from medvlm.pathways.load_variables import read_entities, read_variables
from medvlm.pathways.located import Located, PathwayError, parse_located, read_located
from medvlm.pathways.spec import Pathway, Phrasings, Slot, Variable

_SECTIONS = (
    "pathway",
    "entities",
    "variables",
    "rules",
    "decisions",
    "turns",
    "reward",
    "bindings",
    "tests",
    "frames",
)
_HEAD = ("id", "title", "version", "source", "notice", "uncertain", "balance")
_ID = re.compile(r"[a-z][a-z0-9_]*")
NOTICE = "For research only. Not for diagnosis. Not endorsed by the authors of the guideline."


def load_pathway(path: str | Path) -> Pathway:
    """Load and check a pathway file.

    Args:
        path: a `pathway.yaml`, a folder that holds one, or the name of a folder in `curricula/`.

    Raises:
        PathwayError: the file has a mistake (names file, line and remedy).
        MedVLMError: there is no such file or name.
    """
    found = find_content("curricula", path)
    if found.is_dir():
        found = found / "pathway.yaml"
    return _build(read_located(found))


def parse_pathway(text: str, file: str = "pathway.yaml") -> Pathway:
    """Like `load_pathway`, from YAML text; `file` is the name used in messages."""
    return _build(parse_located(text, file))


def list_pathways() -> dict[str, Path]:
    """Name → file of every pathway in the content folders."""
    folders = list_content("curricula")
    return {name: folder / "pathway.yaml" for name, folder in folders.items() if (folder / "pathway.yaml").is_file()}


@cache
def common_frames() -> dict[str, Phrasings]:
    """The families of sentences that ship with the package."""
    return read_frames(read_located(Path(__file__).with_name("frames.yaml")))


def read_frames(source: Located) -> dict[str, Phrasings]:
    """Read families of sentences: name → train and heldout."""
    frames = {}
    for name, item in source.mapping("frames").items():
        item.mapping(f"frame '{name}'", ("train", "heldout"))
        train = item.need("train", f"frame '{name}'").texts("a sentence")
        frames[name] = Phrasings(train, item.get("heldout", []).texts("a sentence") if "heldout" in item.value else ())
    return frames


def _build(root: Located) -> Pathway:
    sections = root.mapping("a pathway file", _SECTIONS)
    head = root.need("pathway", "the file")
    head.mapping("'pathway'", _HEAD)
    identity = head.need("id", "'pathway'")
    if not _ID.fullmatch(identity.text("id")):
        identity.fail(f"the id {identity.value!r} is not a name", "use small letters, digits and _")
    frames = common_frames() | (read_frames(sections["frames"]) if "frames" in sections else {})
    entities = read_entities(sections.get("entities"))
    variables = read_variables(root.need("variables", "the file"), entities, frames)
    compiler = Compiler(variables, entities)
    slots = _slots(variables.values(), {name: entity.members for name, entity in entities.items()})
    rules = read_rules(sections.get("rules"), compiler, slots, root)
    decisions = read_decisions(sections.get("decisions"), compiler, slots)
    turns = read_turns(sections.get("turns"), compiler, slots, decisions, frames)
    balance = head.get("balance", turns.conclusion)
    if str(balance.value) not in slots:
        from medvlm.pathways.located import suggestion

        balance.fail(f"'balance' names no variable ({balance.value!r})", suggestion(str(balance.value), slots))
    return Pathway(
        id=identity.text("id"),
        title=head.need("title", "'pathway'").text("title"),
        version=head.need("version", "'pathway'").text("version"),
        source=head.need("source", "'pathway'").texts("source"),
        notice=head.get("notice", NOTICE).text("notice"),
        uncertain=head.value["uncertain"].texts("uncertain") if "uncertain" in head.value else (),
        entities=entities,
        variables=variables,
        slots=slots,
        rules=rules,
        decisions=decisions,
        turns=turns,
        reward=read_reward(sections.get("reward")),
        balance=str(balance.value),
        bindings=read_bindings(sections.get("bindings"), slots),
        tests=read_tests(sections.get("tests"), slots),
        file=root.file,
        frames=frames,
    )


def _slots(variables: Iterable[Variable], members: dict[str, Any]) -> dict[str, Slot]:
    slots: dict[str, Slot] = {}
    for variable in variables:
        if variable.scope is None:
            slots[variable.id] = Slot(variable.id, variable)
            continue
        for member in members[variable.scope]:
            name = f"{variable.id}[{member}]"
            slots[name] = Slot(name, variable, member)
    return slots


__all__ = ["NOTICE", "PathwayError", "common_frames", "list_pathways", "load_pathway", "parse_pathway"]
