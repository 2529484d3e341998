"""Weights sharded over two processes (gloo, on a CPU) train as whole ones do."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from medvlm.models.chat import ChatEncoder
from medvlm.training.collate import TrainingCollator, tokenise
from medvlm.training.loss import supervised_loss
from tests.models.families import build_family

STEPS = 3


def train(model, batch, fused: bool, mesh=None) -> list[float]:
    """Losses of a few steps of AdamW."""
    if mesh is not None:
        from medvlm.training.shard import shard

        shard(model, mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(STEPS):
        loss, tokens = supervised_loss(model, batch, fused)
        (loss / tokens).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach() / tokens))
    return losses


def worker(rank: int, port: int, batch, fused: bool, answers) -> None:
    from torch.distributed.device_mesh import init_device_mesh

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    model = build_family("llava").model
    losses = train(model, batch, fused, init_device_mesh("cpu", (2,)))
    shares = sum(parameter.to_local().numel() for parameter in model.parameters())
    answers.put((rank, losses, shares))
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("fused", [False, True])
def test_two_processes_with_half_of_the_weights_each_get_the_losses_of_one(fused, pictures, conversation):
    import socket

    loaded = build_family("llava")
    rows = tokenise([conversation] * 2, ChatEncoder(loaded.processor, pictures), longest=4096).rows
    batch = TrainingCollator(loaded.processor.tokenizer.pad_token_id)(rows)
    whole = sum(parameter.numel() for parameter in loaded.model.parameters())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.get_context("spawn")
    answers = context.Queue()
    processes = [context.Process(target=worker, args=(rank, port, batch, fused, answers)) for rank in range(2)]
    for process in processes:
        process.start()
    found = sorted(answers.get(timeout=240) for _ in processes)
    for process in processes:
        process.join(timeout=60)
    expected = train(loaded.model, batch, fused)
    assert expected[-1] < expected[0]
    for _, losses, shares in found:
        assert losses == pytest.approx(expected, rel=1e-5)
        assert shares < 0.6 * whole
