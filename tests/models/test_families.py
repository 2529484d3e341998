"""What every tested family must do; `families.py` builds them."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText

from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.errors import MedVLMError
from medvlm.models.chat import ChatEncoder, collate
from medvlm.models.generate import Generator
from medvlm.models.load import LoadedModel, load_model
from medvlm.models.parts import PARTS, Tuning, prepare, table
from medvlm.models.processor import load_processor
from tests.models.families import FAMILIES, build_family

ANSWERS = ("<CHEST_CT(nodules)>", "The largest nodule measures 14 mm.", "right")


# Saving and loading takes seconds a family: by default those that differ most, with -m slow all.
QUICK = ("llava", "qwen3_vl", "idefics3", "gemma3")
SAVED = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FAMILIES]


@pytest.fixture(scope="module", params=list(FAMILIES))
def loaded(request) -> LoadedModel:
    return build_family(request.param)


@pytest.fixture
def saved(request) -> LoadedModel:
    return build_family(request.param)


@pytest.fixture
def fresh(loaded) -> LoadedModel:
    return LoadedModel(copy.deepcopy(loaded.model), loaded.processor, loaded.name)


@pytest.fixture
def long_talk() -> Conversation:
    """Two questions, two pictures, an expert's turn and a system prompt."""
    turns = (
        Turn("system", "experts: <CHEST_CT(nodules)>"),
        Turn("user", "How large is the largest nodule?", ("0.png",)),
        Turn("assistant", ANSWERS[0]),
        Turn("expert", "lung nodules: 1\n1. right upper lobe, solid, 14 mm"),
        Turn("assistant", ANSWERS[1]),
        Turn("user", "Which side is it on?", ("1.png",)),
        Turn("assistant", ANSWERS[2]),
    )
    return Conversation("c", "p", "train", turns)


def spoken(encoder: ChatEncoder, conversation: Conversation) -> list[str]:
    """The supervised tokens, decoded, one text a run of them."""
    row = encoder.encode(conversation)
    runs: list[list[int]] = []
    for number, (token, learnt) in enumerate(zip(row.input_ids.tolist(), row.supervised.tolist())):
        if learnt and not (number and row.supervised[number - 1]):
            runs.append([])
        if learnt:
            runs[-1].append(token)
    return [encoder.processor.tokenizer.decode(run).strip() for run in runs]


def test_exactly_the_assistants_words_and_end_tokens_are_learnt(loaded, pictures, long_talk):
    end = FAMILIES[loaded.name].end
    assert spoken(ChatEncoder(loaded.processor, pictures), long_talk) == [f"{answer}{end}" for answer in ANSWERS]


def test_text_alone_and_a_turn_that_is_context(loaded, pictures, long_talk):
    end = FAMILIES[loaded.name].end
    turns = tuple(replace(turn, images=(), train=turn.text != ANSWERS[0]) for turn in long_talk.turns)
    kept = [f"{answer}{end}" for answer in ANSWERS[1:]]
    assert spoken(ChatEncoder(loaded.processor, pictures), replace(long_talk, turns=turns)) == kept


def test_everything_said_is_in_the_tokens(loaded, pictures, long_talk):
    encoder = ChatEncoder(loaded.processor, pictures)
    text = encoder.processor.tokenizer.decode(encoder.encode(long_talk).input_ids)
    assert all(turn.text in text for turn in long_talk.turns)


def test_what_is_asked_is_the_beginning_of_what_was_learnt(loaded, pictures, long_talk):
    """A model sees in training the very tokens that it will see when asked, up to its first word."""
    encoder = ChatEncoder(loaded.processor, pictures)
    row = encoder.encode(long_talk)
    asked = encoder.encode(replace(long_talk, turns=long_talk.turns[:6]), reply=True)
    last = int(row.supervised.nonzero()[-1]) - len(encoder.processor.tokenizer(ANSWERS[2])["input_ids"])
    assert row.input_ids[: len(asked) - 1].tolist() == asked.input_ids[:-1].tolist()
    assert abs(len(asked) - last) <= 1


def loaded_without_linear_projector(fresh: LoadedModel, tuning: Tuning) -> bool:
    """Gemma 3's projector is a bare matrix: an adapter on it is refused with a sentence."""
    if tuning.projector != "lora" or fresh.name != "gemma3":
        return False
    with pytest.raises(MedVLMError, match="projector part has no linear layers"):
        prepare(fresh, tuning)
    return True


DORA = Tuning(vision="lora", projector="lora", language="lora", rank=2, dora=True)


@pytest.mark.parametrize(
    "tuning",
    [
        Tuning(vision="freeze", projector="full", language="lora", rank=2),
        pytest.param(DORA, marks=pytest.mark.slow),
        pytest.param(Tuning(vision="freeze", projector="full", language="freeze"), marks=pytest.mark.slow),
        Tuning(),
    ],
    ids=["lora", "dora", "projector", "full"],
)
def test_a_step_changes_what_is_to_train_and_nothing_else(fresh, pictures, long_talk, tuning):
    from medvlm.training.collate import TrainingCollator
    from medvlm.training.loss import supervised_loss

    if loaded_without_linear_projector(fresh, tuning):
        tuning = replace(tuning, projector="full")
    tuned = prepare(fresh, tuning)
    encoder = ChatEncoder(tuned.processor, pictures)
    batch = TrainingCollator(tuned.processor.tokenizer.pad_token_id)([encoder.encode(long_talk)])
    before = {name: value.clone() for name, value in tuned.model.named_parameters()}
    tuned.model.train()
    optimizer = torch.optim.SGD([p for p in tuned.model.parameters() if p.requires_grad], lr=0.03)
    losses = []
    for _ in range(2):
        loss, tokens = supervised_loss(tuned.model, batch)
        (loss / tokens).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[1] < losses[0]
    rows = {row.part: row for row in table(tuned)}
    for part in PARTS:
        assert (rows[part].trainable > 0) == (tuning.of(part) != "freeze")
    for name, value in tuned.model.named_parameters():
        assert value.requires_grad or torch.equal(value, before[name]), name


def test_a_batch_answers_as_single_prompts_do(loaded, pictures, long_talk):
    talks = [replace(long_talk, turns=long_talk.turns[:count]) for count in (2, 4, 6)]
    generator = Generator(loaded, max_new_tokens=8, root=pictures)
    assert generator(talks) == [generator.answer(talk) for talk in talks]


@pytest.mark.parametrize("saved", SAVED, indirect=True)
def test_saved_in_full_plain_transformers_write_the_same_tokens(saved, pictures, long_talk, tmp_path):
    saved.save(tmp_path / "model")
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    asked = [replace(long_talk, turns=long_talk.turns[:4])]
    ours = Generator(load_model(tmp_path / "model"), max_new_tokens=8, root=pictures)
    theirs = Generator(LoadedModel(plain, load_processor(str(tmp_path / "model")), "plain"), 8, root=pictures)
    assert ours(asked) == theirs(asked) == Generator(saved, 8, root=pictures)(asked)


@pytest.mark.parametrize("saved", SAVED, indirect=True)
def test_a_saved_adapter_writes_the_same_tokens_under_plain_peft(saved, pictures, long_talk, tmp_path):
    saved.save(tmp_path / "base")
    tuning = Tuning(vision="freeze", projector="full", language="lora", rank=4)
    tuned = prepare(load_model(str(tmp_path / "base")), tuning)
    torch.manual_seed(1)
    with torch.no_grad():  # adapters start as zero: give them something to say
        for parameter in tuned.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.5)
    tuned.save(tmp_path / "adapter")
    base = AutoModelForImageTextToText.from_pretrained(tmp_path / "base")
    plain = LoadedModel(PeftModel.from_pretrained(base, tmp_path / "adapter"), tuned.processor, "plain")
    asked = [replace(long_talk, turns=long_talk.turns[:4])]
    said = [Generator(m, 8, root=pictures)(asked) for m in (tuned, load_model(tmp_path / "adapter"), plain, saved)]
    assert said[0] == said[1] == said[2] != said[3]


def test_the_closed_loop_runs_on_every_family(loaded, pictures):
    """The model's random words end the loop; the forced call shows that an expert's turn can be read."""
    from medvlm.dialogue.loop import Case, Desk, ask_many

    question = Conversation("q", "p", "test", (Turn("user", "How large?", ("0.png",)),))
    generator = Generator(loaded, max_new_tokens=4, root=pictures)
    calls = iter([["<NO_SUCH(nodules)>"]])
    done = ask_many([Case(question, "s")], lambda batch: next(calls, None) or generator(batch), Desk([]))
    assert [turn.role for turn in done[0].turns] == ["user", "assistant", "expert", "assistant"]


def test_pad_rows_and_picture_less_rows_share_a_batch(loaded, pictures, long_talk):
    encoder = ChatEncoder(loaded.processor, pictures)
    plain = replace(long_talk, turns=tuple(replace(turn, images=()) for turn in long_talk.turns[:3]))
    rows = [encoder.encode(long_talk), encoder.encode(plain)]
    batch = collate(rows, loaded.processor.tokenizer.pad_token_id, side="right")
    with torch.no_grad():
        together = loaded.model(**batch, use_cache=False).logits
        alone = loaded.model(**collate(rows[:1], 0, "right"), use_cache=False).logits
    torch.testing.assert_close(together[0], alone[0], atol=1e-4, rtol=1e-3)
