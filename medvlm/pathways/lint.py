"""What can be wrong with a pathway although its file loads: found by trying every phrasing, row and case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from medvlm.pathways.phrasings import HELDOUT_NEEDED, TRAIN_NEEDED, Split, answers, questions, unknown_answers
from medvlm.pathways.relations import combinations, decide_in, inputs_of
from medvlm.pathways.reward import Scorer
from medvlm.pathways.spec import NOT_ASSESSABLE, Decision, Pathway, Slot, Symbol, show_symbol
from medvlm.pathways.tokens import phrase_tokens

Level = Literal["error", "warning", "note"]
_CASES = 4000


@dataclass(frozen=True)
class Remark:
    """One thing lint has to say, with the line it is about (0: the whole file)."""

    level: Level
    line: int
    text: str


@dataclass
class LintReport:
    """The result of linting a pathway.

    Attributes:
        remarks: errors, warnings and notes.
        figures: name → what was measured.
    """

    pathway: Pathway
    remarks: list[Remark] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not any(remark.level == "error" for remark in self.remarks)

    def add(self, level: Level, line: int, text: str) -> None:
        self.remarks.append(Remark(level, line, text))


def lint(pathway: Pathway, scorer: Scorer | None = None) -> LintReport:
    """Check everything that loading cannot check and measure what the reward can be gamed for."""
    report = LintReport(pathway)
    scorer = scorer or Scorer(pathway)
    _uncertain(report)
    _synonyms(report)
    for split in ("train", "heldout"):
        right, total = _phrasings(report, scorer, split)
        report.figures[f"{split} phrasings read right"] = f"{right} of {total} ({100 * right / max(total, 1):.2f} %)"
    _tables(report, scorer)
    _reachable(report, scorer)
    _self_tests(report, scorer)
    count = scorer.checker.count()
    report.figures["satisfying assignments"] = "too many to count" if count is None else f"{count:,}"
    _rewards(report, scorer)
    return report


def _uncertain(report: LintReport) -> None:
    for text in report.pathway.uncertain:
        report.add("note", 0, f"uncertain: {text}")
    for rule in report.pathway.rules:
        if rule.uncertain:
            report.add("note", rule.line, f"uncertain rule '{rule.id}': {rule.uncertain}")
    seen = set()
    for decision in report.pathway.decisions:
        for row in decision.rows:
            if row.uncertain and row.line not in seen:
                seen.add(row.line)
                report.add("note", row.line, f"uncertain row of '{decision.id}': {row.uncertain}")


def _synonyms(report: LintReport) -> None:
    """A phrase may belong to one value of a variable only."""
    for variable in report.pathway.variables.values():
        owner: dict[tuple[str, ...], str] = {}
        for value in variable.values:
            for phrase in (*value.say, *value.words, *value.synonyms, *value.short):
                key = phrase_tokens(phrase)
                if not key:
                    report.add("error", value.line, f"'{phrase}' of '{variable.id}' has no word in it")
                elif owner.setdefault(key, value.symbol) != value.symbol:
                    text = f"'{phrase}' belongs to '{owner[key]}' and to '{value.symbol}' of '{variable.id}'"
                    report.add("error", value.line, f"{text}; give it to one of them")


def spoken_symbols(scorer: Scorer, slot: Slot) -> list[Symbol]:
    """The symbols of a slot whose phrasings are tried; numbers as a few values of every cell."""
    domain = scorer.checker.domains[slot.name]
    symbols = list(domain.symbols)
    if slot.variable.type == "number" and domain.bounds is not None:
        symbols = [number for edge in domain.edges for number in dict.fromkeys(edge)]
        symbols += [NOT_ASSESSABLE] if NOT_ASSESSABLE in domain.symbols else []
    if slot.variable.type == "set":
        symbols = [item for item in symbols if item == NOT_ASSESSABLE or len(item) <= 2]  # type: ignore[arg-type]
    return symbols


def _phrasings(report: LintReport, scorer: Scorer, split: Split) -> tuple[int, int]:
    """Every phrasing must be read as its own symbol, alone and as the answer to every question."""
    pathway = report.pathway
    right = total = 0
    needed = TRAIN_NEEDED if split == "train" else HELDOUT_NEEDED
    for slot in _first_slots(pathway):
        asked = questions(pathway, slot, split)
        for symbol in spoken_symbols(scorer, slot):
            phrases = answers(pathway, slot, symbol, split)
            if len(phrases) < needed:
                text = f"'{slot.variable.id}' = {show_symbol(symbol)} has {len(phrases)} {split} phrasings of {needed}"
                report.add("error", slot.variable.line, f"{text}; add 'say' wordings or '{split}' sentences")
            for number, phrase in enumerate(phrases):
                question = asked[number % len(asked)] if len(phrase) > 12 else None
                reading = scorer.parser.read(phrase, slot, question)
                total += 1
                if reading.state == "value" and reading.symbol == symbol:
                    right += 1
                    continue
                text = f"{split} phrasing '{phrase}' of '{slot.name}' = {show_symbol(symbol)} reads as {reading}"
                report.add("error", slot.variable.line, f"{text} ({reading.reason}); add a synonym or reword it")
        for phrase in unknown_answers(pathway, slot, split):
            total += 1
            reading = scorer.parser.read(phrase, slot)
            if reading.state == "unknown":
                right += 1
            else:
                report.add("error", slot.variable.line, f"'{phrase}' for '{slot.name}' reads as {reading}")
    return right, total


def _first_slots(pathway: Pathway) -> Iterator[Slot]:
    """One slot of each variable: members share their phrasings."""
    seen = set()
    for slot in pathway.slots.values():
        if slot.variable.id not in seen:
            seen.add(slot.variable.id)
            yield slot


def _first_tables(pathway: Pathway) -> Iterator[Decision]:
    seen = set()
    for decision in pathway.decisions:
        if decision.line not in seen:
            seen.add(decision.line)
            yield decision


def _tables(report: LintReport, scorer: Scorer) -> None:
    """Tables must answer every reachable combination, `unique` ones with one row; rows must be used."""
    pathway, checker = report.pathway, scorer.checker
    for decision in _first_tables(pathway):
        names = inputs_of(decision)
        hits = dict.fromkeys((row.line for row in decision.rows), 0)
        holes: list[Mapping[str, Any]] = []
        doubles: list[tuple[Mapping[str, Any], list[int]]] = []
        for env in combinations(pathway, checker.domains, names, prune=True):
            outcome, rows = decide_in(pathway, decision, env)
            if (not rows and len(holes) < 3) or (decision.hit == "unique" and len(rows) > 1 and len(doubles) < 3):
                answers_given = {name: checker.allowed(name, value) for name, value in env.items()}
                if not checker.possible({checker.index[name]: mask for name, mask in answers_given.items()}):
                    continue
                if rows:
                    doubles.append((dict(env), [row.line for row in rows]))
                else:
                    holes.append(dict(env))
            used = rows if decision.hit == "max" else rows[:1]
            for row in used:
                hits[row.line] += 1
            if rows and checker.domains[decision.target].token(outcome) is None:
                text = f"table '{decision.id}' gives {show_symbol(outcome)}, which '{decision.target}' cannot be"
                report.add("error", rows[0].line, f"{text}; widen its range or mend the row")
                break
        for hole in holes[:1]:
            report.add(
                "error", decision.line, f"table '{decision.id}' has no row for {_show(hole)}; add one or 'else:'"
            )
        for double, lines in doubles[:1]:
            text = f"table '{decision.id}' has rows at lines {lines} that both hit for {_show(double)}"
            report.add("error", decision.line, f"{text}; make them exclude each other or use 'hit: first'")
        for row in decision.rows:
            if not hits[row.line] and row.condition.text != "otherwise":
                report.add("error", row.line, f"row '{row.condition.text}' of '{decision.id}' never applies; remove it")


def _show(env: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {show_symbol(value)}" for name, value in env.items())


def _reachable(report: LintReport, scorer: Scorer) -> None:
    """Every value must occur in some case and every rule must forbid something."""
    checker = scorer.checker
    for slot in _first_slots(report.pathway):
        for symbol in checker.domains[slot.name].symbols:
            if not checker.possible({checker.index[slot.name]: checker.allowed(slot.name, symbol)}):
                text = f"'{slot.name}' can never be {show_symbol(symbol)}"
                report.add("error", slot.variable.line, f"{text}; mend the rules or remove the value")
    for relation in checker.relations[: len(report.pathway.rules)]:
        size = 1
        for name in relation.slots:
            size *= len(checker.domains[checker.names[name]].symbols)
        if relation.count == size:
            line = next(rule.line for rule in report.pathway.rules if rule.id == relation.id)
            report.add("error", line, f"rule '{relation.id}' forbids nothing; remove it")
    for case, _ in scorer.cases:
        if checker.conflicts(case):
            report.add("error", 0, f"a reference case breaks the rules: {_show(case)}")


def _self_tests(report: LintReport, scorer: Scorer) -> None:
    checker, pathway = scorer.checker, report.pathway
    reached: set[int] = set()
    for test in pathway.tests:
        masks = {checker.index[name]: checker.allowed(name, symbol) for name, symbol in test.given.items()}
        possible = checker.possible(masks)
        if possible != test.consistent:
            found = "possible" if possible else "impossible"
            report.add("error", test.line, f"the test's case is {found}; mend the rules or the test")
            continue
        for name, symbol in test.expect.items():
            others = (1 << len(checker.domains[name].symbols)) - 1 & ~checker.allowed(name, symbol)
            place = checker.index[name]
            if not checker.possible({**masks, place: checker.allowed(name, symbol)}):
                report.add("error", test.line, f"the guideline excludes {name} = {show_symbol(symbol)} here")
            elif others and checker.possible({**masks, place: others & masks.get(place, others)}):
                report.add("error", test.line, f"{name} = {show_symbol(symbol)} does not follow from the test's case")
        if test.consistent:
            reached |= rows_reached(scorer, {**test.given, **test.expect})
    rows = {row.line for decision in pathway.decisions for row in decision.rows}
    report.figures["table rows reached by embedded tests"] = f"{len(reached & rows)} of {len(rows)}"
    for decision in _first_tables(pathway):
        for row in decision.rows:
            if row.line not in reached:
                report.add("warning", row.line, f"no embedded test reaches row '{row.text}' of '{decision.id}'")


def rows_reached(scorer: Scorer, case: Mapping[str, Symbol]) -> set[int]:
    """Lines of the table rows that decide a (partial) case, completed in the first possible way."""
    checker = scorer.checker
    fixed = {name: checker.allowed(name, symbol) for name, symbol in case.items()}
    env = dict(checker.draw(Random(0), fixed) or {})
    env.update(case)
    lines: set[int] = set()
    for decision in scorer.pathway.decisions:
        if all(name in env for name in inputs_of(decision)):
            _, rows = decide_in(scorer.pathway, decision, env)
            lines |= {row.line for row in (rows if decision.hit == "max" else rows[:1])}
    return lines


def _rewards(report: LintReport, scorer: Scorer) -> None:
    """What a right path, the best constant path and guessing earn."""
    worst, random = 1.0, Random(0)
    for case, _ in scorer.cases[:200]:
        worst = min(worst, scorer.score_symbols(case, case).total)
    report.figures["reward of right answers (lowest)"] = f"{100 * worst:.2f} %"
    if worst != 1.0:
        report.add("error", 0, f"a right path earns {100 * worst:.2f} % instead of 100 %")
    path, reward = best_constant(scorer)
    report.figures["best constant policy"] = f"{100 * reward:.2f} %"
    report.figures["its answers"] = _show(path)
    guesses = [
        scorer.score_symbols(random.choice(scorer.cases)[0], case).total * weight for case, weight in scorer.cases
    ]
    report.figures["guessing a case from the prior"] = f"{100 * sum(guesses):.2f} %"
    uniform = []
    for case, weight in scorer.cases:
        drawn = {name: random.choice(scorer.checker.domains[name].symbols) for name in case}
        uniform.append(scorer.score_symbols(drawn, case).total * weight)
    report.figures["random answers"] = f"{100 * sum(uniform):.2f} %"


def best_constant(scorer: Scorer) -> tuple[dict[str, Any], float]:
    """The constant answer path that earns most on average over the reference cases, and its mean total.

    A constant path clashes with itself or not, whatever the case, so its mean is a sum over slots once the clash is
    known. The search climbs from every reference case and from the best single answers.
    """
    names = scorer.pathway.turns.order
    weights = scorer.pathway.reward
    earned: dict[str, dict[Any, tuple[float, float]]] = {}
    for name in names:
        share = scorer.pathway.slots[name].variable.weight
        earned[name] = {
            symbol: (share * mean, share * positive * weights.consistency)
            for symbol, (mean, positive) in scorer.constant_grades(name).items()
        }
    best = sum(scorer.pathway.slots[name].variable.weight * (1 + weights.consistency) for name in names)
    floor = scorer.baseline(names)

    def mean(path: Mapping[str, Any]) -> float:
        clashing = {slot for conflict in scorer.checker.conflicts(path) for slot in conflict.slots}
        consistency = 1 - len(clashing) / len(names)
        raw = sum(earned[name][path[name]][0] + consistency * earned[name][path[name]][1] for name in names)
        return (raw - floor) / (best - floor)

    starts = [{name: case[name] for name in names} for case, _ in scorer.cases]
    starts.append({name: max(earned[name], key=lambda symbol: sum(earned[name][symbol])) for name in names})
    path = max(starts, key=mean)
    reward = mean(path)
    improved = True
    while improved:
        improved = False
        for name in names:
            for symbol in earned[name]:
                trial = {**path, name: symbol}
                value = mean(trial)
                if value > reward + 1e-9:
                    path, reward, improved = trial, value, True
    return path, reward
