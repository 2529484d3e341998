from __future__ import annotations

import pytest

from medvlm.errors import MedVLMError
from medvlm.models.contract import FILE, contract_of
from medvlm.models.load import load_model
from medvlm.storage import read_json, write_json
from tests.models.families import FAMILIES, build_family


def test_the_contract_names_windows_slices_prompts_labels_and_pixels(tiny):
    contract = contract_of(tiny.processor)
    assert contract["windows"]["lung"] == [-600, 1500]
    assert contract["slices"]["overview pixels"] == 224
    assert contract["prompt format"]["experts on offer"] == "experts: <NAME(argument)>"
    assert contract["prompt format"]["findings"].startswith("NAME:\nlung nodules: 1\n1. ")
    assert contract["labels"]["pleural_effusion"] == "SCT 60046008"
    assert contract["pixels"]["size"] == {"height": 32, "width": 32}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_family_loads_under_the_contract_it_was_saved_with(name, tmp_path):
    build_family(name).save(tmp_path / "model")
    load_model(tmp_path / "model")


@pytest.mark.parametrize(
    ("section", "name", "then", "said"),
    [
        ("windows", "lung", [-500, 1400], r"windows: lung \[-500, 1400\], but here it is \[-600, 1500\]"),
        ("slices", "overview pixels", 448, "slices: overview pixels 448, but here it is 224"),
        ("prompt format", "experts on offer", "Experts: NAME", "prompt format: experts on offer 'Experts: NAME'"),
        ("labels", "pleural_effusion", "SCT 1", "labels: pleural_effusion 'SCT 1', but here it is 'SCT 60046008'"),
        ("windows", "gone", [1, 2], r"windows: gone \[1, 2\], but here it is missing"),
        ("chat template", "sha256", "0", "chat template: sha256 '0'"),
    ],
)
def test_a_model_of_another_contract_is_refused_in_one_sentence(tiny, tmp_path, section, name, then, said):
    tiny.save(tmp_path / "model")
    stored = read_json(tmp_path / "model" / FILE)
    stored["contract"][section][name] = then
    write_json(tmp_path / "model" / FILE, stored)
    with pytest.raises(MedVLMError, match=said) as refused:
        load_model(tmp_path / "model")
    assert "fine-tune again" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_was_added_since_does_no_harm(tiny, tmp_path):
    tiny.save(tmp_path / "model")
    stored = read_json(tmp_path / "model" / FILE)
    del stored["contract"]["windows"]["liver"]
    write_json(tmp_path / "model" / FILE, stored)
    load_model(tmp_path / "model")


def test_changed_image_settings_are_found(tiny, tmp_path):
    tiny.save(tmp_path / "model")
    settings = read_json(tmp_path / "model" / "processor_config.json")
    settings["image_processor"]["size"] = {"height": 64, "width": 64}
    write_json(tmp_path / "model" / "processor_config.json", settings)
    with pytest.raises(MedVLMError, match="pixels: size"):
        load_model(tmp_path / "model")
