"""Is a sentence supported by the Findings? Sentences in; the ids that support them, or the reason why none does, out.

The check is deliberately strict: a sentence passes only when ONE Finding carries its side, lobe, grade and every number
in it (or, in a sentence of several statements, one Finding for each). What it cannot read it does not let through.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from medvlm.findings.codes import Concept, concept_of
from medvlm.findings.finding import Finding
from medvlm.reporting.clauses import BARE_COUNT, COUNT_WORDS, RANK, statements
from medvlm.reporting.wording import HEDGE, NEGATION, NEUTRAL, NEUTRAL_IF_DENIED, Quantity, normal_form, quantities

SENTENCE_END = re.compile(r"(?<=[.!?;])\s+(?=[A-Z0-9])")
LOBES = ("upper", "middle", "lower", "lingula")
GRADES = ("part-solid", "ground-glass", "solid", "calcified")
# Words by which people name a concept beyond the words of its coded meaning.
SYNONYMS = {
    "heart": ("cardiac", "cardiothoracic", "silhouette"),
    "effusion": ("effusions", "fluid"),
    "nodule": ("nodular",),
}
# The places that are named where their content is meant: "the pleural spaces are clear".
SPACES = {"effusion": re.compile(r"\bpleural (?:spaces?|cavit(?:y|ies))\b", re.I)}
# Words of a coded meaning that say where or that it is a finding, not what it is.
VAGUE = {
    "lung",
    "lungs",
    "pleural",
    "right",
    "left",
    "finding",
    "structure",
    "type",
    "size",
    "disorder",
    "with",
    "chest",
}
# How people name the amount of a fluid, mL, and how far a ratio is above its limit; they overlap because people's do.
AMOUNTS = {
    "tiny": (0.0, 100.0),
    "trace": (0.0, 100.0),
    "sliver": (0.0, 100.0),
    "minimal": (0.0, 150.0),
    "small": (0.0, 300.0),
    "moderate": (150.0, 700.0),
    "large": (500.0, float("inf")),
    "massive": (1000.0, float("inf")),
}
DEGREES = {
    "mild": (0.0, 0.58),
    "mildly": (0.0, 0.58),
    "borderline": (0.0, 0.55),
    "moderate": (0.52, 0.65),
    "moderately": (0.52, 0.65),
    "marked": (0.56, 1.0),
    "markedly": (0.56, 1.0),
    "severe": (0.58, 1.0),
    "severely": (0.58, 1.0),
}
STATE = re.compile(r"enlarge|dilat|increas|elevat|megaly|abnormal|widen", re.I)
WHOLE = re.compile(r"^no abnormalit(?:y|ies)\b[^.;\d]*\.?$", re.I)
FURTHER = re.compile(r",?\s+and\s+(\d+)\s+(?:further|other|more)\s+([a-z]+)", re.I)
SOLE = re.compile(r"\b(solitary|sole|lone|only one)\b", re.I)
SEVERAL = re.compile(r"\b(multiple|several|numerous|many|scattered|a few)\b", re.I)
OTHERS = re.compile(r"\b(?:other|further|additional|remaining|remainder|rest|elsewhere|otherwise)\b", re.I)
BOTH = re.compile(r"\b(bilateral(?:ly)?|both|each (?:lung|side|pleural space|hemithorax)|either side)\b", re.I)
ONE_SIDE = re.compile(r"\b(unilateral(?:ly)?|confined to|limited to|only on|solely|exclusively)\b", re.I)
# "larger on the right", "right greater than left"
MORE = re.compile(r"\b(?:larger|greater|bigger|more|worse)\s+(?:on|in)\s+(?:the\s+)?(left|right)\b", re.I)
THAN = re.compile(
    r"\b(left|right)\b(?:\s+\w+){0,2}?\s+(?:larger|greater|bigger|more|>)\s+than\s+(?:on )?(?:the )?(?:left|right)\b",
    re.I,
)


@dataclass(frozen=True)
class Support:
    """Whether a sentence may be said.

    Attributes:
        findings: ids of the Findings that support it; empty: none does.
        reason: what is missing, where none does.
        asserted: those of the Findings that it says are there; the others only support that something is not.
    """

    findings: tuple[str, ...]
    reason: str = ""
    asserted: tuple[str, ...] = ()


def split_sentences(text: str) -> list[str]:
    """The sentences (and lines) of a text, without list numbers."""
    lines = (re.sub(r"^\s*(?:\d+[.)]|[-*•])\s+", "", line) for line in text.splitlines())
    pieces = (piece.strip() for line in lines for piece in SENTENCE_END.split(line))
    return [piece for piece in pieces if re.search(r"[A-Za-z]", piece)]


def check_sentence(text: str, findings: Sequence[Finding]) -> Support:
    """Find the Findings that support one sentence."""
    if WHOLE.match(text.strip()):
        found = [finding for finding in findings if finding.presence != "absent"]
        return Support((), "an expert found what it denies") if found else Support(tuple(f.id for f in findings))
    text = normal_form(text)
    further = FURTHER.search(text)
    if further:
        return _check_further(text[: further.start()] + text[further.end() :], int(further[1]), further[2], findings)
    parts = statements(text, lambda words: _concepts(words, findings), lambda value: _about(value, findings))
    hedged = HEDGE.search(text) is not None
    results = []
    for part in parts:
        results.append(_check_statement(part.text, part.concepts, findings, hedged))
        if not results[-1].findings:
            return results[-1]
    return _join(results) if results else Support((), "no expert measured what it speaks of")


def concepts_in(text: str, findings: Sequence[Finding]) -> set[str]:
    """Code values of the concepts of these Findings that a sentence names."""
    return set(_concepts(normal_form(text), findings))


def _join(results: Sequence[Support]) -> Support:
    findings = dict.fromkeys(name for one in results for name in one.findings)
    asserted = dict.fromkeys(name for one in results for name in one.asserted)
    return Support(tuple(findings), "", tuple(asserted))


def _check_further(text: str, count: int, name: str, findings: Sequence[Finding]) -> Support:
    """`... 14 mm and 2 further nodules`: the first part for itself, and as many others of that name as it says."""
    first = check_sentence(text, findings)
    if not first.findings:
        return first
    others = [
        f for f in findings if f.presence != "absent" and f.id not in first.findings and name.lower() in _names(f)
    ]
    if len(others) != count:
        return Support((), f"it counts {count} further, the expert counted {len(others)}")
    further = tuple(finding.id for finding in others)
    return _join([first, Support(further, "", further)])


def _check_statement(words: str, concepts: tuple[str, ...], findings: Sequence[Finding], hedged: bool) -> Support:
    if not concepts:
        return Support((), "no expert measured what it speaks of")
    if len(concepts) > 1:
        return Support((), "it joins several things that must be checked one by one")
    pool = [finding for finding in findings if finding.concept.value == concepts[0]]
    text = words.lower()
    denied = NEGATION.search(text) is not None
    strange = _strange_words(text, pool, denied)
    if strange:
        return Support((), f"no measurement carries the word '{strange[0]}'")
    numbers, count = _numbers(text, pool)
    return _check_denial(text, pool, numbers) if denied else _check_assertion(text, pool, numbers, count, hedged)


def _check_denial(text: str, pool: Sequence[Finding], numbers: Sequence[Quantity]) -> Support:
    """Nothing of the kind at the place that is named, or anywhere."""
    present = [finding for finding in pool if finding.presence != "absent"]
    if OTHERS.search(text):
        # "No other nodule" is true of one that was named before; more would have to be known from other sentences.
        present = present[1:]
    if any(_place_fits(BOTH.sub(" ", text), finding) for finding in present):
        return Support((), "an expert found what it denies")
    if not all(any(_carries(finding, number) for finding in pool) for number in numbers):
        return Support((), "a number in it was not measured")
    return Support(tuple(finding.id for finding in pool))


def _check_assertion(
    text: str, pool: Sequence[Finding], numbers: Sequence[Quantity], count: int | None, hedged: bool
) -> Support:
    concept = concept_of(pool[0].concept)
    # "The cardiothoracic ratio is 0.44" asserts a number, not the state that the number is about.
    only_number = concept.kind == "state" and bool(numbers) and not _says_state(text, concept)
    present = [finding for finding in pool if only_number or finding.presence != "absent"]
    if not present:
        return Support((), "the expert did not find it")
    sides = {finding.laterality.meaning.lower() for finding in present if finding.laterality is not None}
    compared = MORE.search(text) or THAN.search(text)
    if not _extent_fits(text, compared, present, sides):
        return Support((), "the sides differ from the measured ones")
    both = (compared or BOTH.search(text)) is not None and {"left", "right"} <= sides
    placed = present if both else [finding for finding in present if _place_fits(text, finding)]
    if not placed:
        return Support((), "nothing was found at that side or site")
    if problem := _miscounts(text, present, placed, count, both):
        return Support((), problem)
    if not all(_amount_fits(text, finding) for finding in placed):
        return Support((), "the amount differs from the measured volume")
    graded = [finding for finding in placed if _grade_fits(text, finding)]
    if not graded:
        return Support((), "the grade differs from the measured one")
    # In "bilateral effusions, 620 mL on the right" the side is that of the number.
    aside = [finding for finding in graded if _place_fits(BOTH.sub(" ", text), finding)] if both and numbers else graded
    matching = [finding for finding in aside if all(_carries(finding, number) for number in numbers)]
    rank = None if compared else RANK.search(text)
    if matching and rank:
        # "the largest nodule in the left lung" is the largest there; elsewhere it is the largest of all.
        within = placed if re.search(rf"{rank[0]}(?:\s+\w+)?\s+(?:in|on|of) the (?:left|right)", text) else present
        extreme = (max if rank[1] else min)(within, key=_size)
        matching = [finding for finding in matching if finding is extreme]
        if not matching:
            return Support((), "the expert measured another one as the " + rank[0].lower())
    if not matching:
        return Support((), "a number in it was not measured")
    if not hedged and all(finding.presence == "uncertain" for finding in matching):
        return Support((), "the expert is not sure of it, the sentence is")
    chosen = matching if count is not None or both or SEVERAL.search(text) or not numbers else matching[:1]
    said = tuple(finding.id for finding in chosen)
    return Support(said, "", said)


def _extent_fits(text: str, compared: re.Match[str] | None, present: Sequence[Finding], sides: set[str]) -> bool:
    """What is said of the sides as a whole: on one only, or on one more than on the other."""
    if ONE_SIDE.search(text) and len(sides) > 1:
        return False
    if compared is None:
        return True
    larger = max(present, key=_size).laterality
    return len(sides) > 1 and larger is not None and larger.meaning.lower() == compared[1].lower()


def _miscounts(text: str, present: Sequence[Finding], placed: Sequence[Finding], count: int | None, both: bool) -> str:
    """What the statement counts wrongly, or nothing."""
    if SOLE.search(text) and len(present) != 1:
        return f"it counts 1, the expert counted {len(present)}"
    if SEVERAL.search(text) and len(placed) < 2:
        return f"it counts several, the expert counted {len(placed)}"
    if count is None:
        return ""
    if both and re.search(r"\beach\b", text):
        per_side = [sum(_place_fits(side, finding) for finding in placed) for side in ("left", "right")]
        return "" if set(per_side) == {count} else f"it counts {count} on each side, the expert counted {per_side}"
    return "" if count == len(placed) else f"it counts {count}, the expert counted {len(placed)}"


def _concepts(text: str, findings: Sequence[Finding]) -> tuple[str, ...]:
    """Code values of the concepts that the text names, in order of the findings."""
    words = set(re.findall(r"[a-z]+", text.lower()))
    named = []
    for finding in findings:
        names = _names(finding)
        if words & names or any(name in names and space.search(text) for name, space in SPACES.items()):
            named.append(finding.concept.value)
    return tuple(dict.fromkeys(named))


def _about(value: str, findings: Sequence[Finding]) -> str:
    concept = next(concept_of(finding.concept) for finding in findings if finding.concept.value == value)
    return f"{concept.text} {concept.code.meaning}".lower()


def _names(finding: Finding) -> set[str]:
    """The words by which a sentence can name what the Finding is about."""
    concept = concept_of(finding.concept)
    written = f"{concept.text} {concept.plural} {finding.concept.meaning}".lower()
    words = {word for word in re.findall(r"[a-z]+", written) if len(word) > 3} - VAGUE
    return words | {word + "s" for word in words} | {name for word in words for name in SYNONYMS.get(word, ())}


def _all_names(pool: Sequence[Finding]) -> set[str]:
    return {name for finding in pool for name in _names(finding)}


def _strange_words(text: str, pool: Sequence[Finding], denied: bool) -> list[str]:
    """The words that are neither neutral nor the Findings' own."""
    own = set(NEUTRAL) | (NEUTRAL_IF_DENIED if denied else set())
    for finding in pool:
        coded = [finding.concept, *(code for code in (finding.laterality, finding.site) if code is not None)]
        coded += [measurement.code for measurement in finding.measurements]
        meanings = " ".join([*(code.meaning for code in coded), finding.grade or "", concept_of(finding.concept).state])
        own |= _names(finding) | set(re.findall(r"[a-z]+", meanings.lower()))
        own |= set(DEGREES) if finding.measure("Cardiothoracic ratio") is not None else set()
    for grade in GRADES:
        own |= set(grade.split("-"))
    names = "|".join(sorted(_all_names(pool)))
    if re.search(rf"\bsuspicious (?:for|of) (?:an? )?(?:[\w-]+ ){{0,2}}(?:{names})\b", text):
        own |= {"suspicious"}  # a hedge, and not a judgement
    return [word for word in re.findall(r"[a-z]+", text) if word not in own]


def _numbers(text: str, pool: Sequence[Finding]) -> tuple[list[Quantity], int | None]:
    """The quantities, and the number of things counted, or None."""
    names = "|".join(sorted(_all_names(pool)))
    qualifier = r"(?:[a-z-]+\s+){0,3}?"
    counted = re.search(rf"\b(\d+|{'|'.join(COUNT_WORDS)})\s+{qualifier}(?:{names})\b", text)
    listed = re.search(rf"\b(?:{names})\s*:\s*(\d+)\s*$", text)
    count: int | None = None
    taken: tuple[int, int] | None = None
    for match in (counted, listed, BARE_COUNT.search(text)):
        if match and not re.match(r"\s*(?:mm|cm|ml|cc|l|hu|%)(?!\w)", text[match.end(1) :]):
            count = COUNT_WORDS[match[1]] if match[1] in COUNT_WORDS else int(match[1])
            taken = match.span(1)
    if re.search(rf"{RANK.pattern}\s+of\s+(?:the\s+)?(?:\d+|{'|'.join(COUNT_WORDS)})\b", text):
        count = None  # "the larger of the two nodules" is one
    return [number for number in quantities(text) if number.span != taken], count


def _carries(finding: Finding, number: Quantity) -> bool:
    """The Finding has this number: a measurement, its probability (as a fraction or a percentage) or its slice."""
    if any(number.agrees(row.value, row.unit) for row in finding.measurements):
        return True
    # A whole number is never a probability: "1" would support every confident Finding.
    exact = number.unit == "%" or number.near < 0.5
    if exact and finding.confidence is not None and number.agrees(finding.confidence, "1"):
        return True
    return number.unit == "1" and any(evidence.slice == number.value for evidence in finding.evidence)


def _place_fits(text: str, finding: Finding) -> bool:
    site = " ".join(code.meaning.lower() for code in (finding.laterality, finding.site) if code is not None)
    both = "bilateral" in site or ("left" in site and "right" in site)
    for side in ("left", "right"):
        if re.search(rf"\b{side}\b", text) and side not in site and not both:
            return False
    if BOTH.search(text) and not both:
        return False
    return all(lobe in site for lobe in LOBES if re.search(rf"\b{lobe}\b", text))


def _amount_fits(text: str, finding: Finding) -> bool:
    ratio = finding.measure("Cardiothoracic ratio")
    scale, value = (AMOUNTS, finding.measure("Volume")) if ratio is None else (DEGREES, ratio)
    word = next((word for word in scale if re.search(rf"\b{word}\b", text)), None)
    if value is None or word is None or finding.measure("Long axis") is not None:
        return True
    return scale[word][0] <= value <= scale[word][1]


def _size(finding: Finding) -> float:
    return finding.measure("Long axis") or finding.measure("Volume") or 0.0


def _says_state(text: str, concept: Concept) -> bool:
    return STATE.search(text) is not None or any(
        word and word.lower() in text for word in (concept.state, concept.code.meaning)
    )


def _grade_fits(text: str, finding: Finding) -> bool:
    named = next((grade for grade in GRADES if re.search(rf"(?<![\w-]){grade}\b", text)), None)
    return named is None or (finding.grade or "").lower() == named
