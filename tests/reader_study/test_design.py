"""Plans: counterbalancing, limits, refusals."""

import datetime
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlm.errors import MedVLMError
from medvlm.reader_study.allocate import make_plan
from medvlm.reader_study.plan import Plan, balance, loads
from medvlm.reader_study.williams import carry_over, williams_square
from tests.reader_study.sample import plain_spec


@pytest.mark.parametrize("n", range(2, 9))
def test_in_a_williams_square_every_treatment_follows_every_other_equally_often(n):
    rows = williams_square(n)
    assert len(rows) == (n if n % 2 == 0 else 2 * n)
    counts = carry_over(rows)
    assert len(counts) == n * (n - 1)
    assert len(set(counts.values())) == 1
    assert all(len(set(column)) == n for column in zip(*rows)) or n % 2


@settings(max_examples=25, deadline=None)
@given(
    readers=st.integers(1, 7), cases=st.integers(20, 50), sources=st.integers(2, 3), seed=st.integers(0, 99),
    cap=st.integers(10, 40),
)  # fmt: skip
def test_every_reader_meets_every_case_once_from_every_source_and_never_twice_in_a_sitting(
    readers, cases, sources, seed, cap
):
    spec = plain_spec(
        readers={"all": readers}, cases=cases, sources=[{"id": f"S{k}x"} for k in range(sources)], seed=seed,
        duplicates=0.1, sessions={"max_items": cap},
    )  # fmt: skip
    plan = make_plan(spec)
    main = [item for item in plan.assignments if item.role == "main" and not item.duplicate_of]
    assert Counter((item.reader, item.case, item.source) for item in main).most_common(1)[0][1] == 1
    assert len(main) == readers * cases * sources
    for items in plan.by_session().values():
        assert len(items) <= cap
        assert len({item.case for item in items}) == len(items)
    # A case comes back only in another period, so a washout lies between.
    periods = defaultdict(list)
    for item in plan.assignments:
        periods[item.reader, item.case].append(item.period)
    assert all(len(set(found)) == len(found) for found in periods.values())
    for counts in balance([item for item in main if item.reader == "R01"], "period").values():
        # Blocks of a Williams square differ by one case at most, and an odd square has two rows for each place.
        assert max(counts.values()) - min(counts.values()) <= 2 * len(williams_square(sources)) // sources


def test_the_same_seed_gives_the_same_plan_and_readers_have_orders_of_their_own():
    spec = plain_spec(seed=5)
    assert make_plan(spec) == make_plan(spec)
    orders = defaultdict(list)
    for item in make_plan(spec).assignments:
        orders[item.reader].append(item.case)
    assert len({tuple(order) for order in orders.values()}) == 4
    assert Plan.from_json(make_plan(spec).to_json()) == make_plan(spec)


def test_dates_keep_the_washout_and_an_end_that_cannot_be_met_is_refused():
    sessions = {"start": datetime.date(2026, 1, 5), "washout_days": 14, "max_items": 12}
    plan = make_plan(plain_spec(sessions=sessions))
    # 24 cases, two sittings of 12 a period: days 0 and 1, then 14 days after day 1.
    days = [(slot.earliest - sessions["start"]).days for slot in plan.slots if slot.reader == "R01"]
    assert days == [0, 1, 15, 16]
    with pytest.raises(MedVLMError, match="cannot be before 2026-01-21"):
        make_plan(plain_spec(sessions=sessions | {"end": datetime.date(2026, 1, 20)}))


def test_load_counts_items_and_minutes():
    spec = plain_spec(sessions={"minutes_per_item": 3})
    assert loads(spec, make_plan(spec))[0].minutes == 24 * 2 * 3


def test_split_plot_gives_each_block_of_readers_its_own_cases():
    plan = make_plan(plain_spec(design={"kind": "split-plot", "blocks": 2}))
    cases = defaultdict(set)
    for item in plan.assignments:
        cases[item.reader].add(item.case)
    assert cases["R01"] == cases["R03"]
    assert not cases["R01"] & cases["R02"]
    assert len(cases["R01"] | cases["R02"]) == 24


def test_anchor_cases_are_read_by_all_and_others_by_as_many_as_asked():
    plan = make_plan(plain_spec(cases=26, design={"kind": "anchor-rotate", "anchor": 6, "readings": 2}))
    readers = defaultdict(set)
    for item in plan.assignments:
        readers[item.case].add(item.reader)
    assert Counter(len(found) for found in readers.values()) == {4: 6, 2: 20}


def test_pairs_stand_left_and_right_equally_often():
    spec = plain_spec(form="pairwise", design={"kind": "pairwise"}, sources=[{"id": "A1"}, {"id": "B1"}, {"id": "C1"}])
    main = make_plan(spec).assignments
    left = Counter(item.source for item in main)
    assert max(left.values()) - min(left.values()) <= 0.1 * len(main)
    assert all(item.source != item.other for item in main)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cases": 3, "sources": [{"id": f"S{k}x"} for k in range(3)]}, "come from fewer patients"),
        ({"readers": {"all": 5}, "design": {"kind": "split-plot", "blocks": 2}}, "cannot be dealt evenly"),
        ({"design": {"kind": "anchor-rotate", "anchor": 0}}, "design.anchor must lie"),
        ({"sessions": {"max_items": 4, "max_sessions": 3}}, "more than sessions.max_sessions = 3"),
        ({"duplicates": 40}, "would show a case twice"),
        ({"training": 20, "probes": 20}, "too few"),
        ({"form": "pairwise"}, "goes with a preference question"),
        ({"sources": [{"id": "A1"}, {"id": "A1"}]}, "occurs twice"),
        ({"cases": [{"id": f"c{k}", "patient": "p" if k < 12 else f"p{k}"} for k in range(20)]}, "not balanced"),
        ({"endpoint": {"metric": "auc"}}, "needs the column 'truth'"),
        ({"reader": 3}, "unknown key 'reader'"),
        ({"design": {"kind": "latin"}}, "is none of crossed"),
    ],
)
def test_an_impossible_or_unbalanced_design_is_refused_with_the_reason(changes, reason):
    with pytest.raises(MedVLMError, match=reason):
        make_plan(plain_spec(**changes))


def test_no_more_than_three_items_of_a_stratum_follow_each_other_where_it_can_be_avoided():
    cases = [{"id": f"c{k}", "stratum": "ill" if k % 3 else "well"} for k in range(30)]
    plan = make_plan(plain_spec(cases=cases))
    stratum = {case["id"]: case["stratum"] for case in cases}
    for items in plan.by_session().values():
        names = [stratum[item.case] for item in items]
        assert all(len(set(names[start : start + 4])) > 1 for start in range(len(names) - 3))
