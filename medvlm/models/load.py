"""Load a vision-language model by name: `tiny`, `small`, a folder, an adapter folder or a hub id."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvlm.errors import MedVLMError
from medvlm.models.contract import check_contract, write_contract
from medvlm.storage import atomic_path, read_json

if TYPE_CHECKING:
    import torch
    from transformers import ProcessorMixin

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model (maybe wrapped by peft), its processor and the name it was loaded by."""

    # PreTrainedModel or PeftModel: both forward what the other modules ask for, but share no type.
    model: Any
    processor: ProcessorMixin
    name: str

    @property
    def is_adapter(self) -> bool:
        return hasattr(self.model, "peft_config")

    def save(self, folder: Path | str) -> None:
        """Write a folder that plain transformers (and peft, for an adapter) loads; whole or not at all."""
        _quiet_bars()
        with atomic_path(Path(folder)) as temporary:
            self.model.save_pretrained(temporary)
            self.processor.save_pretrained(temporary)
            write_contract(temporary, self.processor)


def load_model(
    name: str | Path,
    corpus: Iterable[str] = (),
    tiny_config: str | Path = "models/tiny.yaml",
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "cpu",
    trainable: bool = False,
    trust_remote_code: bool = False,
    quantize: str | None = None,
) -> LoadedModel:
    """Load a model and its processor through transformers' auto classes.

    Args:
        name: `tiny` (fresh weights), `small` (pretrained language half, fresh tower), a folder written by
            `save_pretrained`, a peft adapter folder, or a hub id.
        corpus: texts that the tokenizer of `tiny` is learnt from; unused otherwise.
        tiny_config: sizes of `tiny`: a known config or a YAML file.
        dtype: of the weights; `auto` is the one they were saved in.
        device: where the weights go.
        trainable: keep the weights of a loaded adapter trainable.
        trust_remote_code: run Python that comes with the model. Off unless you trust its author.
        quantize: `4bit` or `8bit`: linear layers are quantised while they are loaded (bitsandbytes).

    Raises:
        MedVLMError: no such model, an unreachable hub, a model that is not an image-text-to-text model, or one that
            was trained on other pictures, prompts or labels than this installation makes (`contract.py`).
    """
    name = str(name)
    if name == "tiny":
        from medvlm.models.tiny import build_tiny_model, build_tiny_processor, read_tiny_config

        texts = list(corpus)
        if not texts:
            raise MedVLMError("the model 'tiny' starts empty: train it first (medvlm fit) or give it a corpus.")
        config = read_tiny_config(tiny_config)
        processor = build_tiny_processor(config, texts)
        tiny: Any = build_tiny_model(config, processor)
        return LoadedModel(tiny.to(device), processor, name)
    if name == "small":
        from medvlm.models.small import build_small_model, build_small_processor, read_small_config

        small = read_small_config()
        parts = build_small_processor(small)
        assembled: Any = build_small_model(small, parts)
        return LoadedModel(assembled.to(device), parts, name)
    _check_name(name)
    adapter = Path(name) / "adapter_config.json"
    if adapter.is_file():
        return _load_adapter(Path(name), read_json(adapter), dtype, device, trainable, trust_remote_code)
    model, processor = _from_pretrained(name, dtype, trust_remote_code, quantize)
    check_contract(Path(name), processor)
    # Quantised weights are where they are to be: bitsandbytes places them while it loads.
    return LoadedModel(model if quantize else model.to(device), processor, name)


def _check_name(name: str) -> None:
    """Refuse what can be neither a folder nor a hub id, before any network is touched."""
    path = Path(name).expanduser()
    if path.is_dir():
        if not any((path / file).is_file() for file in ("config.json", "adapter_config.json")):
            raise MedVLMError(f"{name}: no model in this folder (neither config.json nor adapter_config.json).")
        return
    if path.exists():
        raise MedVLMError(f"{name}: a model is a folder, not a file.")
    if not HUB_ID.fullmatch(name):
        raise MedVLMError(
            f"unknown model '{name}': give 'tiny', 'small', an existing folder or a hub id such as ORG/NAME."
        )


def _quantized(quantize: str | None) -> dict[str, Any]:
    """Options of `from_pretrained` for QLoRA.

    Raises:
        MedVLMError: bitsandbytes is not installed, or another number of bits.
    """
    if quantize is None:
        return {}
    if quantize not in ("4bit", "8bit"):
        raise MedVLMError(f"quantize is {quantize!r}: give 4bit or 8bit.")
    if find_spec("bitsandbytes") is None:
        raise MedVLMError("quantised weights need bitsandbytes: pip install 'medvlm-specialist[qlora]'.")
    import torch
    from transformers import BitsAndBytesConfig

    if quantize == "8bit":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    four = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": torch.bfloat16}
    return {"quantization_config": BitsAndBytesConfig(load_in_4bit=True, **four)}


def _from_pretrained(name: str, dtype: Any, trust_remote_code: bool, quantize: str | None = None) -> tuple[Any, Any]:
    # A machine without a network must learn that in seconds, not after the client's long retries.
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", "10")
    from transformers import AutoModelForImageTextToText

    from medvlm.models.processor import load_processor

    bits = _quantized(quantize)
    _quiet_bars()
    try:
        processor = load_processor(name, trust_remote_code)
        model = AutoModelForImageTextToText.from_pretrained(
            name, dtype=dtype, trust_remote_code=trust_remote_code, **bits
        )
    except ImportError as error:
        raise MedVLMError(f"{name}: {_first_line(error)}") from None
    except ValueError as error:
        raise MedVLMError(f"{name}: not an image-text-to-text model ({_first_line(error)}).") from None
    except OSError as error:
        where = "" if Path(name).is_dir() else "; is the name right, and the hub reachable (HF_HUB_OFFLINE unset)?"
        raise MedVLMError(f"unknown model '{name}': {_first_line(error).rstrip('.')}{where}") from None
    if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
        raise MedVLMError(f"{name}: its processor does not take images and text; choose an image-text-to-text model.")
    return model, processor


def _load_adapter(
    folder: Path, config: dict[str, Any], dtype: Any, device: Any, trainable: bool, trust_remote_code: bool
) -> LoadedModel:
    from peft import PeftModel

    base_name = str(config.get("base_model_name_or_path") or "")
    if not base_name:
        raise MedVLMError(f"{folder}: adapter_config.json names no base model.")
    # A base folder may be written relative to the adapter, so that both can move together.
    base = folder / base_name if (folder / base_name).is_dir() else Path(base_name)
    loaded = load_model(str(base), dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    model = PeftModel.from_pretrained(loaded.model, str(folder), is_trainable=trainable)
    processor = loaded.processor
    if (folder / "processor_config.json").is_file() or (folder / "preprocessor_config.json").is_file():
        from medvlm.models.processor import load_processor

        processor = load_processor(str(folder))
    check_contract(folder, processor)
    return LoadedModel(model, processor, str(folder))


def _quiet_bars() -> None:
    """No progress bars for reading and writing one small file."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
