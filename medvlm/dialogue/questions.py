"""Questions that a curriculum asks, read from its `questions.yaml`, and their answers computed from Findings.

One family is one thing one can ask (`nodule_size`). It knows how people phrase it (training and held-out phrasings),
which expert argument it needs, which value of the Findings answers it, in what words, and how answers are judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Formatter
from typing import Any, Literal, get_args

import yaml

from medvlm.content import find_content
from medvlm.dialogue.phrasing import expand_all
from medvlm.dialogue.score import Score
from medvlm.dialogue.values import Value, describe, of_concept, read_value
from medvlm.errors import MedVLMError
from medvlm.findings.codes import code
from medvlm.findings.finding import Finding
from medvlm.findings.verbalise import verbalise

When = Literal["always", "present", "single"]


@dataclass(frozen=True)
class Answer:
    """A sentence and the value it states (None where there is nothing to state)."""

    text: str
    value: Value | None


@dataclass(frozen=True)
class Sentence:
    """How a report states one concept: `each` Finding by the first template whose words it has, or `none`."""

    concept: str
    each: tuple[str, ...]
    none: str

    def write(self, findings: Sequence[Finding]) -> list[str]:
        """The sentences for these Findings; none where they do not speak of the concept."""
        if not any(finding.concept == code(self.concept) for finding in findings):
            return []
        return [self._one(describe(finding)) for finding in of_concept(findings, self.concept)] or [self.none]

    def _one(self, words: Mapping[str, str]) -> str:
        for template in self.each:
            named = [name for _, name, _, _ in Formatter().parse(template) if name]
            if all(words.get(name) for name in named):
                return template.format(**words)
        raise ValueError(f"no template for {self.concept} fits {sorted(words)}; end with one that names nothing")


@dataclass(frozen=True)
class Family:
    """One thing to ask.

    Attributes:
        name: also the `task` of its conversations.
        train, held_out: phrasings, all alternatives written out.
        answers: value in words → sentence; `any` for every other value. `{value}` stands for the value, `{site}` and
            the like for the words of the Finding it comes from (see `describe`).
        score: how answers are judged, or None where they are not (a report).
        argument: argument of the expert that can answer, or None where no expert is needed.
        concept: code key of the Findings that answer, `""` where the answer is fixed or a report.
        what: which value of them: `present`, `count`, `side`, `site`, `grade` or the code key of a measurement.
        when: asked only where the concept is `present`, `single` (one Finding) or `always`.
        nothing: the answer where the concept is not found.
        uncertain: the answer where it is found without the value, or only perhaps.
        sentences: for a report, what it states in order.
        quote: the answer is the expert's text itself; such a question is trained, not tested.
        weight: how often it is asked, relative to others.
    """

    name: str
    train: tuple[str, ...]
    held_out: tuple[str, ...]
    answers: Mapping[str, str]
    score: Score | None
    argument: str | None = None
    concept: str = ""
    what: str = "present"
    when: When = "always"
    nothing: str = ""
    uncertain: str = ""
    sentences: tuple[Sentence, ...] = ()
    quote: bool = False
    weight: float = 1.0

    @property
    def needs_expert(self) -> bool:
        return self.argument is not None

    def applies(self, findings: Sequence[Finding]) -> bool:
        """Whether the question makes sense for a study with these Findings and they answer it."""
        if not self.concept:
            return True
        count = len(of_concept(findings, self.concept))
        right_number = self.when == "always" or (count == 1 if self.when == "single" else count > 0)
        return right_number and read_value(findings, self.concept, self.what) is not None

    def answer(self, findings: Sequence[Finding]) -> Answer:
        """The answer that these Findings give."""
        if self.quote:
            return Answer(verbalise(findings, style="short"), None)
        if self.sentences:
            lines = [line for sentence in self.sentences for line in sentence.write(findings)]
            return Answer(" ".join(lines) or self.uncertain, None)
        if not self.concept:
            return Answer(self.answers["any"], None)
        value = read_value(findings, self.concept, self.what)
        if value is None:
            absent = not of_concept(findings, self.concept)
            spoken_of = any(finding.concept == code(self.concept) for finding in findings)
            return Answer(self.nothing if absent and spoken_of and self.nothing else self.uncertain, None)
        template = self.answers.get(value.words, self.answers.get("any", ""))
        words = describe(value.finding) if value.finding else {}
        try:
            return Answer(template.format(**words, value=value.words), value)
        except KeyError:
            # The Finding lacks a word that the sentence wants: the bare value is still an answer.
            return Answer(f"{value.words}.", value)


@dataclass(frozen=True)
class Questions:
    """All that one curriculum asks.

    Attributes:
        expert: name of the expert that can answer.
        failed: the answer after a call that gave nothing.
        disputed: the answer where the expert contradicts the picture; `{answer}` stands for the true one.
        conflicting: the answer where two experts contradict each other.
        missing: the answer after a call that gave nothing, where the picture has to do.
        families: what is asked.
    """

    expert: str
    failed: str
    disputed: str
    families: tuple[Family, ...]
    conflicting: str = "The experts disagree. {answer}"
    missing: str = "The expert failed. {answer}"

    def family(self, name: str) -> Family:
        """The family of that name.

        Raises:
            MedVLMError: there is none.
        """
        for family in self.families:
            if family.name == name:
                return family
        raise MedVLMError(f"no question family '{name}' (known: {', '.join(f.name for f in self.families)}).")

    def plain_answer(self, family: Family, findings: Sequence[Finding]) -> Answer:
        """What is true, with no expert to speak of: where there is nothing to state, that there is nothing."""
        answer = family.answer(findings)
        if answer.value is None and answer.text == family.nothing != "":
            for other in self.families:
                if (other.concept, other.what) == (family.concept, "present"):
                    return other.answer(findings)
        return answer


def read_questions(name: str | Path) -> Questions:
    """Read the questions of a curriculum by its name (`chest_ct`), its folder or a YAML file of your own.

    Raises:
        MedVLMError: missing or broken file, or a phrasing that is both in training and held out (names the family).
    """
    path = find_content("curricula", name)
    path = path / "questions.yaml" if path.is_dir() else path
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MedVLMError(f"{path}: no such file; a curriculum that asks questions has one.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MedVLMError(f"{path}: not valid YAML ({' '.join(str(error).split())}).") from None
    try:
        families = tuple(_family(key, row, data["uncertain"]) for key, row in data["families"].items())
        said = {key: str(data[key]) for key in ("conflicting", "missing") if key in data}
        disputed = str(data.get("disputed", "{answer}"))
        questions = Questions(str(data["expert"]), str(data["failed"]), disputed, families, **said)
    except (KeyError, TypeError, ValueError, AttributeError, MedVLMError) as error:
        reason = f"the key {error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise MedVLMError(f"{path}: {reason}.") from None
    _check_disjoint(path, questions)
    return questions


def rephrased(questions: Questions, path: Path) -> Questions:
    """The same questions with the test phrasings of a YAML file (family → list of phrasings).

    For phrasings that somebody wrote without knowing those that are trained on.

    Raises:
        MedVLMError: broken file, an unknown or missing family, or a phrasing that is trained on.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise MedVLMError(f"{path}: not a readable YAML file ({' '.join(str(error).split())}).") from None
    names = {family.name for family in questions.families}
    if not isinstance(data, dict) or set(data) != names:
        odd = sorted(set(data) ^ names)[0] if isinstance(data, dict) else "the whole"
        raise MedVLMError(f"{path}: phrasings are given for every family of the questions and no other; see '{odd}'.")
    families = tuple(replace(family, held_out=expand_all(data[family.name])) for family in questions.families)
    changed = replace(questions, families=families)
    _check_disjoint(path, changed)
    return changed


_KEYS = {"argument", "read", "when", "answers", "nothing", "score", "sentences", "quote", "weight", "train", "held_out"}


def _family(name: str, row: dict[str, Any], uncertain: str) -> Family:
    where = f"family '{name}'"
    if set(row) - _KEYS:
        raise ValueError(f"{where}: unknown key '{min(set(row) - _KEYS)}' (known: {', '.join(sorted(_KEYS))})")
    read, sentences = row.get("read") or {}, row.get("sentences") or []
    when = row.get("when", "always")
    if when not in get_args(When):
        raise ValueError(f"{where}: when is one of {', '.join(get_args(When))}, not '{when}'")
    if bool(row.get("argument")) != bool(read or sentences or row.get("quote")):
        raise ValueError(f"{where}: 'argument' goes together with 'read', 'sentences' or 'quote'")
    for concept in [read["concept"]] if read else [sentence["concept"] for sentence in sentences]:
        code(concept)
    return Family(
        name=name,
        train=expand_all(row["train"]),
        held_out=expand_all(row["held_out"]),
        answers={str(key): str(text) for key, text in row.get("answers", {}).items()},
        score=Score.from_json(row["score"]) if "score" in row else None,
        argument=row.get("argument"),
        concept=read.get("concept", ""),
        what=read.get("what", "present"),
        when=when,
        nothing=row.get("nothing", ""),
        uncertain=uncertain,
        sentences=tuple(Sentence(s["concept"], tuple(s["each"]), s["none"]) for s in sentences),
        quote=bool(row.get("quote", False)),
        weight=float(row.get("weight", 1.0)),
    )


def _check_disjoint(path: Path, questions: Questions) -> None:
    """Held-out phrasings may not be trained on, in any family; one phrasing may not mean two things."""
    owner: dict[str, str] = {}
    for family in questions.families:
        for split, phrasings in (("train", family.train), ("held_out", family.held_out)):
            if not phrasings:
                raise MedVLMError(f"{path}: family '{family.name}' has no {split} phrasings.")
            for phrasing in phrasings:
                here = f"{family.name} ({split})"
                if owner.setdefault(phrasing, here) != here:
                    raise MedVLMError(f"{path}: '{phrasing}' is in {owner[phrasing]} and in {here}.")
