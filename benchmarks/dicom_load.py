"""How fast a CT series is read, beside SimpleITK's GDCM reader and a plain loop over pydicom.

    pip install SimpleITK
    python benchmarks/dicom_load.py --slices 300 --out benchmarks/results/dicom_load.json

One run, on one machine: a series of 512 x 512 slices is written to a temporary folder, uncompressed and as JPEG 2000
(lossless), and each reader reads it in a fresh process (files in the page cache), `--repeats` times; the best time and
the peak memory above the start of the process count. Speed ratios above 1 mean that medvlm is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

SYNTAXES = {"uncompressed": "1.2.840.10008.1.2.1", "jpeg2000": "1.2.840.10008.1.2.4.90"}


def write_series(folder: Path, slices: int, syntax: str) -> None:
    """A chest-like CT: smooth anatomy with noise, 16 bits signed, spacing 0.7 x 0.7 x 1 mm."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

    random = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:512j, -1:1:512j]
    body = (x / 0.9) ** 2 + (y / 0.65) ** 2 < 1
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for index in range(slices):
        lungs = ((np.abs(x) - 0.42) / 0.3) ** 2 + (y / 0.45) ** 2 < np.sin(np.pi * (index + 1) / (slices + 1))
        values = np.where(body, np.where(lungs, -850, 40), -1000) + random.normal(0, 15, (512, 512))
        made = Dataset()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.2")
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = study, series, frame
        made.Modality, made.PatientID, made.SeriesDescription = "CT", "bench", "chest"
        made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        made.InstanceNumber, made.AcquisitionNumber = index + 1, 1
        made.ImagePositionPatient = [-179.2, -179.2, float(index)]
        made.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        made.PixelSpacing, made.SliceThickness = [0.7, 0.7], 1.0
        made.RescaleSlope, made.RescaleIntercept = 1, -1024
        made.Rows = made.Columns = 512
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 1
        made.PixelData = (values + 1024).round().astype("<i2").tobytes()
        if syntax != ExplicitVRLittleEndian:
            made.compress(UID(syntax))
        made.save_as(folder / f"{index:04d}.dcm", enforce_file_format=True)


def with_medvlm(folder: Path) -> np.ndarray:
    from medvlm.imaging import load_study

    return load_study(folder).series[0].volume.array


def with_simpleitk(folder: Path) -> np.ndarray:
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return SimpleITK.GetArrayFromImage(reader.Execute()).transpose(2, 1, 0)


def with_pydicom(folder: Path) -> np.ndarray:
    import pydicom

    slices = sorted(
        (pydicom.dcmread(path) for path in folder.iterdir()), key=lambda one: float(one.ImagePositionPatient[2])
    )
    stack = [one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept) for one in slices]
    return np.stack(stack).astype(np.float32).transpose(2, 1, 0)


READERS: dict[str, Callable[[Path], np.ndarray]] = {
    "medvlm": with_medvlm,
    "SimpleITK": with_simpleitk,
    "pydicom loop": with_pydicom,
}

CHILD = """
import resource, sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
import dicom_load
if {reader!r} == "medvlm":
    import medvlm.imaging
elif {reader!r} == "SimpleITK":
    import SimpleITK
else:
    import pydicom.pixels
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, start, cpu = peak(), time.perf_counter(), time.process_time()
array = dicom_load.READERS[{reader!r}](Path({folder!r}))
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
print(seconds, cpu, peak() - before, array.nbytes, float(array[::7, ::7, ::7].astype(float).sum()))
"""


def measure(reader: str, folder: Path, repeats: int) -> dict[str, float]:
    """Best time, least peak memory above the start, size and checksum of the volume, each run in its own process."""
    runs = []
    here = str(Path(__file__).resolve().parent)
    for _ in range(repeats):
        code = CHILD.format(here=here, reader=reader, folder=str(folder))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        runs.append([float(word) for word in done.stdout.split()])
    names = ("seconds", "processor_seconds", "peak_bytes", "volume_bytes", "checksum")
    return dict(zip(names, (float(value) for value in np.array(runs).min(axis=0)), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    result: dict[str, object] = {
        "machine": f"{machine}, Python {platform.python_version()}",
        "slices": options.slices,
    }
    for name, syntax in SYNTAXES.items():
        with tempfile.TemporaryDirectory() as folder:
            write_series(Path(folder), options.slices, syntax)
            runs = {reader: measure(reader, Path(folder), options.repeats) for reader in READERS}
        ours = runs["medvlm"]
        summary = {
            "faster than SimpleITK": runs["SimpleITK"]["seconds"] / ours["seconds"],
            "faster than pydicom loop": runs["pydicom loop"]["seconds"] / ours["seconds"],
            "peak memory / volume": ours["peak_bytes"] / ours["volume_bytes"],
        }
        result[name] = {"runs": runs, "summary": summary}
        print(name, {key: round(value, 2) for key, value in summary.items()})
        for key in ("seconds", "processor_seconds"):
            print(f"   {key}", {reader: round(run[key], 3) for reader, run in runs.items()})
        assert len({round(run["checksum"]) for run in runs.values()}) == 1, "the readers disagree"
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
