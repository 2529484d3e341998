"""The page: self-contained, linked, and safe against text that poses as markup."""

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from medvlm.reporting.html import hero_image, number_text, percent_text, render_html
from medvlm.reporting.report import DISCLAIMER, Sentence
from medvlm.reporting.text import render_text
from tests.reporting import sample


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
