from __future__ import annotations

import copy

import torch

from medvlm.training.optimizer import MasterOptimizer, orthogonal


def parameters(dtype: torch.dtype) -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape).to(dtype)) for shape in ((4, 3), (3,))]


def run(optimizer: torch.optim.Optimizer, values: list[torch.nn.Parameter], steps: int, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for value in values:
            value.grad = torch.randn(value.shape, generator=generator).to(value.dtype)
        optimizer.step()


def test_in_float32_it_is_torchs_adamw():
    ours, torchs = parameters(torch.float32), parameters(torch.float32)
    settings = {"lr": 0.01, "betas": (0.9, 0.95), "weight_decay": 0.1}
    run(MasterOptimizer([{"params": ours}], **settings), ours, 5)
    run(torch.optim.AdamW(torchs, **settings), torchs, 5)
    for one, other in zip(ours, torchs):
        torch.testing.assert_close(one, other)


def test_slices_of_a_large_parameter_are_updated_as_the_whole(monkeypatch):
    whole, sliced = parameters(torch.bfloat16), parameters(torch.bfloat16)
    settings = {"lr": 0.01, "weight_decay": 0.1}
    run(MasterOptimizer([{"params": whole}], **settings), whole, 5)
    monkeypatch.setattr("medvlm.training.optimizer.TOGETHER", 5)  # 12 numbers: slices of 5, 5 and 2
    optimizer = MasterOptimizer([{"params": sliced}], **settings)
    run(optimizer, sliced, 5)
    assert all(torch.equal(one, other) for one, other in zip(whole, sliced))
    assert optimizer.state[sliced[0]]["step"] == 5


def test_updates_too_small_for_bf16_add_up():
    # Around 1 a bf16 step is 2**-7; 100 updates of 1e-4 make 0.01, and each alone would be rounded away.
    values = [torch.nn.Parameter(torch.ones(1, dtype=torch.bfloat16))]
    optimizer = MasterOptimizer([{"params": values}], lr=1e-4)
    for _ in range(100):
        values[0].grad = torch.ones_like(values[0])
        optimizer.step()
    torch.testing.assert_close(optimizer.state[values[0]]["master"], torch.tensor([0.99]), rtol=1e-4, atol=0.0)
    assert values[0].item() < 1.0


def test_a_saved_state_keeps_its_precision_and_continues_the_same():
    whole = parameters(torch.bfloat16)
    optimizer = MasterOptimizer([{"params": whole}], lr=0.01)
    run(optimizer, whole, 3)
    saved, weights = copy.deepcopy(optimizer.state_dict()), [value.detach().clone() for value in whole]
    run(optimizer, whole, 3, seed=2)

    resumed = [torch.nn.Parameter(value) for value in weights]
    again = MasterOptimizer([{"params": resumed}], lr=0.01)
    again.load_state_dict(saved)
    assert again.state[resumed[0]]["master"].dtype == torch.float32
    run(again, resumed, 3, seed=2)
    assert all(torch.equal(one, other) for one, other in zip(whole, resumed))


def test_restoring_gives_the_masters_back_to_a_float32_model():
    values = parameters(torch.bfloat16)
    optimizer = MasterOptimizer([{"params": values}], lr=0.01)
    run(optimizer, values, 1)
    for value in values:
        value.data = value.data.float()
    optimizer.restore()
    assert torch.equal(values[0], optimizer.state[values[0]]["master"])


def test_muon_makes_the_update_orthogonal():
    torch.manual_seed(0)
    for shape in ((8, 20), (20, 8)):
        singular = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        # Five iterations bring every singular value into about 0.7 .. 1.2, as the method's authors show.
        assert singular.min() > 0.5
        assert singular.max() < 1.4


def test_muon_moves_a_matrix_as_far_as_adamw_would():
    value = torch.nn.Parameter(torch.zeros(16, 64))
    optimizer = MasterOptimizer([{"params": [value], "muon": True}], lr=0.01)
    value.grad = torch.randn(16, 64)
    optimizer.step()
    # AdamW's typical update has a root mean square of 0.2 to 0.4 times the rate.
    size = float(value.detach().square().mean().sqrt())
    assert 0.1 * 0.01 < size < 0.4 * 0.01
