"""What is true of a picture, in words: a pathway's phrasings and an expert's descriptions of its symbols.

Class names say little about looks; descriptions do ("large cells with fine chromatin and nucleoli"), which is the idea
of FLAIR (Silva-Rodríguez et al., arXiv 2308.07898).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import yaml

from medvlm.errors import MedVLMError
from medvlm.pathways.dialogues import read_truth
from medvlm.pathways.phrasings import answers
from medvlm.pathways.spec import Pathway, Symbol

Facts = dict[str, Symbol]


class Descriptions:
    """Writes descriptions, and knows which pictures they are true of."""

    def __init__(self, pathway: Pathway, knowledge: Path | None = None) -> None:
        """
        Args:
            pathway: whose symbols are described.
            knowledge: YAML of further descriptions: slot, symbol, list of texts.

        Raises:
            MedVLMError: the file is missing or names a slot or symbol that the pathway does not have.
        """
        self.pathway = pathway
        self._known: dict[tuple[str, str], list[str]] = _read(knowledge, pathway) if knowledge else {}

    def facts(self, truth: Mapping[str, object], name: str) -> Facts:
        """The symbols of a conversation, checked.

        Args:
            truth: `symbols.truth` of a conversation.
            name: how errors call it.
        """
        return read_truth(self.pathway, truth, name)

    def write(self, facts: Facts, most: int, random: Random) -> tuple[str, Facts]:
        """One to `most` statements about a picture, and the facts that they state."""
        chosen = random.sample(sorted(facts), min(len(facts), random.randint(1, most)))
        said = [random.choice(self.texts(slot, facts[slot])) for slot in chosen]
        return " ".join(said), {slot: facts[slot] for slot in chosen}

    def texts(self, slot: str, symbol: Symbol) -> list[str]:
        """Every way to say that a slot has a symbol."""
        return [*answers(self.pathway, self.pathway.slot(slot), symbol), *self._known.get((slot, _key(symbol)), ())]


def holds(stated: Facts, facts: Facts) -> bool:
    """Whether a description is true of a picture."""
    return all(facts.get(slot) == symbol for slot, symbol in stated.items())


def matches(stated: Sequence[Facts], facts: Sequence[Facts]) -> list[list[bool]]:
    """`[pictures][descriptions]`: which is true of which."""
    return [[holds(one, picture) for one in stated] for picture in facts]


def _key(symbol: Symbol) -> str:
    return str(symbol).lower() if isinstance(symbol, bool) else str(symbol)


def _read(path: Path, pathway: Pathway) -> dict[tuple[str, str], list[str]]:
    if not path.is_file():
        raise MedVLMError(f"{path}: no such file of descriptions.")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise MedVLMError(f"{path}: not YAML ({' '.join(str(error).split())[:160]}).") from None
    known = {}
    for slot, symbols in (data or {}).items():
        variable = pathway.slot(slot).variable
        for symbol, texts in symbols.items():
            if variable.by_symbol and _key(symbol) not in variable.by_symbol:
                raise MedVLMError(
                    f"{path}: {slot} has no symbol '{symbol}'; choose {', '.join(map(str, variable.by_symbol))}."
                )
            known[slot, _key(symbol)] = [str(text) for text in texts]
    return known
