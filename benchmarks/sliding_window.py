"""Sliding-window inference beside MONAI's `SlidingWindowInferer` at its defaults.

    python benchmarks/sliding_window.py --out benchmarks/results/sliding_window.json

One run, on one machine: the same network, volume, window and overlap (0.25) through MONAI's inferer (float32, window
after window) and through the class that experts run on. Two networks: the trained one of `chest_ct`, on a phantom
chest CT with all of its surrounding air, and a generic UNet (residual, batch norm) that is trained here to find blobs.
The best of `--repeats` runs counts. Dice counts voxels of the same structure among those of any; the mean
and the worst of single structures are given too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn


def chest_ct() -> tuple[nn.Module, torch.Tensor, tuple[int, ...], float]:
    """The expert's network, a phantom chest on its working grid without any crop, its window, its empty level."""
    from dataclasses import replace

    from medvlm.experts.grid import plan_grid, resample
    from medvlm.experts.registry import find_expert
    from medvlm.phantom import generate_case

    bundle = find_expert("chest_ct")
    volume = generate_case(seed=7, index=0, preset="small").volume
    whole = replace(bundle.input, crop="none")
    image = resample(volume, plan_grid(volume, whole), whole)
    # -944 HU: the mean of 64 voxels of air is below it, of lung far above.
    return bundle.load_network(), image, (96, 96, 48), 0.05


def blobs(seed: int, shape: tuple[int, ...] = (160, 160, 96)) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth bright blobs in an oval body in air: image `[1, ...]` in 0..1 and where the blobs are."""
    random = torch.Generator().manual_seed(seed)
    place = torch.stack(torch.meshgrid(*(torch.linspace(-1, 1, size) for size in shape), indexing="ij"))
    body = ((place / torch.tensor([0.6, 0.5, 0.8]).reshape(3, 1, 1, 1)) ** 2).sum(0) < 1
    noise = torch.rand((1, 1, *(size // 16 for size in shape)), generator=random)
    smooth = torch.nn.functional.interpolate(noise, shape, mode="trilinear")[0, 0]
    target = (smooth > 0.6) & body
    image = (0.4 * body + 0.3 * target).float()
    image += 0.02 * torch.randn(shape, generator=random) * body
    return image.clamp(0, 1)[None], target


def generic_unet(steps: int = 60) -> tuple[nn.Module, torch.Tensor, tuple[int, ...], float]:
    """MONAI's UNet as its tutorials build it, trained on blobs."""
    from monai.losses import DiceCELoss
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    network = UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        channels=(16, 32, 64, 128),
        strides=(2, 2, 2),
        num_res_units=2,
        norm="BATCH",
    )
    optimiser, loss = torch.optim.AdamW(network.parameters(), 3e-3), DiceCELoss(to_onehot_y=True, softmax=True)
    for step in range(steps):
        image, target = blobs(step + 1, (48, 48, 48))
        optimiser.zero_grad()
        loss(network(image[None]), target[None, None].long()).backward()
        optimiser.step()
    return network.eval(), blobs(0)[0], (96, 96, 96), 0.0


def best_time(run: Callable[[], torch.Tensor], repeats: int) -> tuple[float, torch.Tensor]:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - start)
    return min(times), result


def dice(a: torch.Tensor, b: torch.Tensor) -> tuple[float, float, float]:
    """Of two label maps: over all structures together, the mean and the worst of single ones (background is 0)."""
    together = 2 * ((a == b) & (a > 0)).sum() / ((a > 0).sum() + (b > 0).sum())
    labels = [label for label in torch.cat([a.unique(), b.unique()]).unique().tolist() if label]
    single = [float(2 * ((a == n) & (b == n)).sum() / ((a == n).sum() + (b == n).sum())) for n in labels]
    return float(together), sum(single) / len(single), min(single)


def compare(name: str, case: tuple[nn.Module, torch.Tensor, tuple[int, ...], float], repeats: int) -> dict[str, object]:
    """Both inferers on one network and image."""
    import copy

    from monai.inferers import SlidingWindowInferer

    from medvlm.experts.infer import choose_precision
    from medvlm.experts.sliding_window import SlidingWindow, WindowSettings

    network, image, size, empty = case
    device = torch.device("cpu")
    precision = choose_precision(device)
    peer = SlidingWindowInferer(roi_size=size)
    ours = SlidingWindow(
        copy.deepcopy(network).to(precision), device, precision, WindowSettings(size=size, empty=empty)
    )
    with torch.inference_mode():
        seconds_peer, theirs = best_time(lambda: peer(image[None], network)[0], repeats)
        seconds, mine = best_time(lambda: ours(image), repeats)
    together, mean, worst = dice(theirs.argmax(0), mine.argmax(0))
    row = {
        "volume": list(image.shape[1:]),
        "window": list(size),
        "MONAI seconds": round(seconds_peer, 3),
        "medvlm seconds": round(seconds, 3),
        "times faster": round(seconds_peer / seconds, 2),
        "Dice": round(together, 5),
        "mean Dice of the structures": round(mean, 5),
        "worst Dice of a structure": round(worst, 5),
        "precision": str(precision).removeprefix("torch."),
    }
    print(name, row)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    result = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "chest_ct": compare("chest_ct", chest_ct(), options.repeats),
        "UNet": compare("UNet", generic_unet(), options.repeats),
    }
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
