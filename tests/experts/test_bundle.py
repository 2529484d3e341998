"""Reading a bundle folder: what it holds, and what it may never do."""

import json
import shutil
from pathlib import Path

import pytest

from medvlm.content import builtin_root
from medvlm.errors import MedVLMError
from medvlm.experts.bundle import read_bundle, resolve_literals
from medvlm.storage import read_json, write_json
from tests.experts.tiny import write_bundle


def test_a_bundle_gives_its_card_labels_and_network(tmp_path: Path) -> None:
    bundle = read_bundle(write_bundle(tmp_path / "tiny"))
    assert bundle.card.trigger_name == "TINY"
    assert bundle.card.version == "0.0.1"
    assert bundle.labels[3] == "ball"
    assert len(bundle.weights_hash()) == 64
    # bfloat16 in the file, float32 in the network.
    assert {str(weight.dtype) for weight in bundle.load_network().parameters()} == {"torch.float32"}


def test_the_weights_hash_changes_with_the_weights(tmp_path: Path) -> None:
    bundle = read_bundle(write_bundle(tmp_path / "tiny"))
    before = bundle.weights_hash()
    data = bytearray(bundle.weights.read_bytes())
    data[-1] ^= 1
    bundle.weights.write_bytes(bytes(data))
    assert bundle.weights_hash() != before


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ({"_target_": "os.system", "command": "true"}, "not one of MONAI's networks"),
        ({"_target_": "monai.networks.nets.UNet", "spatial_dims": "$__import__('os').getpid()"}, "Python expression"),
        ({"_target_": "monai.networks.nets.UNet", "spatial_dims": "@nowhere"}, "refers to nothing"),
        ({"_target_": "monai.networks.nets.torch.nn.Linear"}, "not one of MONAI's networks"),
        ({"_target_": "monai.networks.nets.UNet", "colour": 3}, "does not accept"),
    ],
)
def test_a_network_that_is_not_plain_data_is_refused(tmp_path: Path, network: dict[str, str], reason: str) -> None:
    bundle = read_bundle(write_bundle(tmp_path / "tiny", weights=False, network_def=network))
    with pytest.raises(MedVLMError, match=reason):
        bundle.build_network()


def test_references_between_keys_are_followed_but_not_in_circles() -> None:
    config = {"a": {"b": [1, 2]}, "loop": "@loop"}
    assert resolve_literals({"x": "@a#b#1", "y": "@a::b"}, config, "test") == {"x": 2, "y": [1, 2]}
    with pytest.raises(MedVLMError, match="circle"):
        resolve_literals("@loop", config, "test")


def test_missing_weights_name_the_command_that_makes_them(tmp_path: Path) -> None:
    bundle = read_bundle(write_bundle(tmp_path / "tiny", weights=False))
    with pytest.raises(MedVLMError, match="medvlm experts train"):
        bundle.load_network()


def test_weights_of_another_network_or_a_broken_file_are_refused(tmp_path: Path) -> None:
    small = write_bundle(tmp_path / "small")
    config = read_json(small / "configs" / "inference.json")
    config["network_def"]["channels"] = [8, 16]
    write_json(small / "configs" / "inference.json", config)
    with pytest.raises(MedVLMError, match="not the weights of this bundle"):
        read_bundle(small).load_network()
    (small / "models" / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(MedVLMError, match="not the weights of this bundle"):
        read_bundle(small).load_network()


@pytest.mark.parametrize("lost", ["findings.yaml", "configs/metadata.json", "configs/inference.json"])
def test_a_folder_without_one_of_its_files_is_refused_by_name(tmp_path: Path, lost: str) -> None:
    root = write_bundle(tmp_path / "tiny", weights=False)
    (root / lost).unlink()
    with pytest.raises(MedVLMError, match=lost.replace(".", r"\.")):
        read_bundle(root)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"rules": [{"kind": "guess", "argument": "balls", "concept": "x", "id": "x"}]}, "kind is one of"),
        ({"rules": [{"kind": "class", "argument": "other", "concept": "x", "id": "x"}]}, "not declared"),
        ({"rules": ["x"]}, "expected a mapping"),
    ],
)
def test_a_wrong_findings_yaml_is_one_sentence(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    root = write_bundle(tmp_path / "tiny", spec=change, weights=False)
    with pytest.raises(MedVLMError, match=reason):
        read_bundle(root)


BUILTIN = sorted(path.name for path in (builtin_root() / "experts").iterdir() if (path / "findings.yaml").is_file())


@pytest.mark.parametrize("name", BUILTIN)
def test_every_bundled_expert_passes_monais_own_metadata_verification(name: str, tmp_path: Path) -> None:
    from monai.bundle import verify_metadata

    # MONAI downloads the schema unless the file is there: a copy of its rules stands in for the network.
    schema = tmp_path / "schema.json"
    shutil.copy(Path(__file__).with_name("monai_metadata_schema.json"), schema)
    verify_metadata(
        meta_file=str(builtin_root() / "experts" / name / "configs" / "metadata.json"), filepath=str(schema)
    )


def test_the_metadata_verification_of_this_test_does_refuse(tmp_path: Path) -> None:
    from monai.bundle import verify_metadata

    schema = tmp_path / "schema.json"
    shutil.copy(Path(__file__).with_name("monai_metadata_schema.json"), schema)
    metadata = read_json(builtin_root() / "experts" / "chest_ct" / "configs" / "metadata.json")
    del metadata["network_data_format"]["outputs"]
    broken = tmp_path / "metadata.json"
    broken.write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match="Failed validating"):
        verify_metadata(meta_file=str(broken), filepath=str(schema))


@pytest.mark.parametrize("name", BUILTIN)
def test_every_bundled_experts_rules_name_structures_and_codes_that_exist(name: str) -> None:
    from medvlm.findings.codes import code

    bundle = read_bundle(builtin_root() / "experts" / name)
    structures = set(bundle.labels.values()) | set(bundle.spec.unions) | set(bundle.classes)
    for rule in bundle.spec.rules:
        assert rule.concept or rule.structures
        for key in filter(None, (rule.concept, *rule.structures.values())):
            code(key)
        assert set(rule.named()) <= structures
        for site in rule.sites.values():
            assert site.side in ("", "right", "left")
            if site.code:
                code(site.code)
    if bundle.spec.runner == "grid":
        assert bundle.build_network() is not None
