"""How large the page of a CT of 300 slices is, and how long it takes, for three levels of noise.

    python benchmarks/report_page.py --out benchmarks/results/report_page.json

512 x 512 x 300 voxels of a drawn chest with a nodule, an effusion and an enlarged heart; noise is what a picture costs,
so it goes from that of a thick smooth reconstruction to that of a thin sharp one.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from medvlm.experts.card import Applicability, ExpertCard, ExpertResult
from medvlm.findings.codes import code
from medvlm.findings.finding import Finding, Provenance
from medvlm.findings.measure import components
from medvlm.imaging.study import Series, Study, Volume
from medvlm.reporting.generate import write_report
from medvlm.storage import write_json

EDGE, SLICES = 512, 300
NOISE = (11, 28, 66)
LABELS = {1: "lung nodule", 2: "pleural effusion", 3: "heart"}
CONCEPTS = {1: "lung_nodule", 2: "pleural_effusion", 3: "cardiomegaly"}


def draw(noise: float) -> tuple[Volume, np.ndarray]:
    """A chest with noise of that standard deviation in HU, and its label map."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : EDGE * 1j, -1 : 1 : EDGE * 1j]
    texture = ndimage.gaussian_filter(random.normal(size=(EDGE, EDGE)), 3)
    voxels = np.empty((SLICES, EDGE, EDGE), np.int16)
    mask = np.zeros(voxels.shape, np.uint8)
    grain = ndimage.gaussian_filter(random.normal(size=(EDGE, EDGE)), 0.6).std()
    for k in range(SLICES):
        taper = np.sqrt(1 - 0.6 * (2 * k / SLICES - 1) ** 2)
        body = (x / 0.9) ** 2 + (y / 0.65) ** 2 < 1
        lungs = ((np.abs(x) - 0.42) / (0.3 * taper)) ** 2 + (y / (0.45 * taper)) ** 2 < 1
        slice_ = np.where(body, np.where(lungs, -850.0, 40.0), -1000.0)
        slice_[lungs & (np.roll(texture, 3 * k, axis=k % 2) > 1.8 * texture.std())] = 30
        parts = {
            3: ((x - 0.1) / 0.25) ** 2 + ((y + 0.05) / 0.25) ** 2 < 0.8 * taper,
            2: lungs & (y > 0.2) & (x > 0) & (k < 120),
            1: (x + 0.45) ** 2 + y**2 < max(0.0, 0.003 - ((k - 160) * 0.003) ** 2),
        }
        for label, part in parts.items():
            slice_[part], mask[k][part] = 45, label
        rough = ndimage.gaussian_filter(random.normal(size=(EDGE, EDGE)), 0.6) / grain
        voxels[k] = slice_ + noise * rough * np.where(body, 1.0, 0.3)
    # [slice, row, column] of a picture → RAS+
    turned = np.ascontiguousarray(voxels.transpose(2, 1, 0)[::-1, ::-1])
    return Volume(turned, np.diag([0.7, 0.7, 1.0, 1.0]), "HU"), np.ascontiguousarray(
        mask.transpose(2, 1, 0)[::-1, ::-1]
    )


class Drawn:
    """An expert that knows what was drawn."""

    weights = "0" * 64
    card = ExpertCard("drawn", "1", ("CT",), ("chest",), "segmentation", "knows", {"everything": "all"})

    def __init__(self, volume: Volume, mask: np.ndarray) -> None:
        self.volume, self.mask = volume, mask

    def applies(self, series: Series) -> Applicability:
        return Applicability(True, "it was drawn")

    def run(self, study: Study) -> ExpertResult:
        found = []
        for label, concept in CONCEPTS.items():
            part = components(self.mask, self.volume, label)[0]
            found.append(
                Finding(
                    f"{concept}-1",
                    study.uid,
                    code(concept),
                    "present",
                    Provenance("drawn", "1", self.weights),
                    0.9,
                    measurements=part.measurements(),
                    evidence=(part.evidence("1.2.3.4"),),
                )
            )
        return ExpertResult("drawn", tuple(found), "1.2.3.4", self.mask, LABELS, seconds=0.0)

    def select(self, findings: tuple[Finding, ...], argument: str) -> tuple[Finding, ...]:
        return findings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for noise in NOISE:
        volume, mask = draw(noise)
        study = Study("1.2.3", "p", (Series("1.2.3.4", "CT", lambda v=volume: v, "1.0 mm", "chest"),), Path("study"))  # type: ignore[misc]
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            write_report(study, [Drawn(volume, mask)], Path(folder) / "out", formats=("html",))  # type: ignore[list-item]
            seconds = time.process_time() - start
            megabytes = (Path(folder) / "out" / "report.html").stat().st_size / 1e6
        rows.append({"noise_hu": noise, "megabytes": round(megabytes, 1), "cpu_seconds": round(seconds, 1)})
        print(f"noise {noise:3} HU   {megabytes:5.1f} MB   {seconds:5.1f} s of one core")
    if options.out is not None:
        write_json(options.out, {"machine": f"{platform.machine()}, Python {platform.python_version()}", "pages": rows})


if __name__ == "__main__":
    main()
