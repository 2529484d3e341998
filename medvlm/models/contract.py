"""The preprocessing contract: how pictures, prompts and labels looked when a model was trained.

A model learns the grey levels of its windows, the places of its slices, the form of its findings. Shown others, it
answers all the same, and wrongly. So the contract is written beside the weights (`medvlm.json`) and compared whenever
they are loaded: what was true then must be true now; what has been added since does no harm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from medvlm import __version__
from medvlm.errors import MedVLMError
from medvlm.storage import read_json, write_json

FILE = "medvlm.json"
# The settings of an image processor that change what a model sees; others come and go with transformers' versions.
IMAGE_KEYS = ("size", "crop_size", "image_mean", "image_std", "rescale_factor", "do_", "patch_size", "merge_size")
Contract = dict[str, Any]


@cache
def _shared() -> Contract:
    """The part that depends on this installation alone."""
    from inspect import signature

    from medvlm.dialogue.inject import expert_turn, system_turn
    from medvlm.dialogue.trigger import Trigger
    from medvlm.experts.card import ExpertCard
    from medvlm.findings.codes import concepts
    from medvlm.findings.finding import Finding, Measurement, Provenance
    from medvlm.imaging.view import FRACTIONS, overview
    from medvlm.imaging.windows import CT_WINDOWS

    table = concepts()
    card = ExpertCard("name", "1", ("CT",), ("chest",), "segmentation", "", {"argument": ""})
    nodule = Finding(
        id="example",
        study="example",
        concept=table["lung_nodule"].code,
        presence="present",
        probability=0.9,
        site=table["upper_lobe"].code,
        measurements=(Measurement(table["long_axis"].code, 14.0, "mm"),),
        provenance=Provenance("name", "1", ""),
    )
    return {
        "windows": {name: [window.centre, window.width] for name, window in CT_WINDOWS.items()},
        "slices": {
            "overview pixels": signature(overview).parameters["size"].default,
            "overview heights": list(FRACTIONS),
        },
        "prompt format": {
            "experts on offer": system_turn([card])[0].text,
            "findings": expert_turn(Trigger("NAME", "argument"), [nodule]).text,
        },
        "labels": {key: f"{row.code.scheme} {row.code.value}" for key, row in table.items()},
    }


def contract_of(processor: Any) -> Contract:
    """What holds for a model with this processor, in this installation."""
    template = getattr(processor, "chat_template", None) or processor.tokenizer.chat_template or ""
    images = processor.image_processor.to_dict()
    kept = {key: images[key] for key in sorted(images) if key.startswith(IMAGE_KEYS) and _plain(images[key])}
    digest = hashlib.sha256(str(template).encode()).hexdigest()[:16]
    return _shared() | {"pixels": kept, "chat template": {"sha256": digest}}


def write_contract(folder: Path, processor: Any) -> None:
    """Write `medvlm.json` beside the weights."""
    write_json(folder / FILE, {"schema": 1, "medvlm": __version__, "contract": contract_of(processor)})


def check_contract(folder: Path, processor: Any) -> None:
    """Compare the contract in a model's folder with what holds here; a folder without one is not checked.

    Raises:
        MedVLMError: they differ (says what, then and now).
    """
    path = folder / FILE
    if not path.is_file():
        return
    stored = read_json(path)
    now = dict(_leaves(contract_of(processor)))
    for where, then in _leaves(stored["contract"]):
        if now.get(where) != then:
            raise MedVLMError(
                f"{folder}: trained with {where} {_short(then)}, but here it is {_short(now.get(where))}; "
                f"use medvlm {stored['medvlm']} with the files it was trained with, or fine-tune again."
            )


def _leaves(contract: Contract) -> Iterator[tuple[str, Any]]:
    for section, rows in contract.items():
        for name, value in rows.items():
            yield f"{section}: {name}", value


def _plain(value: Any) -> bool:
    """Whether a setting survives JSON unchanged."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


def _short(value: Any) -> str:
    text = repr(value) if value is not None else "missing"
    return text if len(text) <= 60 else f"{text[:57]}..."
