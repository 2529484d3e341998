"""`medvlm reader-study`: a blinded comparison of reports or readings, from the design to the statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from medvlm.errors import MedVLMError


def begin(
    cohort: Path,
    *,
    out: Path,
    model: str | None = None,
    experts: list[str] | None = None,
    split: Literal["train", "validation", "test"] = "test",
    cases: int = 24,
    readers: int = 4,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Make a study folder from a cohort: a model's reports against the reference reports, and a study.yaml to edit.

    Example:
        medvlm reader-study begin runs/quickstart/clinic --model runs/quickstart/fit/model --out study/

    Args:
        cohort: folder of a cohort whose studies have reference reports.
        out: folder to write; reports that are there already are kept.
        model: folder or hub id of the model that writes the reports (default: text from the measurements).
        experts: names of the experts that may run (default: all that apply).
        split: part of the cohort.
        cases: number of cases, the first ones of the split; 0 takes all.
        readers: number of readers.
        seed: of the study.
        device: where experts and model run.
    """
    from rich.progress import track

    from medvlm.imaging.cohort import read_cohort
    from medvlm.imaging.reader import load_study
    from medvlm.reader_study.begin import StudyCase, write_study_folder
    from medvlm.reporting.draft import VLMWriter
    from medvlm.reporting.generate import open_experts, write_report

    read = read_cohort(cohort)
    entries = [entry for entry in read.split(split) if entry.report]
    entries = entries[:cases] if cases else entries
    listed = [
        StudyCase(
            entry.id, entry.patient, read.root / entry.study, (read.root / str(entry.report)).read_text("utf-8"), ""
        )
        for entry in entries
    ]
    path = write_study_folder(out, read.name, listed, readers, seed)
    opened, untrained = open_experts(experts, device)
    writer = VLMWriter(model, device) if model else None
    for entry in track(entries, "reports", transient=True):
        if not (out / "vlm" / entry.id / "report.json").is_file():
            study = load_study(read.root / entry.study)
            write_report(study, opened, out / "vlm" / entry.id, writer, device, untrained, ("text",))
    print(f"study        {len(entries)} cases, reports in {out / 'vlm'} and {out / 'reference.csv'}")
    print(f"next         edit {path}, then: medvlm reader-study design {path}")


def design(study: Path, power: bool = True, out: Path | None = None, simulations: int = 500) -> None:
    """Check a study.yaml: load per reader, balance and power; refuses what cannot work.

    Example:
        medvlm reader-study design study.yaml

    Args:
        study: study.yaml or the folder that holds it.
        power: compute the power and the needed sample size.
        out: JSON file to write the plan to; it tells who reads what, so keep it from the readers.
        simulations: simulated studies for the power.
    """
    from medvlm.reader_study.allocate import make_plan
    from medvlm.reader_study.design_report import balance_table, load_table, power_lines
    from medvlm.reader_study.spec import load_study_spec
    from medvlm.storage import write_json

    spec = load_study_spec(study)
    plan = make_plan(spec)
    _print(load_table(spec, plan))
    _print(balance_table(spec, plan))
    for note in plan.notes:
        print(f"note: {note}")
    if power:
        for line in power_lines(spec, plan, simulations):
            print(line)
    if out is not None:
        write_json(out, plan.to_json())
        print(f"plan in {out} (it tells who reads what: not for readers)")


def export(study: Path, *, out: Path, passphrase_file: Path | None = None) -> None:
    """Write blinded packets, the sealed key and the audit log; fails if anything identifies a patient or a source.

    Example:
        medvlm reader-study export study.yaml --out packets/

    Args:
        study: study.yaml or the folder that holds it.
        out: new folder; packets/ in it goes to the readers, coordinator/ does not.
        passphrase_file: file with the passphrase of the sealed key; without it one is made beside the folder.
    """
    from medvlm.reader_study.allocate import make_plan
    from medvlm.reader_study.export import export_study
    from medvlm.reader_study.spec import load_study_spec

    spec = load_study_spec(study)
    plan = make_plan(spec)
    passphrase = None
    if passphrase_file is not None:
        if not passphrase_file.is_file():
            raise MedVLMError(f"{passphrase_file}: no such file.")
        passphrase = passphrase_file.read_text(encoding="utf-8").strip()
    with _progress() as tell:
        done = export_study(spec, plan, out, passphrase, tell)
    print(f"packets      {done.packets} packets, {done.items} items, {done.files} files in {out / 'packets'}")
    print("leak scan    clean: no identifier, source name, time stamp or order that tells")
    print(f"sealed key   {out / 'coordinator' / 'key.sealed'}")
    print(f"commitment   {done.commitment}")
    if done.passphrase_file is not None:
        print(f"passphrase   {done.passphrase_file}: give it to somebody who takes no part in the reading")


def simulate(
    packets: Path,
    *,
    out: Path,
    effects: dict[str, float] = {},  # noqa: B006 - never changed
    collected: bool = True,
    seed: int = 0,
    skill: float = 0.8,
    fatigue: float = 0.1,
    missing: float = 0.0,
    passphrase_file: Path | None = None,
) -> None:
    """Let simulated readers fill all packets, to try a design before paying for it.

    Example:
        medvlm reader-study simulate packets/ --out collected/ --effects "{model: -0.3}"

    Args:
        packets: folder made by export.
        out: folder to write; the collected answers, or with --collected false the answers files alone.
        effects: by source, how much better (in steps of the scale) its reports are.
        collected: also collect the answers.
        seed: the same seed gives the same answers.
        skill: chance of seeing a planted error.
        fatigue: steps of the scale lost over a sitting.
        missing: share of items left out.
        passphrase_file: file with the passphrase of the sealed key.
    """
    import tempfile

    from medvlm.reader_study.collect import collect as run_collect
    from medvlm.reader_study.simulate import Behaviour, simulate_answers

    behaviour = Behaviour(effects=effects, skill=skill, fatigue=fatigue, missing=missing)
    key = _open(packets / "coordinator" / "key.sealed", passphrase_file)
    if not collected:
        files = simulate_answers(packets, key, out, behaviour, seed)
        print(f"simulated    {len(files)} answers files in {out}")
        return
    with tempfile.TemporaryDirectory() as folder:
        files = simulate_answers(packets, key, Path(folder), behaviour, seed)
        print(f"simulated    {len(files)} packets filled by simulated readers: not data about any report")
        _print_collected(run_collect(packets, files, out), out)


def collect(packets: Path, answers: list[Path], *, out: Path) -> None:
    """Read answers back from every format, validate them and merge them into one table; never overwrites.

    Example:
        medvlm reader-study collect packets/ answers/*.json --out collected/

    Args:
        packets: folder made by export.
        answers: answers files (reading room, XLSX, REDCap, Label Studio) or folders of them.
        out: folder of the merged table; files collected there before stay.
    """
    from medvlm.reader_study.collect import collect as run_collect
    from medvlm.reader_study.collect import verify_packets

    changed = verify_packets(packets)
    if changed:
        print(f"warning: {len(changed)} files of the packets are not as exported, for example {changed[0]}")
    _print_collected(run_collect(packets, answers, out), out)


def analyze(
    data: Path,
    *,
    out: Path,
    unblind: Path | None = None,
    passphrase_file: Path | None = None,
    metric: Literal["auto", "auc", "mean"] = "auto",
    margin: float | None = None,
    alpha: float = 0.05,
    reference: str = "",
    bootstrap: int = 2000,
    seed: int = 0,
    emergency: str = "",
) -> None:
    """Compute the statistics of a study: report.html, tables as CSV and LaTeX, methods paragraph and checklists.

    Example:
        medvlm reader-study analyze collected/ --unblind packets/coordinator/key.sealed --out results/

    Args:
        data: folder made by collect, or an iMRMC, RJafroc xlsx or CSV file of ratings.
        out: folder to write.
        unblind: the sealed key, for collected answers.
        passphrase_file: file with the passphrase of the sealed key.
        metric: auc or mean of the ratings; auto takes what the study or the file says.
        margin: non-inferiority margin in units of the metric.
        alpha: two-sided level.
        reference: modality that the others are compared with.
        bootstrap: resamplings of readers and cases.
        seed: of the resampling.
        emergency: why the key is opened although answers are missing.
    """
    from medvlm.reader_study.analyze import Options, analyze_collected, analyze_file

    options = Options(metric, margin, alpha, reference, bootstrap, seed)
    with _progress() as tell:
        if data.is_dir():
            if unblind is None:
                raise MedVLMError(f"{data}: collected answers are blinded; give the key with --unblind KEY.")
            result = analyze_collected(data, unblind, passphrase_file, out, options, emergency, tell)
        else:
            result = analyze_file(data, out, options, tell)
    for line in result.summary:
        print(line)
    print(f"wrote {out / 'report.html'}, tables/, latex/, checklists/ and methods.md")


def unblind(collected: Path, key: Path, *, out: Path, passphrase_file: Path | None = None, emergency: str = "") -> None:
    """Open the sealed key and write the table with cases and sources; logged, and refused while answers are missing.

    Example:
        medvlm reader-study unblind collected/ packets/coordinator/key.sealed --out unblinded/

    Args:
        collected: folder made by collect.
        key: the sealed key.
        out: folder to write.
        passphrase_file: file with the passphrase of the sealed key.
        emergency: why the key is opened although answers are missing.
    """
    from medvlm.reader_study.tidy import COLUMNS, KEY_COLUMNS, write_table
    from medvlm.reader_study.unblind import unblind_collected

    frame, _ = unblind_collected(collected, key, passphrase_file, emergency)
    rows: list[dict[str, Any]] = frame.to_dict("records")
    write_table(out / "answers", rows, (*COLUMNS, *KEY_COLUMNS))
    print(f"{len(rows)} rows with cases and sources in {out / 'answers.csv'}; the opening is in the audit log")


def verify(packets: Path, collected: Path | None = None) -> None:
    """Check packets, collected answers and the audit log for a changed byte.

    Example:
        medvlm reader-study verify packets/ --collected collected/

    Args:
        packets: folder made by export.
        collected: folder made by collect.
    """
    from medvlm.reader_study.unblind import verify_study

    problems = verify_study(packets, collected)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise MedVLMError(f"{packets}: {problems[0]}{more}.")
    print("packets, answers and audit log are as they were written")


def presets() -> None:
    """List the rating forms that come with the package.

    Example:
        medvlm reader-study presets
    """
    from medvlm.reader_study.forms import list_presets, load_form

    for name in list_presets():
        form = load_form(name)
        print(f"{name:<12}{len(form.questions):>3} questions   {form.reference}")


def _open(key: Path, passphrase_file: Path | None) -> dict[str, Any]:
    from medvlm.reader_study.seal import open_key, read_passphrase

    return open_key(key, read_passphrase(passphrase_file, key))


def _print_collected(result: Any, out: Path) -> None:
    from collections import Counter

    complete, packets = sum(result.done.values()), len(result.done)
    print(f"collected    {len(result.rows)} answers from {len(result.files)} files, {complete} items complete of "
          f"{packets} packets, in {out / 'answers.csv'}")  # fmt: skip
    for kind, count in Counter(kind for kind, _, _ in result.problems).most_common():
        example = next(what for other, _, what in result.problems if other == kind)
        print(f"  {count:>4} x {kind}, for example {example}")


def _print(table: Any) -> None:
    from rich.console import Console

    Console().print(table)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for each named part of the work."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        yield tell


COMMANDS = {
    "begin": begin,
    "design": design,
    "export": export,
    "collect": collect,
    "analyze": analyze,
    "unblind": unblind,
    "simulate": simulate,
    "verify": verify,
    "presets": presets,
}
