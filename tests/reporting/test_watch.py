"""Watch mode and batches: each study once, whatever crashes; one that fails stops nothing."""

import dataclasses

import pytest

from medvlm.errors import MedVLMError
from medvlm.reporting.batch import Job, find_jobs, report_batch
from medvlm.reporting.generate import Options
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
    assert [name for name, _ in outcome.failed] == ["b"]
    assert (out / "failed" / "b.json").is_file()
    assert sorted(told) == ["a", "b", "c"]
    again = report_batch(jobs, [BlockExpert()], out, options)
    assert again.before == ("a", "c")
    assert again.done == ()


def test_a_model_that_fails_on_a_batch_is_asked_study_by_study(tmp_path):
    root = tmp_path / "in"
    for name in ("a", "b"):
        dicom_inputs.write_slices(root / name)

    class Writer:
        name, weights = "a/model", ""

        def write_many(self, readings):
            if len(readings) > 1:
                raise RuntimeError("too much at once")
            return ["No pleural effusion."]

    outcome = report_batch(
        [Job("a", root / "a"), Job("b", root / "b")], [BlockExpert()], tmp_path / "out", Options(("text",)), Writer()
    )
    assert outcome.done == ("a", "b")


def test_options_are_a_value():
    assert dataclasses.replace(Options(), correct=True).correct
