"""Write a Report as one self-contained HTML page: pictures inside, no network, no script needed to read it."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import jinja2
from PIL import Image

from medvlm.findings.finding import Finding
from medvlm.findings.verbalise import UNIT_TEXT, place_text
from medvlm.reporting.report import KeyImage, Report


def render_html(report: Report, folder: Path) -> str:
    """The page as text; the pictures are read from `folder` (the files that `report.images` name).

    Text from the study or from a model is escaped, so it can never become markup.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("medvlm.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"unit": unit_name, "number": number_text, "percent": percent_text, "place": place_text}
    template = environment.get_template("report.html.j2")
    embedded = {
        name: _data_uri(folder / name) for image in report.images for name in (image.file, image.overlay) if name
    }
    return template.render(
        report=report,
        embedded=embedded,
        hero=hero_image(report),
        image_of={finding.id: image_of(report, finding) for finding in report.findings},
        expert_of={expert.name: expert for expert in report.experts},
        numbers={image.file: index for index, image in enumerate(report.images, start=1)},
    )


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


def _data_uri(path: Path) -> str:
    """A picture as a data URI, as WebP: a third of the size of the PNG, which stays in `key/` without loss."""
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.save(buffer, format="WEBP", quality=90)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
