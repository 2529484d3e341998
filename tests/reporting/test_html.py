"""The page: self-contained, linked, and safe against text that poses as markup."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from medvlm.findings.codes import code
from medvlm.findings.finding import Evidence
from medvlm.imaging.study import Series, Study, Volume
from medvlm.reporting import viewer
from medvlm.reporting.generate import write_report
from medvlm.reporting.html import hero_image, number_text, percent_text, render_html
from medvlm.reporting.report import DISCLAIMER, Sentence
from medvlm.reporting.text import render_text
from tests.reporting import sample
from tests.reporting.fakes import FakeExpert


@pytest.fixture
def page(tmp_path):
    sample.write_images(tmp_path)
    return render_html(sample.report(), tmp_path)


class Links(HTMLParser):
    """Collects ids, link targets and everything that would load something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name == "href":
                self.targets.append(value)
            if name in ("src", "srcset", "data", "poster"):
                self.loaded.append(value)


def test_loads_nothing_from_outside(page):
    links = Links(page)
    assert all(source.startswith("data:image/") for source in links.loaded)
    assert "script" not in links.tags
    assert "link" not in links.tags
    assert not re.search(r"https?://|@import|url\(", page)


def test_every_link_has_its_target_and_ids_are_unique(page):
    links = Links(page)
    assert len(links.ids) == len(set(links.ids))
    assert {target.removeprefix("#") for target in links.targets} <= set(links.ids)
    assert "#finding-nodule-1" in links.targets


def test_says_what_it_is(page):
    assert page.count(DISCLAIMER) >= 3  # title, head, foot
    assert "ab" * 8 in page  # the weights' hash
    assert "removed" in page


def test_text_cannot_become_markup(tmp_path):
    sample.write_images(tmp_path)
    report = sample.report()
    evil = Sentence("<script>alert(1)</script>", ("nodule-1",), "model")
    section = dataclasses.replace(report.sections[1], sentences=(evil,))
    page = render_html(dataclasses.replace(report, sections=(report.sections[0], section)), tmp_path)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_hero_is_the_first_finding_that_is_present(page):
    assert hero_image(sample.report()).file == "key/nodule-1.png"


def test_a_probability_never_claims_certainty():
    assert [percent_text(value) for value in (1.0, 0.996, 0.94, 0.004)] == [">99 %", ">99 %", "94 %", "<1 %"]


def test_numbers_have_three_digits():
    assert [number_text(value) for value in (14.21, 1234.5, 0.4481, 3.0)] == ["14.2", "1234", "0.448", "3"]


def test_text_has_disclaimer_first_and_last_and_cites():
    lines = render_text(sample.report()).strip().splitlines()
    assert lines[0] == lines[-1] == DISCLAIMER
    assert "1. Solid nodule, right upper lobe, 14 mm (long axis), 1.2 mL.   [chest_ct, p 0.94, slice 12]" in lines
    assert max(len(line) for line in lines) <= 100


def noisy_ct(slices, edge):
    """A CT as noisy as a thin sharp reconstruction, with a nodule, an effusion and a whole organ in its mask."""
    random = np.random.default_rng(0)
    array = random.normal(-300, 120, (edge, edge, slices)).astype(np.int16)
    volume = Volume(array, np.diag([0.7, 0.7, 1.0, 1.0]), "HU")
    mask = np.zeros(array.shape, np.uint8)
    mask[20:30, 20:30, 4:10] = 1
    mask[60:90, 10:40, 2:12] = 2
    mask[random.random(array.shape) < 0.02] = 3  # the most ragged outline there can be
    found = []
    for label, concept in ((1, "lung_nodule"), (2, "pleural_effusion"), (3, "cardiomegaly")):
        evidence = Evidence(sample.SERIES, label, None if label == 3 else 1, 6)
        more = {"laterality": None, "site": None, "grade": None, "measurements": ()}
        changes = {"id": f"f-{label}", "concept": code(concept), "evidence": (evidence,), **more}
        found.append(dataclasses.replace(sample.nodule(), **changes))
    labels = {1: "lung nodule", 2: "pleural effusion", 3: "heart"}
    series = Series(sample.SERIES, "CT", lambda: volume, "Chest", "chest")
    return series, FakeExpert(found, mask, labels)


def test_the_page_of_a_noisy_ct_stays_within_its_bytes(tmp_path, monkeypatch):
    # 40 slices in two windows: an eighth of what 320 pictures may cost, so an eighth of the bytes.
    monkeypatch.setattr(viewer, "PICTURE_BYTES", viewer.PICTURE_BYTES // 8)
    monkeypatch.setattr(viewer, "OUTLINE_BYTES", 100_000)
    series, expert = noisy_ct(40, 256)
    write_report(Study("1.2.3", "p", (series,), Path("study")), [expert], tmp_path / "out", formats=("html",))
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    (stack,) = data["stacks"]
    assert sorted(stack["windows"]) == ["lung", "mediastinum"]
    pictures = [picture for window in stack["windows"].values() for picture in window]
    assert len(pictures) == 80
    assert sum(map(len, pictures)) <= viewer.PICTURE_BYTES * 4 / 3 + 80 * 40
    # The ragged organ keeps the outline of its best slice; the small ones keep all of theirs.
    assert {name: len(paths) for name, paths in stack["outlines"].items()} == {"f-1": 6, "f-2": 10, "f-3": 1}
