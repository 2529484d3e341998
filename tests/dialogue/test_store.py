"""Conversations that stay on disk."""

import os
import pickle

import numpy as np
import pytest

from medvlm.dialogue import store
from medvlm.dialogue.conversation import Conversation, Turn, read_conversations, write_conversations
from medvlm.dialogue.store import CACHE, open_conversations
from medvlm.errors import MedVLMError


def sample(count: int, name: str = "c") -> list[Conversation]:
    """Conversation n has n % 3 pictures and says `word` n + 1 times."""
    return [
        Conversation(
            f"{name}-{n}",
            f"p{n // 2}",
            "train",
            (
                Turn("user", "what?", tuple(f"images/{k}.png" for k in range(n % 3))),
                Turn("assistant", "word " * (n + 1), train=n % 2 == 0),
            ),
            task="t",
            symbols={"value": n if n % 2 else "text"},
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("name", ["train.arrow", "train.parquet", "train.jsonl"])
def test_every_format_gives_back_what_was_written(tmp_path, name):
    rows = sample(5)
    assert write_conversations(tmp_path / name, iter(rows)) == 5
    opened = open_conversations(tmp_path / name)
    assert list(opened) == rows == read_conversations(tmp_path / name)
    assert opened[-1] == rows[4]
    assert list(opened[1:4:2]) == [rows[1], rows[3]]
    with pytest.raises(IndexError):
        opened[5]


def test_sizes_are_known_without_reading_the_text(tmp_path):
    write_conversations(tmp_path / "a.arrow", sample(4))
    opened = open_conversations(tmp_path / "a.arrow")
    # "what?" has 5 characters, "word " 5: 5 + 5(n + 1).
    assert opened.characters.tolist() == [10, 15, 20, 25]
    assert opened.pictures.tolist() == [0, 1, 2, 0]
    assert opened.keep([3, 0]).characters.tolist() == [25, 10]
    assert list(opened.labels("patient")) == ["p0", "p0", "p1", "p1"]
    assert list(opened[2:].labels("patient")) == ["p1", "p1"]


def test_hf_datasets_reads_ours_and_we_read_theirs(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = sample(3)
    write_conversations(tmp_path / "ours.arrow", rows)
    theirs = datasets.load_dataset("arrow", data_files=str(tmp_path / "ours.arrow"), cache_dir=str(tmp_path / "cache"))
    assert theirs["train"][1]["messages"][0]["content"][1]["text"] == "what?"
    theirs["train"].save_to_disk(str(tmp_path / "saved"))
    (saved,) = (tmp_path / "saved").glob("*.arrow")
    assert list(open_conversations(saved)) == rows == read_conversations(saved)


def test_several_files_keep_their_own_image_folder(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_conversations(tmp_path / folder / "train.jsonl", sample(2, folder))
    both = open_conversations([tmp_path / "one" / "train.jsonl", tmp_path / "two" / "train.jsonl"])
    assert [row.id for row in both] == ["one-0", "one-1", "two-0", "two-1"]
    assert [both.folder(n).name for n in range(4)] == ["one", "one", "two", "two"]
    assert both[1:3].folder(1).name == "two"


def test_shards_are_disjoint_and_complete(tmp_path):
    write_conversations(tmp_path / "a.arrow", sample(10))
    opened = open_conversations(tmp_path / "a.arrow")
    parts = [[row.id for row in opened.shard(rank, 3)] for rank in range(3)]
    assert [len(part) for part in parts] == [4, 3, 3]
    assert sorted(identity for part in parts for identity in part) == sorted(row.id for row in opened)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_streams_of_the_processes_are_disjoint_complete_and_reproducible(tmp_path, ranks):
    write_conversations(tmp_path / "a.arrow", sample(50))
    opened = open_conversations(tmp_path / "a.arrow")

    def order(epoch: int) -> list[str]:
        return [c.id for rank in range(ranks) for c in opened.stream(7, epoch, rank, ranks, buffer=8)]

    assert sorted(order(0)) == sorted(row.id for row in opened)
    assert order(0) == order(0) != order(1)
    if ranks == 1:
        assert [c.id for c in opened.stream()] == [row.id for row in opened]


def test_a_stream_goes_on_where_it_stopped(tmp_path):
    write_conversations(tmp_path / "a.arrow", sample(30))
    opened = open_conversations(tmp_path / "a.arrow")
    whole = [row["id"] for row in opened.iterable()]
    first, stream = [], opened.iterable()
    for row in stream:
        first.append(row["id"])
        if len(first) == 11:
            state = stream.state_dict()
            break
    rest = opened.iterable()
    rest.load_state_dict(state)
    assert first + [row["id"] for row in rest] == whole


def test_a_set_survives_the_way_to_another_process(tmp_path):
    write_conversations(tmp_path / "a.arrow", sample(6))
    part = open_conversations(tmp_path / "a.arrow").shard(1, 2)
    assert list(pickle.loads(pickle.dumps(part))) == list(part)


def test_conversion_happens_once_and_again_after_a_change(tmp_path):
    path = tmp_path / "train.jsonl"
    write_conversations(path, sample(3))
    open_conversations(path)
    (first,) = (tmp_path / CACHE).glob("*.arrow")
    before = first.stat().st_mtime_ns
    open_conversations(path)
    assert first.stat().st_mtime_ns == before
    write_conversations(path, sample(4))
    os.utime(path, ns=(1, 1))
    assert len(open_conversations(path)) == 4
    assert len(list((tmp_path / CACHE).glob("*.arrow"))) == 1


def test_reading_goes_on_when_the_mapping_is_renewed(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "REOPEN_AFTER", 3)
    write_conversations(tmp_path / "a.arrow", sample(10))
    opened = open_conversations(tmp_path / "a.arrow")
    order = np.random.default_rng(0).permutation(10).tolist()
    assert [opened[n].id for n in order] == [f"c-{n}" for n in order]


def test_broken_and_missing_files_are_one_sentence(tmp_path):
    (tmp_path / "bad.arrow").write_text("hello")
    with pytest.raises(MedVLMError, match=r"bad.arrow: not an Arrow file"):
        open_conversations(tmp_path / "bad.arrow")
    with pytest.raises(MedVLMError, match="no such file"):
        open_conversations(tmp_path / "none.jsonl")
    (tmp_path / "bad.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(MedVLMError, match=r"bad.jsonl, line 1"):
        open_conversations(tmp_path / "bad.jsonl")
