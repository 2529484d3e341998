"""How sure a model is of an answer, and the accuracy of the surest ones."""

from __future__ import annotations

import pytest
import torch

from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.evaluation.confidence import answer_confidences, selective
from medvlm.models.generate import Generator
from medvlm.models.load import load_model


def test_the_surest_answers_are_the_right_ones_where_confidence_says_something():
    found = selective([0.9, 0.8, 0.4, 0.3, 0.2], [True, True, False, True, False])
    # The surest 1 and 2 of 5 are right; of the surest 3, two; of 4, three; of all, three of five.
    assert found.accuracy == {1.0: 0.6, 0.8: 0.75, 0.6: pytest.approx(2 / 3), 0.4: 1.0, 0.2: 1.0}
    data = found.to_json()
    # Risks 0, 0, 1/3, 1/4, 2/5 on average; the best order has 0, 0, 0, 1/4, 2/5.
    assert data["aurc"] == pytest.approx((1 / 3 + 1 / 4 + 2 / 5) / 5, abs=1e-4)
    assert data["aurc_best"] == pytest.approx((1 / 4 + 2 / 5) / 5, abs=1e-4)
    assert data["aurc_random"] == 0.4


def test_confidence_is_the_geometric_mean_of_the_tokens_probabilities():
    loaded = load_model("tiny", corpus=["Is it clear? yes no maybe"] * 20)
    generate = Generator(loaded, max_new_tokens=4)
    asked = [Conversation(f"q{n}", "p", "test", (Turn("user", "Is it clear?"),)) for n in range(3)]
    said = ["yes", "maybe no", ""]
    found = answer_confidences(generate, asked, said)
    assert found[2] == 0.0
    for row, answer, value in zip(asked[:2], said, found):
        encoded = generate.encoder.encode(row.add(Turn("assistant", answer)))
        with torch.no_grad():
            logits = loaded.model(input_ids=encoded.input_ids[None]).logits[0].float().log_softmax(-1)
        places = encoded.supervised.nonzero().flatten()
        by_hand = logits[places - 1, encoded.input_ids[places]].mean().exp()
        assert value == pytest.approx(float(by_hand), rel=1e-3)
