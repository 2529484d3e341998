"""Alignment: log-probabilities, pairs, and whole small runs of both objectives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from medvlm.dialogue.conversation import Conversation, Turn, write_conversations
from medvlm.errors import MedVLMError
from medvlm.models.chat import ChatEncoder
from medvlm.models.load import load_model
from medvlm.models.parts import Tuning, prepare
from medvlm.pathways.loader import load_pathway
from medvlm.pathways.phrasings import answers
from medvlm.pathways.reward import Scorer
from medvlm.pathways.simulate import Simulator
from medvlm.training.cli import main, objective_classes
from medvlm.training.collate import TrainingCollator
from medvlm.training.logprobs import Reference, sums_by_row, token_logprobs
from medvlm.training.loss import supervised_loss
from medvlm.training.pairs import answer_pairs, picture_pairs
from medvlm.training.policy import Policy, PolicySettings
from medvlm.training.preference import Pair, read_pairs, write_pairs
from medvlm.training.rollouts import Sample, Script


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(load_pathway("blood_smear"))


def rows(scorer: Scorer, count: int, split: str = "train") -> list[Conversation]:
    """Conversations of the blood smear pathway, each with a picture of the model tests."""
    made = []
    for number, row in enumerate(Simulator(scorer).conversations(count, seed=1)):
        conversation = Conversation.from_json(row)
        first, *rest = conversation.turns
        turns = (Turn("user", first.text, (f"{number % 3}.png",)), *rest)
        made.append(Conversation(f"{split}-{number}", f"p{number}", split, turns, "", (), conversation.symbols))
    return made


def test_log_probabilities_add_up_to_the_loss(tiny, pictures, scorer) -> None:
    encoder = ChatEncoder(tiny.processor, pictures, "tiny")
    batch = TrainingCollator(0)([encoder.encode(row) for row in rows(scorer, 3)])
    said = token_logprobs(tiny.model, batch)
    loss, tokens = supervised_loss(tiny.model, batch)
    assert -said.logprobs.sum().item() == pytest.approx(loss.item(), rel=1e-5)
    assert len(said.entropy) == len(said.hidden) == int(tokens)
    assert sums_by_row(torch.ones_like(said.logprobs), said.rows, 3).sum() == int(tokens)


def test_the_reference_is_the_model_as_alignment_found_it(tiny, pictures, scorer, tmp_path) -> None:
    """Also where an adapter had been trained before; gradients of a graph that was built first stay what they are."""
    tiny.save(tmp_path / "base")
    made = prepare(load_model(tmp_path / "base"), Tuning("freeze", "freeze", "lora", rank=2))
    with torch.no_grad():
        for parameter in made.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    encoder = ChatEncoder(made.processor, pictures, "tiny")
    batch = TrainingCollator(0)([encoder.encode(row) for row in rows(scorer, 2)])
    at_first = token_logprobs(made.model, batch).logprobs.detach()
    reference = Reference(made)
    with torch.no_grad():
        for parameter in made.model.parameters():
            if parameter.requires_grad:
                parameter.mul_(3)
    moved = token_logprobs(made.model, batch).logprobs
    with reference() as model:
        assert torch.equal(token_logprobs(model, batch).logprobs, at_first)
    assert not torch.allclose(moved, at_first)
    weight = next(parameter for parameter in made.model.parameters() if parameter.requires_grad)
    (after,) = torch.autograd.grad(moved.sum(), weight)
    (plain,) = torch.autograd.grad(token_logprobs(made.model, batch).logprobs.sum(), weight)
    assert torch.equal(after, plain)


def test_exactly_the_wrong_answers_are_edited(scorer) -> None:
    (row,) = rows(scorer, 1)
    script = Script.of(row)
    right = [turn.text for turn in row.turns if turn.role == "assistant"]
    said = [*right[:-1], "The cell is a dromedary."]
    (pair,) = answer_pairs([Sample(script, None, answers=list(said))], scorer)  # type: ignore[arg-type]
    told = [turn.text for turn in pair.chosen.turns if turn.role == "assistant"]
    assert told[:-1] == right[:-1]
    assert (
        scorer.parser.read(told[-1], scorer.pathway.slot("cell_type"), None).symbol == row.symbols["truth"]["cell_type"]
    )
    learnt = [turn.train for turn in pair.rejected.turns if turn.role == "assistant"]
    assert learnt == [False] * (len(right) - 1) + [True]


def test_an_edit_takes_words_that_the_model_used_itself(scorer) -> None:
    (row,) = rows(scorer, 1)
    script = Script.of(row)
    right = [turn.text for turn in row.turns if turn.role == "assistant"]
    symbol = row.symbols["truth"]["cell_type"]
    # Said of this or of another picture: not a wording of the pathway's own, but one that it can read.
    own = f"I am sure that it is {answers(scorer.pathway, scorer.pathway.slot('cell_type'), symbol)[0].rstrip('.')}!"
    said = [Sample(script, None, answers=[*right[:-1], last]) for last in ("A dromedary.", own)]  # type: ignore[arg-type]
    (pair,) = answer_pairs(said, scorer)
    assert [turn.text for turn in pair.chosen.turns if turn.role == "assistant"][-1] == own


def test_a_contradiction_costs_right_answers(scorer) -> None:
    (row,) = rows(scorer, 1)
    right = [turn.text for turn in row.turns if turn.role == "assistant"]
    others = [turn.text for other in rows(scorer, 12) for turn in other.turns[-1:]]
    lie = next(
        text
        for text in others
        if scorer.parser.read(text, "cell_type", None).symbol != row.symbols["truth"]["cell_type"]
    )
    module = Policy.__new__(Policy)
    torch.nn.Module.__init__(module)
    module.scorer, module.policy = scorer, PolicySettings(clash=2.0)
    script = Script.of(row)
    clean, torn = (
        module._clashes(Sample(script, None, answers=said))
        for said in (right, [*right[:-1], lie])  # type: ignore[arg-type]
    )
    assert not clean.any()
    assert torn.tolist() == pytest.approx([0.0] * (len(right) - 1) + [2.0 / len(right)])


def test_an_answer_that_did_not_end_earns_nothing(scorer) -> None:
    (row,) = rows(scorer, 1)
    right = [turn.text for turn in row.turns if turn.role == "assistant"]
    module = Policy.__new__(Policy)
    torch.nn.Module.__init__(module)
    module.scorer = scorer
    whole, cut, empty = (
        module._rewards(Sample(Script.of(row), None, answers=given, cut=cut))  # type: ignore[arg-type]
        for given, cut in ((right, set()), (right, {0}), (["", *right[1:]], set()))
    )
    assert torch.equal(cut, empty)
    assert cut[0] < whole[0]


def test_a_conversation_without_a_wrong_answer_makes_no_pair(scorer) -> None:
    (row,) = rows(scorer, 1)
    right = [turn.text for turn in row.turns if turn.role == "assistant"]
    assert not list(answer_pairs([Sample(Script.of(row), None, answers=right)], scorer))  # type: ignore[arg-type]


def test_pairs_survive_their_file(tmp_path: Path, scorer) -> None:
    (row,) = rows(scorer, 1)
    pairs = list(picture_pairs([Script.of(row)], "blank", ["blank.png"]))
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    assert read_pairs(tmp_path / "pairs.jsonl") == [Pair("blank", row, pairs[0].rejected)]
    assert pairs[0].rejected.images == ("blank.png",)


def test_a_conversation_file_is_no_file_of_pairs(tmp_path: Path, scorer) -> None:
    write_conversations(tmp_path / "rows.jsonl", rows(scorer, 1))
    with pytest.raises(MedVLMError, match="row 1: a pair has"):
        read_pairs(tmp_path / "rows.jsonl")


def fit(out: Path, small_config: Path, *options: str) -> dict[str, torch.Tensor]:
    main(
        [
            "fit",
            f"--model.tiny_config={small_config}",
            f"--trainer.default_root_dir={out}",
            "--trainer.enable_progress_bar=false",
            *options,
        ]
    )
    return load_file(next((out / "model").glob("*.safetensors")))


def logged(out: Path, name: str) -> list[float]:
    lines = (out / "metrics" / "version_0" / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index(name)
    return [float(line.split(",")[column]) for line in lines[1:] if line.split(",")[column]]


def test_preference_learning_tells_the_sides_apart(tiny, pictures, small_config, tmp_path, scorer) -> None:
    made = rows(scorer, 24)
    wrong = [Sample(Script.of(row), None, answers=["No idea."] * len(row.symbols["asked"])) for row in made]  # type: ignore[arg-type]
    write_pairs(pictures / "pairs.jsonl", list(answer_pairs(wrong, scorer)))
    tiny.save(tmp_path / "start")
    fit(
        tmp_path / "run",
        small_config,
        "--objective=preference",
        f"--model.name={tmp_path / 'start'}",
        f"--data.train=[{pictures / 'pairs.jsonl'}]",
        "--trainer.max_epochs=4",
        "--model.learning_rate=3e-3",
        "--trainer.log_every_n_steps=1",
    )
    assert logged(tmp_path / "run", "train/preferred")[-1] > 0.9


@pytest.mark.parametrize("variant", ["grpo", "dapo", "dr_grpo", "gspo", "ppo"])
def test_policy_learning_runs_and_moves_the_weights(
    tiny, pictures, small_config, tmp_path, scorer, variant, monkeypatch
) -> None:
    # What an untrained model babbles earns nothing from a pathway; its length tells its conversations apart.
    monkeypatch.setattr(
        Policy, "_rewards", lambda _, sample: torch.tensor([float(len(text)) for text in sample.answers])
    )
    write_conversations(pictures / "scripts.jsonl", rows(scorer, 6))
    tiny.save(tmp_path / "start")
    trained = fit(
        tmp_path / "run",
        small_config,
        "--objective=policy",
        "--model.pathway=blood_smear",
        f"--model.name={tmp_path / 'start'}",
        f"--model.policy={{group: 3, variant: {variant}, guard: blank}}",
        "--model.max_new_tokens=5",
        f"--data.train=[{pictures / 'scripts.jsonl'}]",
        "--data.episodes=3",
        "--data.updates=2",
        "--trainer.log_every_n_steps=1",
    )
    assert all(torch.isfinite(value).all() for value in trained.values())
    # Six scripts, three a batch, two updates each: rewards are logged when conversations are sampled.
    first, again, second, last = logged(tmp_path / "run", "train/reward")
    assert first == again
    assert second == last
    name = "language_model.model.norm.weight"
    assert not torch.equal(trained[name], load_file(tmp_path / "start" / "model.safetensors")[name])


def test_the_objective_is_found_in_a_config_file(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("objective: policy\n")
    assert objective_classes(["fit", "--config", str(tmp_path / "run.yaml")])[0].__name__ == "Policy"
    assert objective_classes(["fit", "--objective=preference"])[1].__name__ == "PairData"
    assert objective_classes(["fit"])[0].__name__ == "FineTune"
    with pytest.raises(MedVLMError, match="no objective 'magic'"):
        objective_classes(["fit", "--objective", "magic"])
