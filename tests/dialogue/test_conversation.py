"""Conversation rows, files and the LLaVA exchange."""

import json

import pytest

from medvlm.dialogue.conversation import Conversation, Turn, read_conversations, write_conversations
from medvlm.dialogue.llava import read_llava, write_llava
from medvlm.errors import MedVLMError


@pytest.fixture
def conversation() -> Conversation:
    turns = (
        Turn("system", "experts: <CHEST_CT(nodules)>"),
        Turn("user", "How large is the nodule?", images=("images/a.png",)),
        Turn("assistant", "<CHEST_CT(nodules)>"),
        Turn("expert", "lung nodules: 1\n1. right upper lobe, solid, 14 mm"),
        Turn("assistant", "The largest nodule measures 14 mm.", train=False),
    )
    symbols = {"value": 14.0, "needs_expert": True, "trigger": None}
    return Conversation("a-1", "p1", "train", turns, "nodule_size", ("nodule-1",), symbols)


def test_row_is_hf_messages_with_images_beside(conversation):
    row = conversation.to_json()
    assert list(row) == ["id", "patient", "split", "task", "messages", "images", "findings", "symbols"]
    assert row["images"] == ["images/a.png"]
    assert row["messages"][1] == {
        "role": "user",
        "content": [{"type": "image"}, {"type": "text", "text": "How large is the nodule?"}],
    }
    assert [message["role"] for message in row["messages"]] == ["system", "user", "assistant", "expert", "assistant"]
    assert row["messages"][4]["train"] is False
    assert "train" not in row["messages"][2]


@pytest.mark.parametrize("name", ["data.jsonl", "data.parquet"])
def test_files_give_back_what_was_written(tmp_path, conversation, name):
    plain = Conversation("b", "p2", "test", (Turn("user", "Hello – ünï"), Turn("assistant", "Hello.")))
    assert write_conversations(tmp_path / name, [conversation, plain]) == 2
    assert read_conversations(tmp_path / name) == [conversation, plain]


def test_hf_datasets_reads_both_files(tmp_path, conversation):
    datasets = pytest.importorskip("datasets")
    for kind, name in (("json", "data.jsonl"), ("parquet", "data.parquet")):
        write_conversations(tmp_path / name, [conversation])
        rows = datasets.load_dataset(kind, data_files=str(tmp_path / name), cache_dir=str(tmp_path / "cache"))
        assert rows["train"][0]["messages"][3]["content"][0]["text"].startswith("lung nodules: 1")


def test_expert_turn_becomes_a_user_message_for_chat_templates(conversation):
    messages = conversation.to_messages()
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert messages[1]["content"][0] == {"type": "image", "path": "images/a.png"}


def test_consecutive_messages_of_one_role_are_joined():
    turns = (Turn("user", "a"), Turn("assistant", "<X(a)><X(b)>"), Turn("expert", "b"), Turn("expert", "c"))
    messages = Conversation("1", "p", "train", turns).to_messages()
    assert [part["text"] for part in messages[-1]["content"]] == ["b", "c"]


def test_plain_string_content_is_read():
    row = {"id": 1, "patient": "p", "split": "train", "messages": [{"role": "user", "content": "hello"}]}
    assert Conversation.from_json(row).turns == (Turn("user", "hello"),)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"messages": [{"role": "doctor", "content": "x"}]}, "unknown role 'doctor'"),
        ({"messages": [{"role": "user"}]}, "'content' is missing"),
        ({"images": ["a.png"]}, "no image part"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "more image parts than images"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "unknown content part 'audio'"),
        ({"messages": None}, "not a Conversation"),
    ],
)
def test_broken_row_names_file_line_and_reason(tmp_path, change, reason):
    row = {"id": "1", "patient": "p", "split": "train", "messages": [{"role": "user", "content": "x"}]}
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | change) + "\n")
    with pytest.raises(MedVLMError, match="line 2") as caught:
        read_conversations(path)
    assert reason in str(caught.value)


def test_not_parquet_is_one_sentence(tmp_path):
    path = tmp_path / "data.parquet"
    path.write_text("hello")
    with pytest.raises(MedVLMError, match="not a Parquet file"):
        read_conversations(path)


def test_llava_round_trip_keeps_words_and_images(tmp_path, conversation):
    path = tmp_path / "llava.json"
    assert write_llava(path, [conversation]) == 1
    row = json.loads(path.read_text())[0]
    assert row["image"] == "images/a.png"
    assert [message["from"] for message in row["conversations"]] == ["system", "human", "gpt", "human", "gpt"]
    assert row["conversations"][1]["value"] == "<image>\nHow large is the nodule?"
    (back,) = read_llava(path, split="test", patient=lambda row: row["id"][0])
    assert (back.patient, back.split) == ("a", "test")
    assert [turn.text for turn in back.turns] == [turn.text for turn in conversation.turns]
    assert back.images == conversation.images


def test_vila_rows_with_several_images_are_read(tmp_path):
    value = "T1: <image>, T2: <image> These are MRI."
    row = {"id": "x", "images": ["1.png", "2.png"], "conversations": [{"from": "human", "value": value}]}
    path = tmp_path / "vila.json"
    path.write_text(json.dumps([row]))
    (conversation,) = read_llava(path)
    assert conversation.turns == (Turn("user", "T1: , T2: These are MRI.", ("1.png", "2.png")),)


@pytest.mark.parametrize(
    ("value", "images", "reason"), [("<image> <image>", ["1.png"], "more <image>"), ("hello", ["1.png"], "no <image>")]
)
def test_llava_images_and_tokens_must_match(tmp_path, value, images, reason):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps([{"id": "x", "images": images, "conversations": [{"from": "human", "value": value}]}]))
    with pytest.raises(MedVLMError, match="row 1") as caught:
        read_llava(path)
    assert reason in str(caught.value)
