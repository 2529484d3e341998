"""The page in a real browser: it draws without a network, and the overlays can be switched off."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from medvlm.reporting.html import render_html
from tests.reporting import sample

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
AMBER = np.array([255, 180, 58])  # the disclaimer, #ffb43a
ORANGE = np.array([255, 140, 0])  # the overlay of the sample

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")]


def count(page: str, folder, colour: np.ndarray) -> int:
    """How many pixels of the drawn page have about this colour."""
    (folder / "page.html").write_text(page)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
    offline = "--host-resolver-rules=MAP * ~NOTFOUND"
    picture = folder / "page.png"
    shot = [f"--screenshot={picture}", "--window-size=1280,900", f"--user-data-dir={folder / 'profile'}"]
    subprocess.run(
        [str(BROWSER), *options, offline, *shot, (folder / "page.html").as_uri()],
        check=True,
        capture_output=True,
        timeout=120,
    )
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    return int((np.abs(pixels - colour).max(axis=-1) < 12).sum())


def test_disclaimer_and_overlay_are_drawn_and_the_overlay_can_be_switched_off(tmp_path):
    sample.write_images(tmp_path)
    page = render_html(sample.report(), tmp_path)
    assert count(page, tmp_path, AMBER) > 1000
    shown = count(page, tmp_path, ORANGE)
    unchecked, changes = re.subn(r'(id="overlays") checked', r"\1", page)
    assert changes == 1
    assert shown > 1000
    assert count(unchecked, tmp_path, ORANGE) < shown / 20
