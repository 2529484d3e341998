"""Write a Report as one self-contained HTML page: pictures and viewer inside, no network, readable without a script."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

from medvlm.findings.finding import Finding
from medvlm.findings.verbalise import UNIT_TEXT, place_text
from medvlm.imaging.study import Study
from medvlm.reporting.masks import Mask
from medvlm.reporting.report import KeyImage, Report
from medvlm.reporting.viewer import finding_colours, viewer_data

# Key images on the page are previews of this size; the PNG in `key/` is whole.
PREVIEW = 560


def render_html(report: Report, folder: Path, study: Study | None = None, masks: Sequence[Mask] = ()) -> str:
    """The page as text.

    Text from the study or from a model is escaped, so it can never become markup; the one script is allowed by its
    hash, any other is refused by the browser.

    Args:
        report: what to write.
        folder: the pictures that `report.images` names are read from here.
        study: gives the slices of the viewer; None: a page without one.
        masks: the experts' label maps, drawn as outlines.
    """
    stacks = viewer_data(report, study, masks) if study is not None else []
    colours = finding_colours(report.findings)
    script = resources.files("medvlm.reporting").joinpath("templates/report.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    shown = {name for image in report.images for name in (image.overlay or image.file,)}
    drawn = {name for stack in stacks for name, best in stack["best"].items() if best is not None}
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            **_common(report),
            embedded={name: _preview(folder / name) for name in shown},
            gallery=[image for image in report.images if not image.findings],
            colours=colours
            | {finding.id: "" for finding in report.findings if finding.id not in colours}
            | {finding.id: "" for finding in report.prior},
            stacks=stacks,
            marked=[finding for finding in report.findings if finding.id in drawn and finding.id in colours],
            first_picture=next(iter(stacks[0]["windows"].values()))[0] if stacks else "",
            data=_json({"stacks": stacks, "colours": colours}),
            script=Markup(script),
            script_hash=f"sha256-{digest}",
        )
    )


def render_print(report: Report, folder: Path) -> str:
    """The page for paper, with pictures as files beside it; `pdf.py` makes the PDF of it."""
    shown = [image for image in report.images if image.findings] or list(report.images[:1])
    return _environment().get_template("print.html.j2").render(**_common(report), shown=shown)


def _common(report: Report) -> dict[str, Any]:
    return {"report": report, "image_of": {finding.id: image_of(report, finding) for finding in report.findings}}


@cache
def _environment() -> jinja2.Environment:
    """One for all reports: it keeps the compiled templates."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("medvlm.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"unit": unit_name, "number": number_text, "percent": percent_text, "place": place_text}
    environment.filters["sure"] = sure_text
    return environment


def _json(data: object) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def hero_image(report: Report) -> KeyImage | None:
    """The picture beside the impression: of the first finding of the impression that has one, else the overview."""
    impression = report.section("impression")
    for sentence in impression.sentences if impression else ():
        for identifier in sentence.findings:
            image = image_of(report, report.finding(identifier))
            if image is not None and report.finding(identifier).presence != "absent":
                return image
    return report.images[0] if report.images else None


def image_of(report: Report, finding: Finding) -> KeyImage | None:
    """The key image made for a finding (the one that shows the fewest others), or None."""
    images = [image for image in report.images if finding.id in image.findings]
    return min(images, key=lambda image: len(image.findings), default=None)


def unit_name(unit: str) -> str:
    """A UCUM unit as people write it."""
    return UNIT_TEXT.get(unit, unit)


def number_text(value: float) -> str:
    """A measured value with three significant digits and no trailing zeros."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percent_text(value: float) -> str:
    """A probability as a whole percentage that never claims certainty: `>99 %`, `<1 %`."""
    if value > 0.99:
        return ">99 %"
    return "<1 %" if value < 0.01 else f"{100 * value:.0f} %"


def sure_text(probability: float) -> str:
    """Two digits that never claim certainty: `>0.99`."""
    return ">0.99" if probability > 0.994 else "<0.01" if probability < 0.006 else f"{probability:.2f}"


def _preview(path: Path) -> str:
    """A picture as a data URI, smaller and as WebP; the PNG stays in `key/` without loss."""
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.thumbnail((PREVIEW, PREVIEW), Image.Resampling.LANCZOS)
        image.save(buffer, format="WEBP", quality=85, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
