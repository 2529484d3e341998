"""Views: the same bytes everywhere, proportions in millimetres, and the way back to the patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvlm.errors import MedVLMError
from medvlm.imaging import Series, Volume, overview, slice_view
from medvlm.imaging.draw import COLOURS, colour_of
from medvlm.imaging.planes import slice_at
from medvlm.imaging.view import montage, projection_view
from medvlm.imaging.windows import CT_WINDOWS, Table, Window, default_window, named_window, series_window

GOLDEN = Path(__file__).parent / "golden"


def chest(flip: bool = False) -> Volume:
    """A body of water with two lungs of different height, a spine behind; 3 x 3 x 5 mm, in LPS order as most CT."""
    x, y, z = np.meshgrid(np.arange(60), np.arange(40), np.arange(24), indexing="ij")
    array = np.full((60, 40, 24), -1000, np.int16)
    array[((x - 30) / 27) ** 2 + ((y - 20) / 17) ** 2 < 1] = 20
    array[((x - 18) / 8) ** 2 + ((y - 18) / 10) ** 2 + ((z - 13) / 9) ** 2 < 1] = -850  # the patient's right
    array[((x - 42) / 8) ** 2 + ((y - 18) / 10) ** 2 + ((z - 12) / 8) ** 2 < 1] = -850
    array[((x - 30) / 4) ** 2 + ((y - 31) / 4) ** 2 < 1] = 600
    affine = np.array([[-3.0, 0, 0, 90], [0, -3, 0, 60], [0, 0, 5, -40], [0, 0, 0, 1]])
    volume = Volume(array, affine, "HU")
    if flip:  # the same patient, stored the other way round along every axis
        flipped = affine @ np.array([[-1, 0, 0, 59], [0, -1, 0, 39], [0, 0, -1, 23], [0, 0, 0, 1.0]])
        return Volume(array[::-1, ::-1, ::-1], flipped, "HU")
    return volume


def series(volume: Volume, body_part: str = "chest", modality: str = "CT", **fields) -> Series:
    return Series("1.2.3", modality, lambda: volume, body_part=body_part, **fields)


def assert_golden(name: str, pixels: np.ndarray) -> None:
    """Compare with the picture in the repository, byte for byte."""
    expected = np.asarray(Image.open(GOLDEN / f"{name}.png").convert("RGB"))
    assert pixels.shape == expected.shape
    assert np.array_equal(pixels, expected), f"{np.count_nonzero((pixels != expected).any(axis=-1))} pixels differ"


def nodule_mask() -> np.ndarray:
    mask = np.zeros((60, 40, 24), np.uint8)
    mask[10:26, 9:27, 5:21] = 1
    mask[16:20, 14:18, 11:14] = 7
    return mask


def test_the_overview_of_a_chest_ct_is_the_golden_one():
    assert_golden("overview", overview(series(chest()), 128).pixels)


def test_a_slice_with_overlay_legend_scale_and_sides_is_the_golden_one():
    view = slice_view(
        chest(), "axial", 12, mask=nodule_mask(), labels={1: "right upper lobe", 7: "lung nodule"}, size=256
    )
    assert_golden("slice", view.pixels)


def test_the_order_of_the_voxels_in_the_file_changes_nothing():
    labels = {1: "lung", 7: "lung nodule"}
    assert np.array_equal(overview(series(chest())).pixels, overview(series(chest(flip=True))).pixels)
    for plane, index in (("axial", 12), ("coronal", 20), ("sagittal", 40)):
        one = slice_view(chest(), plane, index, mask=nodule_mask(), labels=labels)
        other = slice_view(chest(flip=True), plane, index, mask=nodule_mask()[::-1, ::-1, ::-1], labels=labels)
        assert np.array_equal(one.pixels, other.pixels), plane
        assert np.allclose(one.panels[0].origin, other.panels[0].origin)


def test_the_patients_right_is_on_the_left_and_anterior_on_top():
    volume = chest()
    volume.array[...] = -1000
    volume.array[5:10, 5:10, 10:14] = 1000  # low i and j in LPS order: right, anterior
    pixels = slice_view(volume, "axial", 12, window=CT_WINDOWS["bone"], size=240).pixels[..., 0]
    rows, columns = np.nonzero(pixels[30:200, 20:220] > 150)
    assert columns.mean() < 100
    assert rows.mean() < 85


def test_proportions_are_those_in_millimetres():
    # 60 x 3 = 180 mm wide and 24 x 5 = 120 mm high: at 180 pixels the height is 120.
    view = slice_view(chest(), "coronal", 20, size=180)
    left, top, right, bottom = view.panels[0].box
    assert (right - left, bottom - top) == (180, 120)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_pixels_lead_back_to_the_patient(plane):
    volume = chest()
    view = slice_view(volume, plane, 11, size=300)
    panel = view.panels[0]
    canonical = volume.to_canonical()
    axis = {"axial": 2, "coronal": 1, "sagittal": 0}[plane]
    index = np.array([25.0, 15.0, 9.0])
    index[axis] = 11
    point = canonical.to_patient(index)
    x, y = panel.to_pixel(point)
    assert np.allclose(panel.to_patient(x, y), point)
    assert np.allclose(view.to_patient(x, y), point)
    assert view.to_patient(-1, 0) is None


def test_every_panel_of_an_overview_leads_back_to_the_patient():
    view = overview(series(chest()), 224)
    assert [panel.title.split()[0] for panel in view.panels] == ["coronal", "axial", "axial", "axial"]
    heights = [panel.to_patient(panel.box[0], panel.box[1])[2] for panel in view.panels[1:]]
    assert heights[0] > heights[1] > heights[2]  # from top to bottom
    # Lungs lie in slices 4 to 21: z = -40 + 5 k is -20 to 65 mm.
    assert -20 <= heights[2] <= heights[0] <= 65


def test_no_scale_bar_without_millimetres_and_no_sides_without_orientation():
    picture = np.zeros((40, 40, 1), np.uint8)
    plain = Volume(picture, np.eye(4), calibrated=False, oriented=False)
    assert slice_view(plain, size=100).pixels.max() == 0
    sized = Volume(picture, np.eye(4), calibrated=True, oriented=False)
    pixels = slice_view(sized, size=100).pixels
    assert pixels[60:, 50:].max() == 255  # the bar, at the bottom right
    assert pixels[40:60, :20].max() == 0  # no R


def test_a_picture_keeps_its_colours_and_is_letterboxed():
    array = np.zeros((40, 20, 1, 3), np.uint8)
    array[..., 0] = 200
    view = overview(series(Volume(array, np.eye(4), calibrated=False, oriented=False), "", "OP"), 80)
    assert view.panels[0].box == (0, 20, 80, 60)
    assert tuple(view.pixels[40, 40]) == (200, 0, 0)
    assert view.pixels[:20].max() == 0
    assert view.caption == "OP: image, window as stored"


def test_a_cine_shows_its_middle_frame():
    array = np.zeros((8, 8, 5), np.uint8)
    array[..., 2] = 99
    view = overview(series(Volume(array, np.eye(4), calibrated=False, oriented=False), "", "US"), 16)
    assert (view.pixels == 99).all()


def test_a_missing_slice_is_refused():
    with pytest.raises(MedVLMError, match="no axial slice 24; there are 24, counted from 0"):
        slice_view(chest(), "axial", 24)


def test_colours_belong_to_names_not_ranks():
    mask = nodule_mask()
    both = slice_view(chest(), "axial", 12, mask=mask, labels={1: "lung", 7: "lung nodule"}).pixels
    alone = slice_view(chest(), "axial", 12, mask=mask, labels={7: "lung nodule"}).pixels
    red = np.array(COLOURS["lung nodule"])
    assert np.array_equal((both == red).all(axis=-1)[100:400], (alone == red).all(axis=-1)[100:400])
    assert colour_of("Lung_Nodule") == colour_of("lung nodule")
    assert colour_of("something new") == colour_of("something new")
    assert len({colour_of(f"structure {letter}") for letter in "abcdefgh"}) == 8


def test_a_saved_view_is_the_same_picture(tmp_path: Path):
    view = overview(series(chest()), 64)
    view.save(tmp_path / "v.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "v.png")), view.pixels)


WINDOWS = {"chest": "lung", "head": "brain", "CHEST_ABDOMEN": "lung", "liver": "liver", "": "soft tissue"}


@pytest.mark.parametrize(("body_part", "name"), WINDOWS.items())
def test_ct_is_shown_with_the_window_of_its_body_part(body_part, name):
    assert default_window(chest(), body_part) == named_window(name)


def test_window_arithmetic():
    # Centre 40, width 80: 0 HU is black, 80 HU white, 40 HU 127.5, rounded up.
    values = np.array([-10, 0, 40, 80, 300])
    assert Window("w", 40, 80).apply(values).tolist() == [0, 0, 128, 255, 255]
    # PS3.3 C.11.2.1.2: ((x - 39.5) / 79 + 0.5) * 255 at x = 40 is 129.1.
    assert Window("w", 40, 80, "dicom linear").apply(values)[2] == 129
    # Sigmoid: 255 / (1 + exp(-4 (x - c) / w)): 127.5 in the centre, 224.6 at half a width above it.
    assert Window("w", 40, 80, "sigmoid").apply(np.array([40, 80])).tolist() == [128, 225]


def test_a_voi_table_maps_values_and_mirrors():
    table = Table("t", 100.0, np.array([0, 50, 255], np.uint8))
    assert table.apply(np.array([90, 100, 101, 102, 500])).tolist() == [0, 0, 50, 255, 255]
    # Values mirrored to 1000 - v: 899 was 101, grey 50, shown inverted.
    assert table.mirrored(1000).apply(np.array([899])).tolist() == [205]


def test_a_window_of_the_file_is_used_outside_ct_unless_it_shows_nothing():
    volume = Volume(np.arange(4096, dtype=np.int16).reshape(16, 16, 16), np.eye(4))
    good, blind = Window("good", 2000, 3000), Window("blind", -5000, 10)
    assert series_window(series(volume, "", "MR", windows=(blind, good))) == good
    assert series_window(series(volume, "", "MR", windows=(blind,))).name == "percentile"
    assert series_window(series(chest(), "chest", windows=(good,))).name == "lung"


def test_a_projection_shows_every_slice_once():
    volume = chest()
    volume.array[...] = 0
    volume.array[10, 5, 3] = volume.array[40, 30, 20] = 1000
    most = projection_view(volume, "coronal", "max", window=Window("w", 500, 1000), size=180).pixels[..., 0]
    assert (most == 255).sum() > 0
    assert most[60:, :60].max() > 200  # low k, the patient's right
    assert most[:60, 100:].max() > 200
    least = projection_view(volume, "coronal", "min", window=Window("w", 500, 1000), size=180).pixels
    assert least[30:100, 30:90].max() == 0
    with pytest.raises(MedVLMError, match="known orientation"):
        projection_view(Volume(volume.array, volume.affine, oriented=False))


def test_the_slice_through_a_point_is_found_whatever_the_order_of_the_voxels():
    point = chest().to_canonical().to_patient(np.array([20.2, 11.4, 7.6]))
    for volume in (chest(), chest(flip=True)):
        assert [slice_at(volume, plane, point) for plane in ("sagittal", "coronal", "axial")] == [20, 11, 8]
    with pytest.raises(MedVLMError, match="outside the volume"):
        slice_at(chest(), "axial", (point[0], point[1], 500.0))


def test_a_montage_keeps_the_way_back_of_every_panel():
    views = [slice_view(chest(), "axial", index, size=100) for index in (6, 12, 18)]
    together = montage(views, columns=2)
    assert together.pixels.shape == (200, 200, 3)
    assert np.array_equal(together.pixels[100:, :100], views[2].pixels)
    assert np.allclose(together.to_patient(50, 150), views[2].to_patient(50, 50))
    assert together.to_patient(150, 150) is None
    with pytest.raises(MedVLMError, match="of one size"):
        montage([views[0], slice_view(chest(), "axial", 1, size=60)], 2)
