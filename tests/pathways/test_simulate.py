"""Conversations: reproducible, truthful, with hints that reach the prompt and paraphrases that keep the symbol."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from medvlm.pathways import PathwayError
from medvlm.pathways.dialogues import message_text, score_row
from medvlm.pathways.paraphrase import Paraphraser
from medvlm.pathways.simulate import Simulator
from tests.pathways.library import LIBRARY, scorer


def rows(name: str, count: int = 20, **settings: str) -> list[dict]:
    return list(Simulator(scorer(name)).conversations(count, 7, **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", LIBRARY)
def test_simulated_conversations_earn_everything(name: str) -> None:
    for row in rows(name, 6, order="mixed", hint="mixed"):
        assert score_row(scorer(name), row).total == 1.0


def test_the_same_seed_gives_the_same_conversations() -> None:
    assert rows("retina_dr") == rows("retina_dr")


def test_train_and_heldout_sentences_do_not_meet() -> None:
    def texts(split: str) -> set[str]:
        return {message_text(m) for row in rows("bone_marrow", 200, split=split) for m in row["messages"]}

    train, heldout = texts("train"), texts("heldout")
    assert len(train) > 100
    assert not train & heldout


def test_conclusion_comes_first_and_subsets_are_subsets() -> None:
    assert all(row["symbols"]["asked"][0] == "diagnosis" for row in rows("ecg_acs", order="conclusion_first"))
    sizes = {len(row["symbols"]["asked"]) for row in rows("bone_marrow", 60, order="subset")}
    assert sizes == {2, 3, 4, 5}


def test_a_misleading_hint_is_in_the_prompt_and_names_another_symbol() -> None:
    parser = scorer("bone_marrow").parser
    hinted = 0
    for row in rows("bone_marrow", 40, hint="misleading"):
        symbols = row["symbols"]
        place = symbols["asked"].index("diagnosis") if symbols["truth"]["diagnosis"] != "not_assessable" else None
        if place is None:
            continue
        prompt = message_text(row["messages"][2 * place])
        claim = prompt.removesuffix(symbols["questions"][place]).partition(": ")[2]
        reading = parser.read(claim, "diagnosis")
        assert reading.state == "value"
        assert reading.symbol != symbols["truth"]["diagnosis"]
        hinted += 1
    assert hinted > 20


def test_the_troponin_result_is_told_only_after_it_was_ordered() -> None:
    for row in rows("ecg_acs", 60):
        told = [message_text(m) for m in row["messages"] if "roponin" in message_text(m) and m["role"] == "user"]
        revealed = [text for text in told if any(cue in text for cue in ("result:", "reports:", "come back:"))]
        assert bool(revealed) is (row["symbols"]["truth"]["order_troponin"] is True)


def test_an_expert_is_called_before_the_question_that_needs_it() -> None:
    row = next(row for row in rows("lung_screening") if "nodule_type" in row["symbols"]["asked"])
    roles = [message["role"] for message in row["messages"]]
    place = roles.index("expert")
    assert message_text(row["messages"][place - 1]) == "<CHEST_CT(nodules)>"


def test_an_order_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(PathwayError, match="has no order 'backwards'"):
        rows("ecg_acs", order="backwards")


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = body["messages"][0]["content"].rpartition("\n\n")[2]
            asked.append(text)
            # One good rewording and one that drops the meaning.
            content = f"1. To my eye: {text}\n2. There is nothing to add."
            reply = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *arguments: object) -> None:
            """Keep the test output clean."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", asked
    server.shutdown()


def test_paraphrases_are_used_only_if_they_read_the_same_and_are_cached(
    endpoint: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, asked = endpoint
    cache = tmp_path / "paraphrases.json"

    def run() -> list[dict]:
        paraphraser = Paraphraser(address, "any", cache)
        made = list(Simulator(scorer("bone_marrow"), paraphraser).conversations(15, 0))
        paraphraser.save()
        return made

    first = run()
    texts = [message_text(m) for row in first for m in row["messages"] if m["role"] == "assistant"]
    assert any(text.startswith("To my eye") for text in texts)
    assert not any("nothing to add" in text for text in texts)
    assert all(score_row(scorer("bone_marrow"), row).total == 1.0 for row in first)
    sent = len(asked)
    assert run() == first
    assert len(asked) == sent


def test_an_endpoint_that_does_not_answer_is_named(tmp_path: Path) -> None:
    paraphraser = Paraphraser("http://127.0.0.1:9/v1", "any", tmp_path / "cache.json", timeout=2)
    with pytest.raises(PathwayError, match="leave out --endpoint"):
        paraphraser("AML.", "diagnosis")
