"""What must hold in every plan, whatever the design; a plan that breaks one of these is refused."""

from __future__ import annotations

from collections import Counter, defaultdict

from medvlm.errors import MedVLMError
from medvlm.reader_study.plan import Assignment, Plan, balance
from medvlm.reader_study.spec import StudySpec
from medvlm.reader_study.williams import williams_square


def check_plan(spec: StudySpec, plan: Plan) -> None:
    """Refuse a plan that shows a case twice in a sitting, is not balanced or breaks a limit.

    Raises:
        MedVLMError: says which rule is broken, where and what would help.
    """
    for (reader, session), items in plan.by_session().items():
        cases = Counter(item.case for item in items)
        case, times = cases.most_common(1)[0]
        if times > 1:
            raise MedVLMError(f"case {case} would be shown {times} times in sitting {session} of reader {reader}.")
        if len(items) > spec.sessions.max_items:
            raise MedVLMError(
                f"sitting {session} of reader {reader} has {len(items)} items, more than {spec.sessions.max_items}."
            )
    _check_once(plan)
    _check_periods(spec, plan)
    if spec.design.kind == "pairwise":
        _check_sides(plan)


def _main(plan: Plan) -> list[Assignment]:
    return [item for item in plan.assignments if item.role == "main" and not item.duplicate_of]


def _check_once(plan: Plan) -> None:
    """Each reader meets each (case, source) at most once."""
    counts = Counter((item.reader, item.case, frozenset((item.source, item.other))) for item in _main(plan))
    (reader, case, _), times = counts.most_common(1)[0]
    if times > 1:
        raise MedVLMError(f"reader {reader} would read case {case} from one source {times} times.")


def _check_periods(spec: StudySpec, plan: Plan) -> None:
    """Every source about equally often in every period of every reader."""
    treatments = len(spec.sources)
    if spec.design.kind == "pairwise":
        treatments = treatments * (treatments - 1) // 2
    rows = len(williams_square(treatments))
    by_reader: dict[str, list[Assignment]] = defaultdict(list)
    for item in _main(plan):
        by_reader[item.reader].append(item)
    clusters = Counter(case.cluster for case in spec.cases)
    for reader, items in by_reader.items():
        cases = len({item.case for item in items})
        tolerance = max(rows // treatments * 2, 0.1 * cases / treatments)
        for source, counts in balance(items, "period").items():
            spread = max(counts.values()) - min(counts.values())
            if spread > tolerance:
                _patient, size = clusters.most_common(1)[0]
                cause = f"one patient has {size} of the {len(spec.cases)} cases" if size > 1 else "too few cases"
                raise MedVLMError(
                    f"not balanced: reader {reader} would meet {source} between {min(counts.values())} and "
                    f"{max(counts.values())} times in a period ({cause}); add cases or drop some of that patient's."
                )
            if patient_gap(counts):
                raise MedVLMError(f"not balanced: reader {reader} would not meet {source} in every period.")


def patient_gap(counts: dict[int, int]) -> bool:
    """A period without the source, although others have it."""
    return any(period not in counts for period in range(1, max(counts) + 1))


def _check_sides(plan: Plan) -> None:
    """Each source of a pair stands left about as often as right."""
    left: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for item in _main(plan):
        left[item.source] += 1
        right[item.other] += 1
    for source in {*left, *right}:
        total = left[source] + right[source]
        if abs(left[source] - right[source]) > max(2, 0.1 * total):
            raise MedVLMError(f"not balanced: {source} would stand left {left[source]} of {total} times.")
