"""`medvlm data`: conversations from an annotated cohort, public data sets, and their exchange."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def build(
    cohort: Path,
    *,
    out: Path,
    findings: Path | None = None,
    questions: str = "chest_ct",
    phrasings: Path | None = None,
    expert: int = 8,
    plain: int = 4,
    practice: int = 24,
    turns: int = 3,
    failed: float = 0.02,
    trust: float = 0.0,
    wrong: float = 0.0,
    doubtful: float = 0.0,
    conflict: float = 0.0,
    missing: float = 0.0,
    style: Literal["short", "long", "table", "json"] = "short",
    seed: int = 0,
    workers: int = 2,
) -> None:
    """Build conversations from a cohort and the findings that experts wrote for it.

    Example:
        medvlm data build clinic --findings clinic/annotations --out clinic/conversations

    Args:
        cohort: folder with cohort.json.
        out: folder for train.jsonl, validation.jsonl, test.jsonl, data.json and images/.
        findings: folder that 'medvlm annotate' wrote (default: the expert says what is true).
        questions: curriculum whose questions.yaml is asked, or a YAML file of your own.
        phrasings: YAML file of other test phrasings (family → list), written without a look at those of the questions.
        expert: training conversations with the expert on offer, a study.
        plain: training conversations without an expert, a study.
        practice: training conversations with made-up findings and no picture, a study.
        turns: most questions in one conversation.
        failed: share of expert calls that fail; the honest answer is taught.
        trust: share of expert conversations whose expert is not to be believed, for models that see; the truth is
            taught. Six in ten of them are wrong, two doubtful, one contradicted, one missing; or give the four rates.
        wrong: share in which the expert says something untrue with confidence.
        doubtful: share in which it says with p 0.51 what is true half of the time.
        conflict: share in which a second expert contradicts it.
        missing: share in which it fails and the picture has to do.
        style: how findings are written in expert turns.
        seed: of every draw.
        workers: processes that render pictures.
    """
    from medvlm.dialogue.build import Mix
    from medvlm.dialogue.dataset import build_dataset
    from medvlm.dialogue.trust import Trust
    from medvlm.errors import MedVLMError
    from medvlm.imaging.cohort import read_cohort

    given = Trust(wrong, doubtful, conflict, missing)
    if trust and given.rate:
        raise MedVLMError("give either --trust or the rates --wrong, --doubtful, --conflict and --missing.")
    mistrust = Trust.of_rate(trust) if trust else given
    mix = Mix(expert, plain, practice, turns, failed=failed, trust=mistrust, style=style)
    studies = read_cohort(cohort)
    card = build_dataset(studies, findings, questions, out, mix, seed, workers, phrasings=phrasings)
    counts = " · ".join(f"{card['conversations'][split]:,} {split}" for split in card["conversations"])
    print(f"conversations    {counts} · {card['shared_patients']} shared patients in {out}")


def prepare(
    name: str,
    *,
    root: Path,
    out: Path,
    split: Literal["patient", "official"] = "patient",
    seed: int = 0,
    subset: bool = False,
    pictures: Literal["copy", "keep"] = "copy",
    patient: str = "",
) -> None:
    """Turn the files of a public data set, or a table or folder of your own, into conversations split by patient.

    Example:
        medvlm data prepare vqa_rad --root path/to/vqa_rad --out data/vqa_rad

    Args:
        name: one of the adapters ('medvlm data sets' lists them).
        root: folder with the data set's own files.
        out: folder to write.
        split: patient keeps every patient on one side; official is the published split, and the card counts its leaks.
        seed: of the splits that are drawn.
        subset: accept counts that differ from the published ones.
        pictures: copy them into the folder (hard links where possible), or keep them where they are.
        patient: for your own data: the column of the patient (csv), or a pattern for file names (folder).
    """
    from medvlm.dialogue.adapters import prepare_named
    from medvlm.errors import MedVLMError

    if not root.is_dir():
        raise MedVLMError(f"{root}: no such folder; --root is the folder with the files of {name}.")
    print(prepare_named(name, root, out, split, seed, subset, pictures, patient))


def sets(name: str = "") -> None:
    """List the public data sets that can be prepared: where they come from, licence, files, published counts.

    Example:
        medvlm data sets --name slake

    Args:
        name: one of them (default: all, one line each).
    """
    from medvlm.dialogue.adapters import SOURCES, VOLUMES, SourceSet, VolumeSet
    from medvlm.errors import MedVLMError

    known: dict[str, SourceSet | VolumeSet] = {**SOURCES, **VOLUMES}
    if not name:
        width = max(map(len, known)) + 2
        print("\n".join(f"{key:<{width}}{source.title}: {source.licence}" for key, source in known.items()))
        print(f"{'wbc':<{width}}white blood cells (docs/real-data.md)")
        print(f"{'bccd':<{width}}fields of blood cells (docs/real-data.md)")
        print(f"{'csv':<{width}}a table of your own\n{'folder':<{width}}a folder of classes of your own")
        return
    if name not in known:
        raise MedVLMError(f"no data set '{name}'; there are: {', '.join(sorted(known))}.")
    source = known[name]
    rows = [("source", source.source), ("licence", source.licence), ("files", source.layout)]
    rows += [("patient", source.patient), *((key, f"{count:,}") for key, count in source.counts.items())]
    width = max(len(key) for key, _ in rows) + 2
    print("\n".join([source.title, *(f"  {key:<{width}}{value}" for key, value in rows)]))


def cohort(folder: Path, *, splits: Path, name: str = "") -> None:
    """Index a plain folder of studies as a cohort, with splits from a CSV file.

    Example:
        medvlm data cohort path/to/studies --splits splits.csv

    Args:
        folder: folder with one DICOM folder, NIfTI file or image a study; cohort.json is written into it.
        splits: CSV with the columns study (path in the folder), patient and split; mask, truth and report are optional.
        name: name of the cohort (default: the folder's).
    """
    from medvlm.dialogue.plain_cohort import index_folder
    from medvlm.imaging.cohort import SPLITS

    written = index_folder(folder, splits, name)
    shares = "/".join(str(len(written.split(split))) for split in SPLITS)
    print(f"cohort           {len(written.entries)} studies in {folder} (train/validation/test {shares})")


def export(conversations: Path, *, out: Path, format: Literal["llava", "parquet", "arrow", "jsonl"] = "llava") -> None:
    """Write a conversation file in another format; image paths stay relative to the original file.

    Example:
        medvlm data export data/train.jsonl --out data/train-llava.json

    Args:
        conversations: .jsonl, .parquet or .arrow file.
        out: file to write; llava gives JSON that LLaVA and VILA train on, arrow opens at once at any size.
        format: llava, parquet, arrow or jsonl.
    """
    from medvlm.dialogue.conversation import iterate_conversations, write_conversations
    from medvlm.dialogue.llava import write_llava
    from medvlm.errors import MedVLMError

    suffix = {"llava": ".json"}.get(format, f".{format}")
    if out.suffix != suffix:
        raise MedVLMError(f"{out}: the format {format} is written to a file that ends in {suffix}.")
    rows = iterate_conversations(conversations)
    count = write_llava(out, rows) if format == "llava" else write_conversations(out, rows)
    print(f"wrote {count:,} conversations to {out}")


def import_llava(
    conversations: Path,
    *,
    out: Path,
    split: Literal["train", "validation", "test"] = "train",
    patient: str = "",
) -> None:
    """Read the JSON of LLaVA or VILA into a conversation file; image paths stay as they are.

    Example:
        medvlm data import llava.json --out data/train.jsonl --patient subject_id

    Args:
        conversations: JSON list with "conversations" of "from" and "value".
        out: .jsonl, .parquet or .arrow file to write, in the folder that the image paths start from.
        split: split of all rows; the format has none.
        patient: key of a row that names the patient (default: the first image, so that its rows stay together).
    """
    from medvlm.dialogue.conversation import write_conversations
    from medvlm.dialogue.llava import read_llava
    from medvlm.errors import MedVLMError

    if out.suffix not in (".jsonl", ".parquet", ".arrow"):
        raise MedVLMError(f"{out}: a conversation file ends in .jsonl, .parquet or .arrow.")
    rows = read_llava(conversations, split, (lambda row: str(row[patient])) if patient else None)
    count, patients = write_conversations(out, rows), len({row.patient for row in rows})
    print(f"wrote {count:,} conversations of {patients:,} patients to {out}")


COMMANDS = {
    "build": build,
    "prepare": prepare,
    "sets": sets,
    "cohort": cohort,
    "export": export,
    "import": import_llava,
}
