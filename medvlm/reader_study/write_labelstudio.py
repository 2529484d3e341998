"""Label Studio: tasks and labelling config, one project a sitting (its community edition assigns no readers)."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

from medvlm.reader_study.forms import ERROR_CATEGORIES, SIGNIFICANCE, Form, Question
from medvlm.reader_study.packet import Packet, write_bytes
from medvlm.reader_study.write_xlsx import numbered


def write_labelstudio(folder: Path, packet: Packet) -> None:
    """Write `tasks.json` and `config.xml`."""
    paired = any(item.right is not None for item in packet.items)
    pictured = any(item.pictures for item in packet.items)
    tasks = []
    for item in packet.items:
        data: dict[str, object] = {
            "item_code": item.code,
            "packet": packet.id,
            "reader_code": packet.reader,
            "session": packet.session,
            "position": item.position,
            "report_text": numbered(item.report) or " ",
        }
        if paired:
            data["report_right"] = numbered(item.right or ())
        if pictured:
            data["image"] = f"/data/local-files/?d=images/{item.code}.png"
        tasks.append({"data": data})
    write_bytes(folder / "tasks.json", (json.dumps(tasks, indent=1, ensure_ascii=False) + "\n").encode())
    write_bytes(folder / "config.xml", labelling_config(packet.form, paired, pictured).encode())


def labelling_config(form: Form, paired: bool = False, pictured: bool = False) -> str:
    """The labelling interface as XML; stored values are the codes (`alias`)."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Header", value="Item $item_code")
    if pictured:
        ElementTree.SubElement(view, "Image", name="img", value="$image", zoom="true", zoomControl="true")
    ElementTree.SubElement(view, "Text", name="report", value="$report_text", granularity="word")
    if paired:
        ElementTree.SubElement(view, "Text", name="right", value="$report_right", granularity="word")
    for question in form.questions:
        _control(view, question)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def _control(view: ElementTree.Element, question: Question) -> None:
    ElementTree.SubElement(view, "Header", value=question.text, size="5")
    target = {"name": question.id, "toName": "report"}
    required = {"required": "true"} if question.required else {}
    if question.options:  # a preference too: Label Studio's own Pairwise tag knows no tie
        shown = {"choice": "single-radio", "showInline": "true"}
        node = ElementTree.SubElement(view, "Choices", target | shown | required)
        for option in question.options:
            ElementTree.SubElement(node, "Choice", value=option.label, alias=option.code)
    elif question.kind in ("slider", "count"):
        limits = {"min": f"{question.minimum or 0:g}"}
        if question.maximum is not None:
            limits["max"] = f"{question.maximum:g}"
        step = {"step": "1"} if question.kind == "count" else {}
        ElementTree.SubElement(view, "Number", target | limits | step | required)
    elif question.kind == "spans":
        labels = ElementTree.SubElement(view, "Labels", name=question.id, toName="report")
        for code, (label, _) in ERROR_CATEGORIES.items():
            ElementTree.SubElement(labels, "Label", value=label, alias=code)
        node = ElementTree.SubElement(
            view, "Choices", name=f"{question.id}_significance", toName="report", perRegion="true", choice="single"
        )
        for code, label in SIGNIFICANCE.items():
            ElementTree.SubElement(node, "Choice", value=label, alias=code)
    else:
        ElementTree.SubElement(
            view, "TextArea", name=question.id, toName="report", rows="3", maxSubmissions="1", editable="true"
        )
