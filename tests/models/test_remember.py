from __future__ import annotations

import pytest
import torch
from PIL import Image

from medvlm.models.remember import RememberingImageProcessor
from tests.models.families import FAMILIES, build_family


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_remembered_picture_gives_the_processors_own_tensors(name):
    processor = build_family(name).processor.image_processor
    pictures = [Image.effect_noise((40, 56), sigma).convert("RGB") for sigma in (20, 90)]
    remembering = RememberingImageProcessor(processor)
    for picture in (*pictures, *pictures):
        plain = processor([picture], return_tensors="pt")
        given = remembering([picture], return_tensors="pt")
        assert plain.keys() == given.keys()
        torch.testing.assert_close(given["pixel_values"], plain["pixel_values"], rtol=0, atol=0)
        given.pop("pixel_values")  # what a processor takes out is there again the next time


def test_a_picture_is_processed_once_for_the_same_options():
    calls = []

    def process(images, **options):
        calls.append(options)
        return {"number": len(calls)}

    picture, other = Image.new("RGB", (2, 2)), Image.new("RGB", (2, 2))
    remembering = RememberingImageProcessor(process)
    found = [
        remembering([one], size=size)["number"] for one, size in ((picture, 1), (picture, 1), (other, 1), (picture, 2))
    ]
    assert found == [1, 1, 2, 3]
