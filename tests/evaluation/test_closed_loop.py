"""The closed loop with scripted models, and its intervals."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from medvlm.dialogue.build import Mix, build_conversations
from medvlm.dialogue.loop import Desk
from medvlm.dialogue.questions import read_questions
from medvlm.errors import MedVLMError
from medvlm.evaluation.bootstrap import mean_interval
from medvlm.evaluation.closed_loop import run_closed_loop
from medvlm.evaluation.table import closed_loop_table, gain, trigger_line
from tests.dialogue.sample import FakeExpert, absent, effusion, heart, nodule, study_facts

FOUND = (nodule(1, 14.2), effusion("left", 240.0), heart(0.56))
MISSED = (absent("lung_nodule"), effusion("left", 240.0), heart(0.56))


@pytest.fixture(scope="module")
def test_set():
    """Four patients with the same truth; the expert misses the nodule of the last one."""
    studies = [study_facts(name, "test", FOUND, MISSED if name == "d" else FOUND) for name in "abcd"]
    conversations = build_conversations(studies, read_questions("chest_ct"), FakeExpert(), Mix(), seed=0)
    return studies, conversations


@pytest.fixture
def desk(test_set):
    desk = Desk([FakeExpert()])
    desk.remember("chest_ct", {study.entry.id: study.shown for study in test_set[0]})
    return desk


def perfect(test):
    """Triggers when it should and repeats the reference; without an expert it says it cannot tell."""
    by_id = {conversation.id: conversation for conversation in test}

    def generate(conversations):
        replies = []
        for conversation in conversations:
            full = by_id[conversation.id]
            offered = conversation.turns[0].role == "system"
            called = any(turn.role == "expert" for turn in conversation.turns)
            if offered and not called and full.symbols["needs_expert"]:
                replies.append(full.symbols["trigger"])
            elif full.symbols["needs_expert"] and not offered:
                replies.append("I cannot tell.")
            else:
                replies.append(full.turns[-1].text)
        return replies

    return generate


def test_perfect_reader_reaches_the_ceiling_that_the_expert_sets(test_set, desk):
    result = run_closed_loop(test_set[1], perfect(test_set[1]), desk)
    rows = {row.task: row for row in result.tasks}
    # Of four patients the expert sees three nodules: 3/4; without an expert the model answers nothing.
    size = rows["nodule_size"]
    assert (size.questions, size.with_expert.value, size.without.value, size.gain.value) == (4, 0.75, 0.0, 0.75)
    assert size.ceiling == 0.75
    assert rows["effusion_side"].with_expert.value == 1.0
    assert rows["modality"].without.value == 1.0
    assert "report" not in rows


def test_trigger_rates_count_calls_where_they_are_and_are_not_needed(test_set, desk):
    always = run_closed_loop(test_set[1], lambda batch: ["<CHEST_CT(heart)>"] * len(batch), desk, max_calls=1)
    assert always.trigger.needed.value == 1.0
    assert always.trigger.not_needed.value == 1.0
    needing = [c for c in test_set[1] if c.symbols["needs_expert"]]
    heart_questions = [c for c in needing if c.symbols["trigger"] == "<CHEST_CT(heart)>"]
    assert always.trigger.right.value == pytest.approx(len(heart_questions) / len(needing))
    # The rest are the wrong calls; one call each, also where none was needed: precision is the share that needs one.
    assert always.trigger.wrong_argument.value == pytest.approx(1 - len(heart_questions) / len(needing))
    assert always.trigger.precision.value == pytest.approx(len(needing) / len(test_set[1]))
    assert always.trigger.calls == 1.0
    never = run_closed_loop(test_set[1], lambda batch: ["No nodule."] * len(batch), desk)
    assert (never.trigger.needed.value, never.trigger.not_needed.value) == (0.0, 0.0)
    assert never.trigger.precision is None
    assert never.trigger.calls == 0.0


def test_results_and_table_say_the_same(test_set, desk):
    result = run_closed_loop(test_set[1], perfect(test_set[1]), desk)
    data = json.loads(json.dumps(result.to_json()))
    assert data["patients"] == 4
    assert data["trigger"]["needed"]["value"] == 1.0
    assert [row["task"] for row in data["tasks"]].count("nodule_size") == 1
    console = Console(width=100, file=io.StringIO())
    console.print(closed_loop_table(result))
    text = console.file.getvalue()
    assert "nodule size" in text
    assert "75 %" in text
    assert trigger_line(result) == "trigger 100 % when needed, 0 % when not"


def test_wrong_kind_of_conversation_is_named(test_set, desk):
    broken = test_set[1][0].__class__("x-1", "p", "test", test_set[1][0].turns)
    with pytest.raises(MedVLMError, match="x-1 is not a test question"):
        run_closed_loop([broken], lambda batch: [], desk)
    with pytest.raises(MedVLMError, match="no test questions"):
        run_closed_loop([], lambda batch: [], desk)


def test_interval_is_seeded_and_holds_the_mean():
    values, patients = [1.0, 0.0, 1.0, 1.0], ["a", "a", "b", "c"]
    first = mean_interval(values, patients, seed=1)
    assert first == mean_interval(values, patients, seed=1)
    assert first.value == 0.75
    assert first.low <= 0.75 <= first.high


def test_questions_of_one_patient_count_as_one_draw():
    # 100 patients with 10 equal answers each: the interval must be that of 100 draws, not of 1,000.
    rng = np.random.default_rng(0)
    per_patient = (rng.random(100) < 0.5).astype(float)
    values = np.repeat(per_patient, 10).tolist()
    patients = np.repeat(np.arange(100), 10).astype(str).tolist()
    interval = mean_interval(values, patients)
    # Standard error of 100 draws at one half is 0.05: a 95 % interval is about 0.196 wide (1,000 draws: 0.062).
    assert 0.16 < interval.high - interval.low < 0.24


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    patients = [str(number) for number in range(60)]
    hits = 0
    for trial in range(200):
        interval = mean_interval((rng.random(60) < 0.7).astype(float).tolist(), patients, resamples=400, seed=trial)
        hits += interval.low <= 0.7 <= interval.high
    # 95 % of 200 is 190; four standard errors of a binomial are 12.
    assert hits >= 178


def test_empty_input_is_refused():
    with pytest.raises(ValueError, match="one patient a value"):
        mean_interval([], [])


def test_gain_is_written_in_points():
    interval = mean_interval([1.0, 1.0], ["a", "b"])
    assert gain(interval) == "+100 (+100, +100)"
