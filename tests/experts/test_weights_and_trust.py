"""Weights that come from elsewhere, and configs that could run code."""

import hashlib
from pathlib import Path

import pytest
import torch

from medvlm.errors import MedVLMError
from medvlm.experts.bundle import read_bundle
from medvlm.experts.trust import PINS, code_hash, require_trust
from medvlm.experts.weights import CACHE, read_large_files
from medvlm.storage import write_text
from tests.experts.tiny import write_bundle


def declare(root: Path, url: str, data: bytes, extra: str = "") -> None:
    digest = hashlib.sha256(data).hexdigest()
    text = f"large_files:\n  - path: models/model.safetensors\n    url: {url}\n    hash_val: {digest}\n"
    write_text(root / "large_files.yml", text + (f"    extra: {extra}\n" if extra else ""))


def test_weights_of_a_package_that_is_not_installed_name_the_extra(tmp_path: Path) -> None:
    root = write_bundle(tmp_path / "tiny", weights=False)
    declare(root, "package://no-such-package/model.pt", b"", extra="brain")
    assert read_bundle(root).missing == 'pip install "medvlm-specialist[brain]"'


def test_weights_from_the_web_name_the_pull_and_are_then_found_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    trained = read_bundle(write_bundle(tmp_path / "trained"))
    data = trained.weights.read_bytes()
    root = write_bundle(tmp_path / "tiny", weights=False)
    declare(root, "https://example.org/model.safetensors", data)
    assert read_bundle(root).missing == "medvlm experts pull tiny"
    with pytest.raises(MedVLMError, match="medvlm experts pull tiny"):
        read_bundle(root).load_network()
    cached = read_large_files(root)[0].cached()
    cached.parent.mkdir(parents=True)
    cached.write_bytes(data)
    assert read_bundle(root).missing == ""
    assert read_bundle(root).weights_hash() == trained.weights_hash()
    cached.write_bytes(data[:-1])
    with pytest.raises(MedVLMError, match="is pinned"):
        read_bundle(root).load_state()


@pytest.mark.parametrize(
    "text", ["large_files: 3", "files: []", "large_files:\n  - path: ../model.pt\n    url: x\n    hash_val: y\n"]
)
def test_a_list_of_files_that_is_none_or_leaves_the_folder_is_refused(tmp_path: Path, text: str) -> None:
    root = write_bundle(tmp_path / "tiny", weights=False)
    write_text(root / "large_files.yml", text)
    with pytest.raises(MedVLMError, match=r"large_files\.yml"):
        read_bundle(root)


def test_a_checkpoint_that_wants_to_run_code_is_not_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("run",))

    root = write_bundle(tmp_path / "tiny", weights=False)
    (root / "models").mkdir()
    torch.save({"model": Evil()}, root / "models" / "model.pt")
    with pytest.raises(MedVLMError, match="more than tensors"):
        read_bundle(root).load_state()


def test_a_folder_that_nobody_trusts_is_not_read_unless_its_code_is_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_bundle(tmp_path / "tiny")
    with pytest.raises(MedVLMError, match=code_hash(root)):
        require_trust(root)
    monkeypatch.setenv(PINS, f"{'0' * 64},{code_hash(root)}")
    require_trust(root)
    # Weights are pinned one by one; any change of the code is another bundle.
    (root / "models" / "model.safetensors").write_bytes(b"")
    require_trust(root)
    write_text(root / "scripts" / "__init__.py", "print('new')")
    with pytest.raises(MedVLMError, match="can run Python"):
        require_trust(root)


def test_a_content_folder_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_bundle(tmp_path / "mine" / "experts" / "tiny", weights=False)
    monkeypatch.setenv("MEDVLM_PATH", str(tmp_path / "mine"))
    require_trust(root)
