"""Changed pictures: what is gone, what stays, and the pairs made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.errors import MedVLMError
from medvlm.phantom.oct_case import generate_oct
from medvlm.phantom.oct_scan import NUMBER
from medvlm.training.negatives import changed, changed_pictures
from medvlm.training.pairs import picture_pairs
from medvlm.training.scripts import Script


@pytest.fixture
def spot() -> tuple[np.ndarray, np.ndarray]:
    """A bright square of 6 x 6 pixels on a grey ramp from 90 to 121."""
    picture = np.repeat((90 + np.arange(32))[None, :, None], 32, axis=0).repeat(3, axis=2).astype(np.uint8)
    lesion = np.zeros((32, 32), dtype=bool)
    lesion[10:16, 10:16] = True
    picture[lesion] = 250
    return picture, lesion


def test_an_erased_lesion_looks_like_what_is_around_it(spot) -> None:
    picture, lesion = spot
    edited = changed(picture, "erased", lesion)
    # The ring reaches columns 5 to 20: greys 95 to 110. Nothing further than the edge is touched.
    assert edited[lesion].min() >= 95
    assert edited[lesion].max() <= 110
    far = np.ones_like(lesion)
    far[9:17, 9:17] = False
    assert (edited[far] == picture[far]).all()
    assert picture[12, 12, 0] == 250


def test_a_noised_lesion_keeps_its_place_only(spot) -> None:
    picture, lesion = spot
    edited = changed(picture, "noised", lesion, seed=1)
    assert (edited[~lesion] == picture[~lesion]).all()
    assert edited[lesion].std() > 10
    assert (changed(picture, "noised", lesion, seed=1) == edited).all()


def test_the_wrong_window_saturates_most_of_the_picture(spot) -> None:
    picture, _ = spot
    shown = [changed(picture, "wrong_window", seed=seed) for seed in range(6)]
    # A quarter of the range: the ramp of 32 greys under a lesion of 250 is all dark, or spread over the scale.
    assert {int(one[0, 0, 0]) for one in shown} == {0}
    assert {int(one[12, 12, 0]) for one in shown} == {255}
    assert len({int(one[0, 31, 0]) for one in shown}) == 2


def test_what_cannot_be_changed_is_refused_in_a_sentence(spot) -> None:
    picture, lesion = spot
    with pytest.raises(MedVLMError, match="without a marked lesion"):
        changed(picture, "erased", ~(lesion | ~lesion))
    with pytest.raises(MedVLMError, match="fills the picture"):
        changed(picture, "erased", np.ones_like(lesion))
    with pytest.raises(MedVLMError, match="choose erased, noised, wrong_window"):
        changed(picture, "painted", lesion)  # type: ignore[arg-type]


def test_fluid_of_an_oct_phantom_goes_and_pairs_count_its_answer_only(tmp_path: Path) -> None:
    cases = [generate_oct(0, index) for index in range(12)]
    fluid = NUMBER["subretinal fluid"]
    wet = next(case for case in cases if (case.labels == fluid).any())
    dry = next(case for case in cases if not (case.labels == fluid).any())
    names, masks = [], {}
    for case in (wet, dry):
        Image.fromarray(case.pixels).convert("RGB").save(tmp_path / f"{case.id}.png")
        Image.fromarray(case.labels).save(tmp_path / f"{case.id}-mask.png")
        names.append(str(tmp_path / f"{case.id}.png"))
        masks[names[-1]] = tmp_path / f"{case.id}-mask.png"
    made = changed_pictures(names, "erased", tmp_path / "erased", masks, labels=[fluid])
    assert made[1] is None
    before, after = (np.asarray(Image.open(path).convert("RGB")) for path in (names[0], str(made[0])))
    assert (before != after).any()
    scripts = []
    for name in names:
        turns = (
            Turn("user", "Fluid?", (name,)),
            Turn("assistant", "Yes."),
            Turn("user", "Good?"),
            Turn("assistant", "Yes."),
        )
        symbols = {"asked": ["subretinal_fluid", "quality"], "truth": {}}
        scripts.append(Script.of(Conversation(name, name, "train", turns, "", (), symbols)))
    (pair,) = picture_pairs(scripts, "erased", made, slots=["subretinal_fluid"])
    assert pair.rejected.images == (made[0],)
    assert [turn.train for turn in pair.chosen.turns if turn.role == "assistant"] == [True, False]
    assert not list(picture_pairs(scripts, "erased", made, slots=["drusen"]))
