"""Does chest_ct refuse what it is not for, and read what it is for?

    apt-get install mricron-data                    # real T1 heads
    pip install scikit-image scikit-learn           # sample photographs; more by --photographs FOLDER
    python benchmarks/applicability.py --out benchmarks/applicability.json

Chest CTs are phantoms of a seed that the domain was not fitted on. The others are put in its way as they could come:
head MR as it is, with the wrong modality, body part, unit, spacing, cropped, turned, rescaled to Hounsfield-like
values; OCT B-scans as images and stacked into volumes; photographs as images and stacked into "CT" series of plausible
geometry. Refused in all, and of inputs that claim to be a chest CT in HU with calibrated voxels, with 95 % Wilson
intervals.
"""

from __future__ import annotations

import argparse
import platform
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from medvlm.experts.applicability import check_series
from medvlm.experts.registry import find_expert
from medvlm.imaging.reader import load_study
from medvlm.imaging.study import Series, Volume
from medvlm.phantom.case import generate_case
from medvlm.phantom.oct_case import generate_oct
from medvlm.storage import write_json

HEADS = Path("/usr/share/mricron/templates")
NAMES = ("ch2.nii.gz", "ch2bet.nii.gz", "ch2better.nii.gz", "inia19-t1-brain.nii.gz")
Case = tuple[str, bool, Series]  # group, claims to be a chest CT, series


def series_of(array: np.ndarray, spacing: np.ndarray, claim: bool, modality: str, part: str = "") -> Series:
    """A series; one that claims is CT of the chest in HU with calibrated voxels."""
    volume = Volume(array, np.diag([*np.asarray(spacing, float), 1.0]), unit="HU" if claim else "1", calibrated=True)
    return Series("made", "CT" if claim else modality, lambda: volume, body_part="chest" if claim else part)


def chests(count: int, seed: int) -> Iterator[Case]:
    for index in range(count):
        volume = generate_case(seed, index).volume
        yield "chest CT", True, Series("chest", "CT", lambda volume=volume: volume, body_part="chest")


def heads(count: int, rng: np.random.Generator) -> Iterator[Case]:
    loaded = [load_study(HEADS / name, modality="MR").series[0].volume.to_canonical() for name in NAMES]
    for index in range(count):
        volume = loaded[index % len(loaded)]
        array = np.asarray(volume.array, np.float32)
        thin = rng.integers(1, 4, 3)
        array = array[tuple(slice(None, None, int(step)) for step in thin)]
        for axis in range(3):
            low = int(rng.integers(0, max(1, array.shape[axis] // 6)))
            array = np.take(array, range(low, array.shape[axis] - int(rng.integers(0, max(1, low + 1)))), axis)
            if rng.random() < 0.5:
                array = np.flip(array, axis)
        array = np.transpose(array, rng.permutation(3))
        if rng.random() < 0.5:
            array = array + rng.normal(0, rng.uniform(1, 8), array.shape)
        claim = bool(rng.random() < 0.7)
        # An MR that was stored as if it were CT: shifted, stretched, and often with a spacing that makes it body-sized.
        if claim:
            array = (array - array.min()) / np.ptp(array) * rng.uniform(300, 3000) - rng.choice([0, 1024, 1000])
        spacing = np.array([1.0, 1.0, 1.0]) * thin * rng.uniform(0.9, 2.4)
        modality = ("MR", "", "CT")[int(rng.integers(3))]
        yield "head MR", claim, series_of(array.astype(np.int16), spacing, claim, modality, "head")


def scans(count: int, rng: np.random.Generator) -> Iterator[Case]:
    for index in range(count):
        first = int(rng.integers(0, 10_000))
        if index % 4 == 0:
            pixels = generate_oct(77, first).pixels.T[:, :, None]
            yield "OCT", False, series_of(pixels, np.array([0.02, 0.006, 0.02]), False, ("OPT", "", "OT")[index % 3])
            continue
        stack = np.stack([generate_oct(77, first + n).pixels for n in range(6)]).astype(np.float32)
        stack = np.repeat(stack, 6, axis=0)
        yield "OCT", True, disguise(stack, rng)


def photographs(count: int, rng: np.random.Generator, folders: list[Path]) -> Iterator[Case]:
    paths = [p for folder in folders for p in sorted(folder.rglob("*")) if p.suffix.lower() in (".png", ".jpg", ".bmp")]
    if not paths:
        return
    for index in range(count):
        with Image.open(paths[int(rng.integers(len(paths)))]) as image:
            colour = np.asarray(image.convert("RGB").resize((192, 160)))
        if index % 4 == 0:
            volume = Volume(colour.transpose(1, 0, 2)[:, :, None], np.eye(4), calibrated=False, oriented=False)
            modality = ("", "XC", "CT")[index % 3]
            yield "photograph", False, Series("photo", modality, lambda volume=volume: volume)
            continue
        # A film of a photograph: it pans from slice to slice.
        grey = colour.mean(axis=2)
        stack = np.stack([np.roll(grey, n * int(rng.integers(0, 4)), axis=1) for n in range(int(rng.integers(30, 60)))])
        yield "photograph", True, disguise(stack, rng)


def disguise(stack: np.ndarray, rng: np.random.Generator) -> Series:
    """`[K, rows, columns]` grey 0..255 as a CT of a body-sized region, in some order of its axes."""
    values = stack / 255 * rng.uniform(500, 3000) - rng.choice([0.0, 500.0, 1000.0, 1024.0])
    array = np.transpose(values, (2, 1, 0))
    if rng.random() < 0.3:
        array = np.transpose(array, rng.permutation(3))
    extent = np.array([rng.uniform(250, 420), rng.uniform(200, 420), rng.uniform(180, 380)])
    return series_of(array.astype(np.int16), np.minimum(extent / array.shape, 6.4), True, "CT")


def wilson(refused: int, count: int) -> tuple[float, float]:
    """95 % interval of a share."""
    from scipy.stats import binomtest

    interval = binomtest(refused, count).proportion_ci(method="wilson")
    return round(float(interval.low), 4), round(float(interval.high), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--expert", default="chest_ct")
    parser.add_argument("--count", type=int, default=400, help="inputs of each group")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--photographs", type=Path, nargs="*", default=[], help="more folders of pictures")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    bundle = find_expert(given.expert)
    folders = list(given.photographs)
    for package, inside in (("skimage", "data"), ("sklearn", "datasets/images")):
        found = find_spec(package)
        if found is not None and found.submodule_search_locations:
            folders.append(Path(next(iter(found.submodule_search_locations))) / inside)
    rng = np.random.default_rng(given.seed)
    groups: list[Iterator[Case]] = [chests(given.count, 990_000 + given.seed), scans(given.count, rng)]
    groups += [photographs(given.count, rng, folders)]
    if all((HEADS / name).is_file() for name in NAMES):
        groups.append(heads(given.count, rng))
    tally: dict[str, list[bool]] = defaultdict(list)
    reasons: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for group in groups:
        for name, claim, series in group:
            verdict = check_series(bundle, series)
            for key in (name, f"{name}, claims to be a chest CT") if claim else (name,):
                tally[key].append(not verdict.ok)
            reasons[name][" ".join(verdict.reason.split()[:5]) if not verdict.ok else "read"] += 1
    rows = {}
    print(f"{'inputs':<42}{'refused':>10}{'of':>6}   95 % interval")
    for name, refused in tally.items():
        low, high = wilson(sum(refused), len(refused))
        share = sum(refused) / len(refused)
        rows[name] = {
            "refused": sum(refused),
            "inputs": len(refused),
            "share": round(share, 4),
            "interval": [low, high],
        }
        print(f"{name:<42}{share:>9.1%}{len(refused):>7}   {low:.1%} to {high:.1%}")
    if given.out:
        machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
        write_json(given.out, {"expert": bundle.name, "machine": machine, "rows": rows, "reasons": reasons})


if __name__ == "__main__":
    main()
