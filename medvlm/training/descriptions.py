"""What is true of a picture, in words: a pathway's phrasings and an expert's descriptions of its symbols.

Class names say little about looks; descriptions do ("large cells with fine chromatin and nucleoli"), which is the idea
of FLAIR (Silva-Rodríguez et al., arXiv 2308.07898).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import yaml

from medvlm.errors import MedVLMError
from medvlm.pathways.dialogues import read_truth
from medvlm.pathways.phrasings import answers
from medvlm.pathways.spec import Pathway, Symbol

Fact = tuple[str, Symbol]
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

    def write(self, facts: Facts, most: int, random: Random, rarity: Mapping[Fact, float]) -> tuple[str, Facts]:
        """One to `most` statements about a picture, and the facts that they state.

        Args:
            facts: of the picture.
            most: statements.
            random: draws facts and wordings.
            rarity: how likely each fact is to be drawn, beside the others.
        """
        count = min(len(facts), random.randint(1, most))
        # Weighted draws without repeats (Efraimidis and Spirakis, 2006): the largest of u ** (1 / weight).
        keys = {slot: random.random() ** (1 / rarity[slot, facts[slot]]) for slot in sorted(facts)}
        chosen = sorted(keys, key=keys.__getitem__)[-count:]
        said = [random.choice(self.texts(slot, facts[slot])) for slot in chosen]
        return " ".join(said), {slot: facts[slot] for slot in chosen}

    def alternatives(self, facts: Sequence[Facts], random: Random) -> dict[str, dict[Symbol, str]]:
        """A description of every symbol that a slot has in these pictures, of slots that have two at least."""
        symbols: dict[str, dict[Symbol, None]] = {}
        for picture in facts:
            for slot, symbol in picture.items():
                symbols.setdefault(slot, {})[symbol] = None
        return {
            slot: {symbol: random.choice(self.texts(slot, symbol)) for symbol in found}
            for slot, found in symbols.items()
            if len(found) > 1
        }

    def texts(self, slot: str, symbol: Symbol) -> list[str]:
        """Every way to say that a slot has a symbol."""
        return [*answers(self.pathway, self.pathway.slot(slot), symbol), *self._known.get((slot, _key(symbol)), ())]


def rarities(facts: Sequence[Facts]) -> dict[Fact, float]:
    """One over the number of pictures that a fact is true of."""
    counts = Counter(fact for picture in facts for fact in picture.items())
    return {fact: 1 / count for fact, count in counts.items()}


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
