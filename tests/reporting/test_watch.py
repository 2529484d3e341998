"""Watch mode and batches: each study once, whatever crashes; one that fails stops nothing."""

import dataclasses
from pathlib import Path

import pytest

from medvlm.errors import MedVLMError
from medvlm.imaging.reader import load_study
from medvlm.reporting.batch import Job, find_jobs, report_batch
from medvlm.reporting.failures import reason_of
from medvlm.reporting.generate import Options, write_report
from medvlm.reporting.watch import FolderSource, Ledger, watch
from tests.reporting import dicom_inputs
from tests.reporting.reading import BlockExpert


def arrive(root, name):
    (root / name).mkdir(parents=True)
    (root / name / "a.dcm").write_text(name)


def test_each_study_is_reported_once_also_by_a_second_run(tmp_path):
    root, out, seen = tmp_path / "in", tmp_path / "out", []
    arrive(root, "one")
    arrive(root, "two")
    (root / ".three").mkdir()
    for _ in range(2):
        watch(FolderSource(root), out, lambda path, folder: seen.append(path.name), lambda text: None, 0, 4)
    assert sorted(seen) == ["one", "two"]


def test_a_study_whose_files_still_arrive_waits(tmp_path):
    root, seen, looks = tmp_path / "in", [], []
    arrive(root, "one")

    class Growing(FolderSource):
        def arrivals(self):
            looks.append(1)
            if len(looks) < 4:
                (root / "one" / f"{len(looks)}.dcm").write_text("more")
            return super().arrivals()

    watch(Growing(root), tmp_path / "out", lambda path, folder: seen.append(len(looks)), lambda text: None, 0, 6)
    assert seen == [4]  # looks 1 to 3 saw new files; look 4 saw what look 3 saw


def test_a_failing_study_is_named_and_not_tried_again(tmp_path):
    root, said = tmp_path / "in", []
    arrive(root, "one")

    def handle(path, folder):
        raise MedVLMError("no expert fits.")

    watch(FolderSource(root), tmp_path / "out", handle, said.append, 0, 5)
    assert len(said) == 1
    assert "no expert fits" in said[0]


def test_a_crash_is_survived_and_two_crashes_at_one_study_leave_it_out(tmp_path):
    root, out, said, tries = tmp_path / "in", tmp_path / "out", [], []
    arrive(root, "one")
    arrive(root, "two")

    def crash(path, folder):
        tries.append(path.name)
        if path.name == "one":
            raise KeyboardInterrupt  # stands for a process that dies

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            watch(FolderSource(root), out, crash, said.append, 0, 3)
    # The last line of a real crash may be half a line.
    with (out / "watch.jsonl").open("a") as file:
        file.write('{"study": "x", "sta')
    watch(FolderSource(root), out, crash, said.append, 0, 3)
    assert tries.count("one") == 2
    assert tries.count("two") == 1
    assert "stopped twice" in " ".join(said)
    assert sorted(Ledger(out).finished.values()) == ["done", "failed"]


def studies(tmp_path):
    root = tmp_path / "in"
    for name in ("a", "b", "c"):
        dicom_inputs.write_slices(root / name)
    (root / "b" / "003.dcm").unlink()  # a missing slice that cannot be read as a volume, or another small volume
    for path in (root / "b").iterdir():
        path.write_bytes(b"junk")
    return root


def test_a_batch_goes_on_after_a_failure_and_resumes(tmp_path):
    root, out = studies(tmp_path), tmp_path / "out"
    told = []
    jobs = find_jobs(root)
    assert [job.name for job in jobs] == ["a", "b", "c"]
    options = Options(("text",))
    outcome = report_batch(jobs, [BlockExpert()], out, options, progress=told.append)
    assert outcome.done == ("a", "c")
    assert [name for name, _ in outcome.failed] == ["study 2"]
    assert (out / "failed" / "b.json").is_file()
    assert sorted(told) == ["study 1", "study 2", "study 3"]
    again = report_batch(jobs, [BlockExpert()], out, options)
    assert again.before == ("a", "c")
    assert again.done == ()


class OneAtATime:
    """A model that fails on more than one study, and on one of them always."""

    name, weights = "a/model", ""

    def __init__(self, hard=()):
        self.hard = hard

    def write_many(self, readings):
        if len(readings) > 1:
            raise MemoryError("too much at once")
        if readings[0].study.uid in self.hard:
            raise MedVLMError("the model wrote nothing.")
        return ["No pleural effusion."]


def test_a_model_that_fails_on_a_batch_is_asked_in_smaller_ones_and_its_first_error_is_kept(tmp_path):
    root = tmp_path / "in"
    for name in ("a", "b", "c"):
        dicom_inputs.write_slices(root / name)
    jobs = [Job(name, root / name) for name in ("a", "b", "c")]
    outcome = report_batch(jobs, [BlockExpert()], tmp_path / "out", Options(("text",)), OneAtATime())
    assert outcome.done == ("a", "b", "c")
    # all three, then a alone and b with c, then b and c alone
    assert outcome.retried == ((3, "MemoryError"), (2, "MemoryError"))


def test_a_study_on_which_the_model_always_fails_is_named_with_the_reason(tmp_path):
    dicom_inputs.write_slices(tmp_path / "a")
    uid = load_study(tmp_path / "a").uid
    job = Job("a", tmp_path / "a")
    outcome = report_batch([job], [BlockExpert()], tmp_path / "out", Options(("text",)), OneAtATime((uid,)))
    assert outcome.failed == (("a", "the model wrote nothing."),)
    assert outcome.retried == ()


SECRET = "DOE^JOHN 1961"


@pytest.mark.parametrize("content", [b"junk", b"", None])
def test_neither_watch_nor_batch_says_what_a_folder_is_called(tmp_path, content):
    root, out, said = tmp_path / "in", tmp_path / "out", []
    (root / SECRET).mkdir(parents=True)
    if content is not None:
        (root / SECRET / f"{SECRET}.dcm").write_bytes(content)

    def handle(path, folder):
        write_report(load_study(path), [BlockExpert()], folder)

    watch(FolderSource(root), out, handle, said.append, 0, 3)
    outcome = report_batch(find_jobs(root), [BlockExpert()], out, Options(("text",)), progress=said.append)
    kept = (out / "watch.jsonl").read_text() + (out / "failed" / f"{SECRET}.json").read_text()
    assert "failed" in kept
    for text in (kept, *said, *outcome.failed[0]):
        assert "DOE" not in text


def test_reasons_keep_what_can_be_acted_on_and_no_names():
    path = Path("/data/in/DOE JOHN")
    assert reason_of(MedVLMError(f"{path}/a b.dcm: truncated; copy the file again."), path) == (
        "truncated; copy the file again."
    )
    assert reason_of(MedVLMError("the model wrote nothing."), path) == "the model wrote nothing."
    assert "DOE" not in reason_of(MedVLMError("nothing fits doe john."), path)
    assert reason_of(ValueError("PatientName DOE"), path) == "ValueError"


def test_options_are_a_value():
    assert dataclasses.replace(Options(), correct=True).correct
