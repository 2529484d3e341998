"""The reward of a conversation: graded correctness and agreement with itself, corrected for chance.

    raw   = sum of w_q (s_q + consistency * C * max(s_q, 0)) - penalties
    total = (raw - B) / (best - B)

s_q in [-1, 1] is the graded correctness of question q, C in [0, 1] the share of answers that do not clash, and B an
upper bound of what any constant answer path can earn on the asked questions over the reference cases. So a right path
earns exactly 1 and no constant path earns more than 0. Nothing depends on the order of the questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medvlm.pathways.cases import reference_cases
from medvlm.pathways.consistency import Checker, Conflict
from medvlm.pathways.located import PathwayError
from medvlm.pathways.parser import AnswerParser, Reading
from medvlm.pathways.quantities import Interval
from medvlm.pathways.spec import NOT_ASSESSABLE, Pathway, Slot, Symbol, show_symbol

_MARKUP = ("<|", "|>", "[INST]", "###", "<image>", "<think>", "</", "USER:", "ASSISTANT:")


@dataclass(frozen=True)
class Answer:
    """One question of a conversation: the slot it asks, the answer's text and the question as it was asked."""

    slot: str
    text: str
    question: str | None = None


@dataclass(frozen=True)
class Term:
    """One line of the trace: what was given or taken, for which slot, in units of one right answer."""

    slot: str
    name: str
    amount: float
    detail: str

    def __str__(self) -> str:
        return f"{self.slot:24} {self.name:12} {self.amount:+7.3f}  {self.detail}"


@dataclass(frozen=True)
class Score:
    """The reward of one conversation.

    Attributes:
        turns: reward of every answer in the order given; they sum to `total`.
        total: 1 for a right path, at most 0 on average for any constant path.
        correctness: weighted mean of the graded correctness, before correction.
        consistency: share of answers without a clash.
        readings: what was read from every answer.
        conflicts: clashing answers.
        terms: every term, explained.
    """

    turns: tuple[float, ...]
    total: float
    correctness: float
    consistency: float
    readings: tuple[Reading, ...]
    conflicts: tuple[Conflict, ...]
    terms: tuple[tuple[str, str, float, Any], ...]

    @property
    def trace(self) -> list[Term]:
        """All terms with their explanation."""
        return [Term(slot, name, amount, _explain(name, detail)) for slot, name, amount, detail in self.terms]


@dataclass(frozen=True)
class _Prior:
    """What can be earned on a slot without looking."""

    best: float  # best constant answer
    best_positive: float  # best constant answer, negative scores counted as 0
    sampled: float  # answers drawn from the prior


class Scorer:
    """Scores conversations of one pathway.

    Args:
        pathway: the guideline.
        cases: `(case, weight)` as the prior; by default the reference cases of the pathway.
    """

    def __init__(self, pathway: Pathway, cases: Iterable[tuple[Mapping[str, Symbol], float]] | None = None) -> None:
        self.pathway = pathway
        self.weights = pathway.reward
        self.parser = AnswerParser(pathway)
        self.checker = Checker(pathway)
        self.cases = list(cases) if cases is not None else reference_cases(self.checker)
        if not self.cases:
            raise PathwayError(
                f"{pathway.file}: no case satisfies all rules; see 'medvlm pathway lint {pathway.file}'."
            )
        self._priors: dict[str, _Prior] = {}
        self._grades: dict[tuple[str, Any, Any], tuple[float, str]] = {}

    def score(self, answers: Sequence[Answer], truth: Mapping[str, Symbol]) -> Score:
        """Score the answers of one conversation against the right symbols.

        Args:
            answers: questions in any order; a question may be asked twice.
            truth: slot → right symbol, for all asked slots.

        Raises:
            PathwayError: a slot is unknown or has no truth.
        """
        readings = tuple([self.parser.read(item.text, item.slot, item.question) for item in answers])
        return self._score(answers, readings, truth)

    def score_symbols(self, path: Mapping[str, Any], truth: Mapping[str, Symbol]) -> Score:
        """Score answers that are given as symbols instead of texts; None stands for an answer without one."""
        answers = [Answer(name, "") for name in path]
        readings = tuple(Reading("no_match") if item is None else Reading("value", item) for item in path.values())
        return self._score(answers, readings, truth)

    def _score(self, answers: Sequence[Answer], readings: tuple[Reading, ...], truth: Mapping[str, Symbol]) -> Score:
        weights = self.weights
        asserted: dict[str, Any] = {}
        repeated: list[Conflict] = []
        grades: dict[str, float] = {}
        terms: list[tuple[str, str, float, Any]] = []
        for item, reading in zip(answers, readings):
            if item.slot not in truth:
                raise PathwayError(f"{self.pathway.id}: '{item.slot}' has no truth; give the symbols of all questions.")
            grade, reason = self.grade(item.slot, reading, truth[item.slot])
            terms.append((item.slot, "correctness", grade, (reason, reading, truth[item.slot])))
            grades[item.slot] = min(grade, grades.get(item.slot, grade))
            if reading.state == "value":
                if item.slot in asserted and asserted[item.slot] != reading.symbol:
                    repeated.append(Conflict((item.slot,), ("asked twice",), ("the same question, two answers",)))
                asserted[item.slot] = reading.symbol
        conflicts = (*repeated, *self.checker.conflicts(asserted))
        blamed = self._blamed(conflicts, grades)
        clashing = {slot for conflict in conflicts for slot in conflict.slots}
        consistency = 1.0 - len(clashing) / len(grades) if grades else 1.0
        penalties = self._penalties(answers, terms)
        order = [name for name in self.pathway.slots if name in grades]
        bonus = {name: self._weight(name) * weights.consistency * max(grades[name], 0.0) for name in order}
        lost = sum(bonus[name] for name in order) * (1.0 - consistency)
        best = self._sum(order, dict.fromkeys(order, 1.0), 1.0, {})
        floor = self.baseline(order)
        span = best - floor if best - floor > 1e-9 else 1.0
        raw = self._sum(order, grades, consistency, penalties)
        total = (raw - floor) / (best - floor) if best - floor > 1e-9 else raw / best if best else 0.0
        shares = {}
        for name in order:
            prior = self.prior(name)
            chance = self._weight(name) * (prior.best + weights.consistency * prior.best_positive)
            blame = lost / len(blamed) if name in blamed else 0.0
            own = self._weight(name) * grades[name] + bonus[name] - penalties.get(name, 0.0) - blame
            shares[name] = (own - (chance if best - floor > 1e-9 else 0.0)) / (span if best - floor > 1e-9 else best)
            terms.append((name, "consistency", bonus[name] - blame, tuple(c for c in conflicts if name in c.slots)))
            terms.append((name, "chance", -chance, prior))
        times = {name: sum(item.slot == name for item in answers) for name in order}
        turns = tuple(shares[item.slot] / times[item.slot] for item in answers)
        whole = sum(self._weight(name) for name in order)
        correctness = sum(self._weight(name) * grades[name] for name in order) / whole if whole else 0.0
        return Score(turns, total, correctness, consistency, readings, conflicts, tuple(terms))

    def _weight(self, name: str) -> float:
        return self.pathway.slots[name].variable.weight

    def _sum(
        self, order: list[str], grades: Mapping[str, float], consistency: float, penalties: Mapping[str, float]
    ) -> float:
        """The raw reward, summed in the order of the file so that it is the same for every order of questions."""
        raw = 0.0
        for name in order:
            grade = grades[name]
            bonus = self.weights.consistency * consistency * max(grade, 0.0)
            raw += self._weight(name) * (grade + bonus) - penalties.get(name, 0.0)
        return raw

    def baseline(self, names: Iterable[str]) -> float:
        """An upper bound of what a constant answer path earns on average on these slots (raw)."""
        total = 0.0
        for name in self.pathway.slots:
            if name in names:
                prior = self.prior(name)
                total += self._weight(name) * (prior.best + self.weights.consistency * prior.best_positive)
        return total

    def prior(self, name: str) -> _Prior:
        """What constant and prior-drawn answers earn on a slot over the reference cases."""
        known = self._priors.get(name)
        if known is None:
            known = self._priors[name] = self._prior(name)
        return known

    def constant_grades(self, name: str) -> dict[Any, tuple[float, float]]:
        """For every answer to a slot: its mean grade over the cases, and the mean with negative grades as 0."""
        slot = self.pathway.slots[name]
        mass = self._mass(name)
        means = {}
        for answer in dict.fromkeys((*mass, *self.checker.domains[name].symbols)):
            grades = [(self._grade_symbol(slot, answer, truth)[0], share) for truth, share in mass.items()]
            mean = sum(grade * share for grade, share in grades)
            means[answer] = (mean, sum(max(grade, 0.0) * share for grade, share in grades))
        return means

    def _mass(self, name: str) -> dict[Any, float]:
        mass: dict[Any, float] = {}
        for case, weight in self.cases:
            mass[case[name]] = mass.get(case[name], 0.0) + weight
        return mass

    def _prior(self, name: str) -> _Prior:
        means = self.constant_grades(name)
        sampled = sum(share * means[answer][0] for answer, share in self._mass(name).items())
        return _Prior(max(mean for mean, _ in means.values()), max(top for _, top in means.values()), sampled)

    def grade(self, name: str, reading: Reading, truth: Symbol) -> tuple[float, str]:
        """Graded correctness of a reading in [-1, 1], and why."""
        slot = self.pathway.slot(name)
        if reading.state == "value":
            return self._grade_symbol(slot, reading.symbol, truth)
        # An answer without a symbol never earns more than guessing from the prior.
        prior = self.prior(name)
        honest = min(prior.sampled, prior.best)
        abstain = min(self.weights.abstain, honest)
        if reading.state == "unknown":
            return abstain, "declined"
        setting = self.weights.ambiguous if reading.state == "ambiguous" else self.weights.no_match
        return min(setting, abstain), reading.reason

    def _grade_symbol(self, slot: Slot, answer: Any, truth: Any) -> tuple[float, str]:
        key = (slot.name, answer, truth)
        known = self._grades.get(key)
        if known is None:
            if len(self._grades) >= 100_000:
                self._grades.clear()
            known = self._grades[key] = self._grade_new(slot, answer, truth)
        return known

    def _grade_new(self, slot: Slot, answer: Any, truth: Any) -> tuple[float, str]:
        variable, weights = slot.variable, self.weights
        if isinstance(answer, Interval):
            return self._grade_interval(slot, answer, truth)
        if answer == truth:
            return 1.0, "right"
        if NOT_ASSESSABLE in (answer, truth):
            return -weights.wrong, "wrong"
        if variable.type == "number":
            return self._grade_number(slot, float(answer), float(truth))
        if variable.type == "set":
            together = len(answer | truth)
            overlap = len(answer & truth) / together if together else 1.0
            return weights.partial * overlap - weights.wrong * (1 - overlap), "partly right" if overlap else "wrong"
        names = (_name(truth), _name(answer))
        cost = variable.costs.get(names, 1.0)
        if variable.type == "ordinal":
            distance = variable.rank[answer] - variable.rank[truth]
            share = abs(distance) / (len(variable.rank) - 1)
            cost *= variable.costs.get(("under" if distance < 0 else "over", ""), 1.0)
            return max(-1.0, weights.partial * (1 - share) - weights.wrong * cost * (1 + share)), f"{distance:+d} steps"
        if variable.type == "categorical":
            given, right = variable.by_symbol[answer], variable.by_symbol[truth]
            if (
                right.parent is not None
                and right.parent in (given.symbol, given.parent)
                and names not in variable.costs
            ):
                return weights.parent, "right class"
        return max(-1.0, -weights.wrong * cost), "wrong"

    def _grade_number(self, slot: Slot, answer: float, truth: float) -> tuple[float, str]:
        variable = slot.variable
        error = abs(answer - truth)
        if error <= variable.tolerance + 1e-9:
            return 1.0, "within tolerance"
        cost = variable.costs.get(("under" if answer < truth else "over", ""), 1.0)
        # Half of the partial credit is gone at an error of half the truth.
        share = min(1.0, (error - variable.tolerance) / max(abs(truth), variable.tolerance, variable.step))
        return max(-1.0, self.weights.partial * (1 - share) - self.weights.wrong * cost * share), f"off by {error:g}"

    def _grade_interval(self, slot: Slot, answer: Interval, truth: Any) -> tuple[float, str]:
        if truth == NOT_ASSESSABLE:
            return -self.weights.wrong, "wrong"
        variable = slot.variable
        low, high = max(answer.low, variable.low), min(answer.high, variable.high)
        if not low - 1e-9 <= float(truth) <= high + 1e-9:
            return -self.weights.wrong, "outside the range given"
        if high - low <= 2 * variable.tolerance:
            return 1.0, "within tolerance"
        width = (high - low) / (variable.high - variable.low)
        return self.weights.partial * (1 - min(1.0, width)), "a range that holds it"

    def _blamed(self, conflicts: Iterable[Conflict], grades: Mapping[str, float]) -> frozenset[str]:
        """Answers to charge for clashes: the wrong ones of each clash, or all of it if none is wrong."""
        blamed: set[str] = set()
        for conflict in conflicts:
            wrong = [slot for slot in conflict.slots if grades.get(slot, 0.0) < 1.0]
            blamed.update(wrong or conflict.slots)
        return frozenset(blamed)

    def _penalties(self, answers: Sequence[Answer], terms: list[tuple[str, str, float, Any]]) -> dict[str, float]:
        weights = self.weights
        penalties: dict[str, float] = {}
        for item in answers:
            # Words are counted by spaces; a long answer costs `length` for every `max_words` beyond the first.
            excess = (item.text.count(" ") + 1) / weights.max_words - 1
            if excess > 0 and weights.length:
                amount = weights.length * min(3.0, excess)
                penalties[item.slot] = penalties.get(item.slot, 0.0) + amount
                terms.append((item.slot, "length", -amount, item.text.count(" ") + 1))
            if weights.format and any(mark in item.text for mark in _MARKUP) and not _well_formed(item.text):
                penalties[item.slot] = penalties.get(item.slot, 0.0) + weights.format
                terms.append((item.slot, "format", -weights.format, None))
        return penalties


def _well_formed(text: str) -> bool:
    """Only whole `<think>` and `<answer>` pairs are allowed as markup."""
    for tag in ("think", "answer"):
        if text.count(f"<{tag}>") != text.count(f"</{tag}>"):
            return False
        text = text.replace(f"<{tag}>", "").replace(f"</{tag}>", "")
    return not any(mark in text for mark in _MARKUP)


def _name(symbol: Any) -> str:
    if isinstance(symbol, bool):
        return "true" if symbol else "false"
    return str(symbol)


def _explain(name: str, detail: Any) -> str:
    if name == "correctness":
        reason, reading, truth = detail
        return f"{reason}: read '{reading}', right is '{show_symbol(truth)}'"
    if name == "consistency":
        if not detail:
            return "agrees with the other answers"
        return "; ".join(f"clashes in {' + '.join(c.slots)}: {'; '.join(c.texts)}" for c in detail)
    if name == "chance":
        return f"a constant answer earns {detail.best:.3f} here"
    if name == "length":
        return f"{detail} words"
    return "markup, role markers or unfinished tags"
