"""Segmented volumes (Medical Segmentation Decathlon, TotalSegmentator) → a cohort, true Findings and conversations.

The masks take the part of the expert: its card offers the structures, its turns say what the masks measure. So the
conversations teach asking and reading before any expert is trained; train one on the same cohort to close the loop.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import medvlm
from medvlm.dialogue.adapters.volume_sets import Case, VolumeSet, organ_of
from medvlm.dialogue.questions import Family, Questions
from medvlm.dialogue.score import Score
from medvlm.errors import MedVLMError
from medvlm.experts.card import ExpertCard
from medvlm.findings.codes import code, concepts
from medvlm.findings.finding import Finding, Measurement, Provenance, write_findings
from medvlm.imaging.cohort import SPLITS, Cohort, CohortEntry, Split
from medvlm.storage import atomic_path, write_json

if TYPE_CHECKING:
    from medvlm.imaging.study import Volume

LESION = re.compile(r"cancer|tumou?r|lesion|nodule|metasta|edema|cyst", re.IGNORECASE)
# A lesion smaller than this is an annotation's crumb.
LEAST_ML = 0.01
SHARES: tuple[tuple[Split, float], ...] = (("test", 0.2), ("validation", 0.1))


def prepare_volumes(source: VolumeSet, root: Path, out: Path, seed: int = 0, subset: bool = False) -> str:
    """Write a cohort with masks and true Findings, and in `conversations/` what they teach.

    Raises:
        MedVLMError: files are missing or broken, or the number of cases is not the published one.
    """
    from medvlm.dialogue.build import Mix, StudyFacts, build_conversations
    from medvlm.dialogue.dataset import write_dataset
    from medvlm.dialogue.views import render_cohort

    published = source.read(root)
    if not published.cases:
        raise MedVLMError(f"{root}: no cases of {source.title} here; expected {source.layout}.")
    if published.expected not in (None, len(published.cases)) and not subset:
        raise MedVLMError(
            f"{root}: {len(published.cases):,} cases where {source.title} {published.name} has "
            f"{published.expected:,} as published; complete the download, or give --subset if a part is meant."
        )
    entries, truths = [], {}
    for case, split in _with_splits(published.cases, seed):
        truths[case.id] = _write_case(case, published.labels, out)
        entries.append(
            CohortEntry(
                id=case.id,
                patient=case.id,
                split=split,
                study=f"studies/{case.id}.nii.gz",
                mask=f"masks/{case.id}.nii.gz",
                truth=f"truth/{case.id}.jsonl",
            )
        )
    cohort = Cohort(out, source.name, dict(published.labels), tuple(entries))
    cohort.write()
    expert = MaskExpert(f"{source.name}_{published.name}")
    paths = render_cohort(cohort, out / "conversations", workers=1)
    facts = [StudyFacts(entry, paths[entry.id], truths[entry.id], truths[entry.id]) for entry in entries]
    questions = _questions(expert.card.name, truths.values())
    about = {
        "name": source.name,
        "task": published.name,
        "source": source.source,
        "licence": source.licence,
        "patient": source.patient,
        "split": "as published" if published.cases[0].split else "drawn by patient",
        "seed": seed,
        "published": {"cases": {"published": published.expected, "found": len(published.cases)}},
        "expert": "the masks",
    }
    mix = Mix(expert=4, plain=2, practice=4)
    card = write_dataset(out / "conversations", build_conversations(facts, questions, expert, mix, seed), about)
    write_json(out / "data.json", card)
    shares = "/".join(str(len(cohort.split(split))) for split in SPLITS)
    counts = " · ".join(f"{card['conversations'][name]:,} {name}" for name in SPLITS)
    return f"{source.title:<17}{len(entries)} volumes ({shares}) · conversations {counts} · {out}"


class MaskExpert:
    """The masks in the part of an expert: a card, and everything at once for every call."""

    def __init__(self, name: str) -> None:
        gives = {"structures": "volumes of the segmented organs; number and size of lesions"}
        name = re.sub(r"\W+", "_", name).lower()
        self.card = ExpertCard(name, "1", ("CT", "MR"), (), "segmentation", "masks drawn by readers", gives)

    def select(self, findings: tuple[Finding, ...], argument: str) -> tuple[Finding, ...]:
        return findings


def _with_splits(cases: Sequence[Case], seed: int) -> list[tuple[Case, Split]]:
    """The published splits, or patients shared out."""
    if all(case.split for case in cases):
        return [(case, case.split) for case in cases if case.split]
    order = np.random.default_rng(seed).permutation(len(cases)).tolist()
    splits: dict[int, Split] = {}
    for split, share in SHARES:
        count = round(share * len(cases))
        splits |= dict.fromkeys(order[:count], split)
        order = order[count:]
    return [(case, splits.get(number, "train")) for number, case in enumerate(cases)]


def _write_case(case: Case, labels: Mapping[int, str], out: Path) -> tuple[Finding, ...]:
    """Link the volume, write one label map, measure it; what is written already is kept."""
    import nibabel as nib

    from medvlm.dialogue.adapters.prepare import link_or_copy
    from medvlm.findings.finding import read_findings
    from medvlm.imaging.reader import load_study

    truth, mask = out / "truth" / f"{case.id}.jsonl", out / "masks" / f"{case.id}.nii.gz"
    study = out / "studies" / f"{case.id}.nii.gz"
    if not case.image.is_file():
        raise MedVLMError(f"{case.image}: the volume is missing.")
    for target in (study, mask):
        target.parent.mkdir(parents=True, exist_ok=True)
    if not study.is_file():
        with atomic_path(study) as temporary:
            link_or_copy(case.image, temporary)
    if not mask.is_file():
        merged: np.ndarray | None = None
        for number, path in case.masks.items():
            try:
                picture: Any = nib.load(path)
            except (OSError, nib.filebasedimages.ImageFileError) as error:
                raise MedVLMError(f"{path}: not a readable mask ({type(error).__name__}).") from None
            array = np.asarray(picture.dataobj)
            merged = np.zeros(array.shape, np.uint8) if merged is None else merged
            if array.shape != merged.shape:
                raise MedVLMError(f"{path}: its grid is not that of the other masks of {case.id}.")
            merged = array.astype(np.uint8) if number == 0 else np.where(array > 0, np.uint8(number), merged)
            affine = picture.affine
        with atomic_path(mask) as temporary:
            nib.save(nib.Nifti1Image(merged, affine), temporary)
    if not truth.is_file():
        series = load_study(mask).series[0]
        write_findings(truth, measure_labels(series.volume, labels, case.id))
    return tuple(read_findings(truth))


def measure_labels(mask: Volume, labels: Mapping[int, str], study: str) -> list[Finding]:
    """Findings of a label map: each organ with its volume, each lesion with place, long axis and volume.

    Args:
        mask: `[I, J, K]` labels with their geometry.
        labels: number → published name; names without a code of ours are left out.
        study: id of the study.
    """
    from medvlm.findings.measure import components

    array = np.asarray(mask.array).round().astype(int)
    provenance = Provenance("truth", medvlm.__version__)
    organs = [organ_of(name) for name in labels.values() if not LESION.search(name)]
    # A set about one organ (lung, colon) names only its lesions.
    site = next((organ for organ in organs if organ), ("", ""))[0]
    found: list[Finding] = []
    lesions: list[Finding] = []
    for number, name in labels.items():
        own = array == number
        if LESION.search(name):
            for part in components(array, mask, number, LEAST_ML):
                lesions.append(
                    Finding(
                        f"lesion-{len(lesions) + 1}",
                        study,
                        code("lesion"),
                        "present",
                        provenance,
                        1.0,
                        site=code(site) if site else None,
                        measurements=part.measurements(),
                        evidence=(part.evidence("mask"),),
                    )
                )
            continue
        organ = organ_of(name)
        if organ and own.any() and mask.calibrated:
            volume = Measurement(code("volume"), float(own.sum() * mask.voxel_volume / 1000), "mL")
            side = code(organ[1]) if organ[1] else None
            found.append(
                Finding(
                    name, study, code(organ[0]), "present", provenance, 1.0, laterality=side, measurements=(volume,)
                )
            )
    if any(LESION.search(name) for name in labels.values()):
        lesions.sort(key=lambda finding: finding.measure("Long axis") or 0.0, reverse=True)
        found += lesions or [Finding("lesion-0", study, code("lesion"), "absent", provenance, 0.0)]
    return found


def _questions(expert: str, truths: Iterable[Sequence[Finding]]) -> Questions:
    """What can be asked about these Findings: volume of each unpaired organ; presence, number and size of lesions."""
    seen: dict[str, None] = {}
    for findings in truths:
        for finding in findings:
            key = next(key for key, concept in concepts().items() if concept.code == finding.concept)
            if finding.laterality is None:
                seen.setdefault(key)
    families = [
        _family(
            f"{key}_volume",
            key,
            "volume",
            (f"What is the volume of the {text}?", f"How large is the {text}?", f"Measure the {text}."),
            (f"Please give the volume of the {text}.",),
            {"any": f"Volume of the {text}: {{value}} mL."},
            Score("number", unit="mL", absolute=5, relative=0.15),
        )
        for key, text in ((key, concepts()[key].text) for key in seen if concepts()[key].kind == "site")
    ]
    if "lesion" in seen:
        families += _lesion_families()
    thanks = Family("thanks", ("Thanks.", "Thank you."), ("Many thanks.",), {"any": "You are welcome."}, None)
    return Questions(
        expert, "The expert gave no result.", "The expert does not fit the picture. {answer}", (*families, thanks)
    )


def _lesion_families() -> list[Family]:
    return [
        _family(
            "lesion_present",
            "lesion",
            "present",
            ("Is there a lesion?", "Do you see any lesion?", "Any lesion here?"),
            ("Can you see a lesion?",),
            {"yes": "Yes, a lesion.", "no": "No lesion."},
            Score("yes_no"),
        ),
        _family(
            "lesion_count",
            "lesion",
            "count",
            ("How many lesions are there?", "Count the lesions."),
            ("Please give the number of lesions.",),
            {"0": "No lesion.", "1": "1 lesion.", "any": "{value} lesions."},
            Score("count"),
        ),
        _family(
            "lesion_size",
            "lesion",
            "long_axis",
            ("How large is the largest lesion?", "What is the size of the largest lesion?"),
            ("Please measure the largest lesion.",),
            {"any": "Largest lesion: {value} mm."},
            Score("number", unit="mm", absolute=2, relative=0.15),
            nothing="The expert found no lesion.",
        ),
    ]


def _family(
    name: str,
    concept: str,
    what: str,
    train: tuple[str, ...],
    held_out: tuple[str, ...],
    answers: Mapping[str, str],
    score: Score,
    nothing: str = "",
) -> Family:
    return Family(
        name,
        train,
        held_out,
        answers,
        score,
        "structures",
        concept,
        what,
        "present" if what in ("volume", "long_axis") else "always",
        nothing,
        "That is uncertain.",
    )
