"""The page in a real browser, from file://, without a network: a click on a sentence lights up its mask."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from medvlm.imaging.reader import load_study
from tests.reporting import dicom_inputs
from tests.reporting.reading import report_of

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
AMBER = np.array([255, 180, 58])  # the disclaimer, #ffb43a
# What the page looks like after a click on its second sentence that shows something; written into the page's title.
PROBE = """
<script>
window.problems = [];
addEventListener("error", (event) => window.problems.push(event.message));
addEventListener("securitypolicyviolation", (event) => window.problems.push(event.violatedDirective));
addEventListener("load", () => {
  const overlays = document.getElementById("overlays");
  const marks = () => [...document.querySelectorAll("#marks path")];
  const paths = () => marks().map((p) => p.dataset.finding + ":" + p.getAttribute("class"));
  const scroll = document.getElementById("scroll");
  const told = { first: paths(), place: document.getElementById("place").textContent };
  scroll.value = 0; scroll.dispatchEvent(new Event("input"));
  told.away = paths();
  document.querySelector(".narrative .say").click();
  told.clicked = paths(); told.again = document.getElementById("place").textContent;
  told.lit = [...document.querySelectorAll(".lit")].map((e) => e.tagName);
  overlays.click(); told.off = paths();
  told.unnamed = [...document.querySelectorAll("button,input,img,svg")].filter((e) =>
    !(e.getAttribute("aria-label") || e.getAttribute("alt") || e.textContent.trim() || e.closest("label"))).length;
  told.problems = window.problems;
  document.title = "TOLD" + JSON.stringify(told) + "TOLD";
});
</script>
"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    report_of(load_study(dicom_inputs.write_slices(folder / "in")), folder / "out", ("html",))
    return folder / "out" / "report.html"


def chromium(page, *options: str) -> subprocess.CompletedProcess:
    common = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
    offline = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={page.parent / 'profile'}"]
    command = [str(BROWSER), *common, *offline, "--enable-logging=stderr", *options, page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)


def test_it_draws_without_a_console_error(page):
    done = chromium(page, f"--screenshot={page.parent / 'page.png'}", "--window-size=1440,900")
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    pixels = np.asarray(Image.open(page.parent / "page.png").convert("RGB")).astype(int)
    assert (np.abs(pixels - AMBER).max(axis=-1) < 12).sum() > 1000
    assert page.stat().st_size < 15e6


def test_a_click_on_a_sentence_lights_up_its_slice_and_mask(page):
    text = page.read_text()
    # The test's own script goes first; the page's policy would refuse it, so its hash joins the policy.
    probed = page.parent / "probed.html"
    allowed = re.sub(r"script-src '[^']+'", "script-src 'unsafe-inline'", text)
    probed.write_text(allowed.replace("<title>", PROBE + "<title>", 1))
    dom = chromium(probed, "--dump-dom", "--virtual-time-budget=3000").stdout
    told = json.loads(re.search("TOLD(.*)TOLD", Title(dom).text)[1])
    assert told["problems"] == []
    assert told["first"] == ["nodule-1:lit"]
    assert told["away"] == []  # slice 0 does not show the block
    assert told["clicked"] == ["nodule-1:lit"]
    assert told["again"] == told["place"]
    assert "BUTTON" in told["lit"]
    assert "ARTICLE" in told["lit"]
    assert told["off"] == []
    assert told["unnamed"] == 0


class Title(HTMLParser):
    """The title of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.inside = "", False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.inside = tag == "title"

    def handle_data(self, data):
        if self.inside:
            self.text += data
            self.inside = False
