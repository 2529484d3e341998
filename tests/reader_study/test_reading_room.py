"""A whole session in headless Chromium by keyboard, killed half-way, resumed with nothing lost."""

import datetime
import json
import time

import numpy as np
import pytest

from medvlm.reader_study.collect import collect
from tests.reader_study import sample
from tests.reader_study.browser import BROWSER, Chromium

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")]


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """An exported study that may be read today, with a volume as the image of every case."""
    import nibabel as nib

    folder = tmp_path_factory.mktemp("room")
    today = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=2)
    yaml = sample.YAML.replace("2026-01-12", str(today))
    sample.write_study(folder / "study", yaml=yaml)
    z, y, x = np.mgrid[:12, :40, :50]
    for number in range(16):
        values = (300 * ((x - 25) ** 2 + (y - 20) ** 2 < 90) - 600 + 10 * z).astype(np.int16)
        image = nib.Nifti1Image(values.transpose(2, 1, 0), np.diag([2.0, 2.0, 4.0, 1.0]))
        nib.save(image, folder / "study/img" / f"CASE_{number:03d}.nii.gz")
    table = folder / "study/cases.csv"
    table.write_text(table.read_text().replace(".png", ".nii.gz"))
    from medvlm.reader_study.allocate import make_plan
    from medvlm.reader_study.export import export_study
    from medvlm.reader_study.spec import load_study_spec

    spec = load_study_spec(folder / "study")
    export_study(spec, make_plan(spec), folder / "out", sample.PASSPHRASE)
    (folder / "downloads").mkdir()
    return folder


def page_of(room):
    return room / "out/packets/R01/session-1/html/room.html"


def read_item(browser, answers="4532"):
    """Answer the four questions of the form by their numbers and go on with Enter."""
    for key in answers:
        browser.press(key)
    browser.press("Enter")


def test_a_session_is_read_by_keyboard_killed_and_resumed_with_nothing_lost(room):
    browser = Chromium(room / "profile", room / "downloads")
    browser.open(page_of(room))
    items = browser.run("readingRoom.packet.items.length")
    half = items // 2
    for _ in range(half):
        read_item(browser)
    # Half-way into the next item: two answers and a marked sentence, then the power fails.
    browser.press("2")
    browser.press("1")
    browser.press("m")
    browser.press("Enter")
    browser.wait("document.getElementById('marking').open")
    for key in ("3", "s", "Enter"):
        browser.press(key)
    browser.wait("!document.getElementById('marking').open")
    time.sleep(1.0)
    before = browser.run("JSON.stringify(readingRoom.state.items)")
    assert browser.errors == []
    time.sleep(6)  # Chromium writes its storage to the disk every few seconds
    browser.kill()

    browser = Chromium(room / "profile", room / "downloads")
    browser.open(page_of(room))
    after = json.loads(browser.run("JSON.stringify(readingRoom.state.items)"))
    assert browser.run("readingRoom.index") == half
    for code, record in json.loads(before).items():
        assert after[code]["answers"] == record["answers"]
        assert after[code]["spans"] == record["spans"]
    # The form shows what was answered, and the next question is the active one.
    assert browser.run("document.querySelector('input[name=correctness]:checked').value") == "2"
    assert browser.run("readingRoom.form.active") == 2
    for key in "53":
        browser.press(key)
    browser.press("Enter")
    for _ in range(items - half - 1):
        read_item(browser)
    browser.wait("!document.getElementById('overview').hidden")
    assert "All items are done" in browser.run("document.getElementById('overview').textContent")
    browser.press("s")
    deadline = time.monotonic() + 20
    while not list((room / "downloads").glob("answers*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert browser.errors == []
    browser.kill()

    result = collect(room / "out", [next((room / "downloads").glob("answers*.json"))], room / "collected")
    assert result.problems == []
    assert max(result.done.values()) == items
    spans = [row for row in result.rows if row["question_id"] == "errors"]
    assert [(row["error_category"], row["error_significance"]) for row in spans] == [("location", "significant")]
    assert all(row["read_seconds"] >= 0 for row in result.rows)


def test_the_viewer_shows_true_values_scrolls_zooms_and_windows(room, tmp_path):
    browser = Chromium(tmp_path / "profile", tmp_path)
    browser.open(page_of(room))
    browser.wait("readingRoom.viewer.stack && readingRoom.viewer.stack.ready[readingRoom.viewer.slice]")
    value = (
        "(() => { const v = readingRoom.viewer, s = v.stack, p = s.ready[v.slice];"
        " return [p[20 * s.columns + 25] * s.slope + s.intercept, p[0] * s.slope + s.intercept, v.slice, s.count]; })()"
    )
    centre, corner, index, count = browser.run(value)
    assert count == 12
    # Head first: slice i shows z = 11 - i; values are 300 - 600 + 10 z inside the disc and -600 + 10 z outside.
    assert centre == -300 + 10 * (11 - index)
    assert corner == -600 + 10 * (11 - index)
    browser.press("ArrowDown")
    browser.wait(f"readingRoom.viewer.slice === {index + 1}")
    width = browser.run("readingRoom.viewer.width")
    box = browser.run("(() => { const b = document.getElementById('stage').getBoundingClientRect();"
                      " return [b.left + b.width / 2, b.top + b.height / 2]; })()")  # fmt: skip
    browser.drag((int(box[0]), int(box[1])), (int(box[0]) + 60, int(box[1])))
    assert browser.run("readingRoom.viewer.width") > width
    browser.press("+")
    assert browser.run("readingRoom.viewer.zoom") == pytest.approx(1.2)
    browser.press("r")
    assert browser.run("[readingRoom.viewer.zoom, readingRoom.viewer.width]") == [1, width]
    drawn = browser.run("(() => { const c = document.getElementById('canvas');"
                        " const g = c.getContext('2d');"
                        " return [...g.getImageData(c.width >> 1, c.height >> 1, 1, 1).data]; })()")  # fmt: skip
    assert drawn[3] == 255
    assert browser.errors == []
    browser.kill()


def test_a_session_before_its_day_stays_closed_and_missing_answers_hold_the_item(room, tmp_path):
    browser = Chromium(tmp_path / "profile", tmp_path)
    later = sorted((room / "out/packets/R01").glob("session-*"))[-1] / "html/room.html"
    browser.call("Page.navigate", {"url": later.as_uri()})
    browser.wait("document.getElementById('curtain')?.open")
    assert "may be read from" in browser.run("document.getElementById('curtain').textContent")
    browser.open(page_of(room))
    browser.press("4")
    browser.press("Enter")
    assert browser.run("readingRoom.index") == 0
    assert "3 to answer" in browser.run("document.getElementById('missing').textContent")
    browser.kill()


def test_the_digest_of_the_page_is_sha_256(room, tmp_path):
    import hashlib

    browser = Chromium(tmp_path / "profile", tmp_path)
    browser.open(page_of(room))
    for text in ("", "abc", "ä" * 100, "x" * 119, "y" * 1000):
        assert browser.run(f"sha256({json.dumps(text)})") == hashlib.sha256(text.encode()).hexdigest()
    browser.kill()
