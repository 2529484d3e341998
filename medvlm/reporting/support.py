"""Is a sentence supported by the Findings? Sentences in; the ids that support them, or the reason why none does, out.

The check is deliberately strict: a sentence passes only when ONE Finding carries its side, lobe, grade and every number
in it (or, in a sentence joined by "and", one Finding for each part). What it cannot read it does not let through.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from medvlm.findings.codes import Concept, concept_of
from medvlm.findings.finding import Finding

NEGATIONS = re.compile(r"\b(no|not|none|without|absent|absence|normal|negative|free of|unremarkable)\b", re.I)
QUANTITY = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s*(mm|cm|ml|cc|cm3|cm³|hu|%)?(?![\w]|\.\d)", re.I)
SENTENCE_END = re.compile(r"(?<=[.!?;])\s+(?=[A-Z0-9])")
JOINTS = re.compile(r"\s*;\s*|,?\s+(?:and|but|with|plus)\s+", re.I)
GRADES = ("part-solid", "ground-glass", "solid", "calcified")
LOBES = ("upper", "middle", "lower", "lingula")
COUNT_WORDS = {"one": 1, "single": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
# Words by which people name a concept beyond the words of its coded meaning.
SYNONYMS = {
    "heart": ("cardiac", "cardiothoracic", "silhouette"),
    "effusion": ("effusions", "fluid"),
    "nodule": ("nodular",),
}
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
# Words that assert nothing by themselves. Any other word must come from the Findings: "spiculated" does not pass.
NEUTRAL = frozenset(resources.files("medvlm.reporting").joinpath("neutral_words.txt").read_text("utf-8").split())
# How people name the amount of a fluid, mL; the limits overlap because people's do.
AMOUNTS = {"small": (0.0, 300.0), "moderate": (150.0, 700.0), "large": (500.0, float("inf"))}
WHOLE = re.compile(r"^no abnormalit(?:y|ies)\b[^.;\d]*\.?$", re.I)
FURTHER = re.compile(r",?\s+and\s+(\d+)\s+(?:further|other|more)\s+([a-z]+)", re.I)
# unit as written → (unit in a Measurement, factor)
UNITS = {
    "mm": ("mm", 1.0),
    "cm": ("mm", 10.0),
    "ml": ("mL", 1.0),
    "cc": ("mL", 1.0),
    "cm3": ("mL", 1.0),
    "cm³": ("mL", 1.0),
    "hu": ("[hnsf'U]", 1.0),
    "%": ("%", 1.0),
}


@dataclass(frozen=True)
class Support:
    """`findings` support the sentence; where empty, `reason` says what is missing."""

    findings: tuple[str, ...]
    reason: str = ""


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
    further = FURTHER.search(text)
    if further:
        return _check_further(text[: further.start()] + text[further.end() :], int(further[1]), further[2], findings)
    whole = _check_clause(text, findings, ())
    if whole.findings:
        return whole
    clauses = [clause for clause in JOINTS.split(text) if re.search(r"\w", clause)]
    if len(clauses) < 2:
        return whole
    supported: list[str] = []
    concepts: tuple[str, ...] = ()
    for clause in clauses:
        concepts = _concepts(clause, findings) or concepts
        result = _check_clause(clause, findings, concepts)
        if not result.findings:
            return Support((), result.reason)
        supported += [identifier for identifier in result.findings if identifier not in supported]
    return Support(tuple(supported))


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
    return Support((*first.findings, *(finding.id for finding in others)))


def _check_clause(clause: str, findings: Sequence[Finding], inherited: tuple[str, ...]) -> Support:
    concepts = _concepts(clause, findings) or inherited
    if not concepts:
        return Support((), "no expert measured what it speaks of")
    if len(concepts) > 1:
        return Support((), "it joins several things that must be checked one by one")
    pool = [finding for finding in findings if finding.concept.value == concepts[0]]
    text = clause.lower().replace("ground glass", "ground-glass").replace("part solid", "part-solid")
    strange = _strange_words(text, pool)
    if strange:
        return Support((), f"no measurement carries the word '{strange[0]}'")
    quantities, count = _numbers(text, pool)
    if NEGATIONS.search(text):
        here = [finding for finding in pool if _place_fits(text, finding)] or pool
        if any(finding.presence != "absent" for finding in here):
            return Support((), "an expert found what it denies")
        if not all(any(_carries(finding, quantity) for finding in here) for quantity in quantities):
            return Support((), "a number in it was not measured")
        return Support(tuple(finding.id for finding in here))
    concept = concept_of(pool[0].concept)
    # "The cardiothoracic ratio is 0.44" asserts a number, not the state that the number is about.
    only_number = concept.kind == "state" and quantities and not _says_state(text, concept)
    present = [finding for finding in pool if only_number or finding.presence != "absent"]
    if not present:
        return Support((), "the expert did not find it")
    sides = {finding.laterality.meaning.lower() for finding in present if finding.laterality is not None}
    both = re.search(r"\b(bilateral|both)\b", text) is not None and {"left", "right"} <= sides
    placed = present if both else [finding for finding in present if _place_fits(text, finding)]
    if not placed:
        return Support((), "nothing was found at that side or site")
    if count is not None and count != len(placed):
        return Support((), f"it counts {count}, the expert counted {len(placed)}")
    if not all(_amount_fits(text, finding) for finding in placed):
        return Support((), "the amount differs from the measured volume")
    graded = [finding for finding in placed if _grade_fits(text, finding)]
    if not graded:
        return Support((), "the grade differs from the measured one")
    matching = [finding for finding in graded if all(_carries(finding, quantity) for quantity in quantities)]
    if not matching:
        return Support((), "a number in it was not measured")
    chosen = matching if count is not None or both or not quantities else matching[:1]
    return Support(tuple(finding.id for finding in chosen))


def _concepts(text: str, findings: Sequence[Finding]) -> tuple[str, ...]:
    """Code values of the concepts that the text names, in order of the findings."""
    words = set(re.findall(r"[a-z]+", text.lower()))
    named = [finding.concept.value for finding in findings if words & _names(finding)]
    return tuple(dict.fromkeys(named))


def _names(finding: Finding) -> set[str]:
    """The words by which a sentence can name what the Finding is about."""
    concept = concept_of(finding.concept)
    written = f"{concept.text} {concept.plural} {finding.concept.meaning}".lower()
    words = {word for word in re.findall(r"[a-z]+", written) if len(word) > 3} - VAGUE
    return words | {word + "s" for word in words} | {name for word in words for name in SYNONYMS.get(word, ())}


def _strange_words(text: str, pool: Sequence[Finding]) -> list[str]:
    """The words that are neither neutral nor the Findings' own."""
    own = set(NEUTRAL)
    for finding in pool:
        coded = [finding.concept, *(code for code in (finding.laterality, finding.site) if code is not None)]
        coded += [measurement.code for measurement in finding.measurements]
        meanings = " ".join([*(code.meaning for code in coded), finding.grade or "", concept_of(finding.concept).state])
        own |= _names(finding) | set(re.findall(r"[a-z]+", meanings.lower()))
    for grade in GRADES:
        own |= set(grade.split("-"))
    return [word for word in re.findall(r"[a-z]+", text) if word not in own]


def _numbers(text: str, pool: Sequence[Finding]) -> tuple[list[tuple[float, float, str]], int | None]:
    """Quantities `(value, tolerance, unit)` in measurement units, and the number of things counted, or None."""
    names = "|".join(sorted({name for finding in pool for name in _names(finding)}))
    qualifier = r"(?:[a-z-]+\s+){0,3}?"
    counted = re.search(rf"\b(\d+|{'|'.join(COUNT_WORDS)})\s+{qualifier}(?:{names})\b", text)
    listed = re.search(rf"\b(?:{names})\s*:\s*(\d+)\s*$", text)
    count: int | None = None
    taken: tuple[int, int] | None = None
    for match in (counted, listed):
        if match and not re.match(r"\s*(?:mm|cm|ml|cc|hu)\b", text[match.end(1) :]):
            count = COUNT_WORDS[match[1]] if match[1] in COUNT_WORDS else int(match[1])
            taken = match.span(1)
    quantities = []
    for match in QUANTITY.finditer(text):
        if match.span(1) == taken:
            continue
        unit, factor = UNITS.get((match[2] or "").lower(), ("1", 1.0))
        quantities.append((float(match[1]) * factor, slack(match[1], unit) * factor + 1e-6, unit))
    return quantities, count


def slack(written: str, unit: str) -> float:
    """Half a unit of the last digit written; volumes of ten and more are given in tens (`390 mL`)."""
    decimals = len(written.partition(".")[2])
    return 5.0 if unit == "mL" and not decimals and written.endswith("0") else 0.5 * 10.0**-decimals


def _carries(finding: Finding, quantity: tuple[float, float, str]) -> bool:
    """The Finding has this number: a measurement, its probability (as a fraction or a percentage) or its slice."""
    value, tolerance, unit = quantity
    if any(m.unit == unit and abs(m.value - value) <= tolerance for m in finding.measurements):
        return True
    if finding.confidence is not None:
        scale = {"%": 100.0, "1": 1.0}.get(unit)
        # A whole number is never a probability: "1" would support every confident Finding.
        if scale is not None and (unit == "%" or tolerance < 0.5):
            return abs(finding.confidence * scale - value) <= tolerance
    return unit == "1" and any(evidence.slice == value for evidence in finding.evidence)


def _place_fits(text: str, finding: Finding) -> bool:
    site = " ".join(code.meaning.lower() for code in (finding.laterality, finding.site) if code is not None)
    both = "bilateral" in site or ("left" in site and "right" in site)
    for side in ("left", "right"):
        if re.search(rf"\b{side}\b", text) and side not in site and not both:
            return False
    if re.search(r"\b(bilateral|both)\b", text) and not both:
        return False
    return all(lobe in site for lobe in LOBES if re.search(rf"\b{lobe}\b", text))


def _amount_fits(text: str, finding: Finding) -> bool:
    volume = next((row.value for row in finding.measurements if row.unit == "mL"), None)
    word = next((word for word in AMOUNTS if re.search(rf"\b{word}\b", text)), None)
    if volume is None or word is None or finding.measure("Long axis") is not None:
        return True
    return AMOUNTS[word][0] <= volume <= AMOUNTS[word][1]


def _says_state(text: str, concept: Concept) -> bool:
    return any(word and word.lower() in text for word in (concept.state, concept.code.meaning))


def _grade_fits(text: str, finding: Finding) -> bool:
    named = next((grade for grade in GRADES if re.search(rf"(?<![\w-]){grade}\b", text)), None)
    return named is None or (finding.grade or "").lower() == named
