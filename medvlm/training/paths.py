"""The quick ways through a step, each taken only where it was shown to change nothing for this model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medvlm.errors import MedVLMError
from medvlm.training.features import FeatureCache
from medvlm.training.loss import fits_fused, wants_fused
from medvlm.training.norms import lean_norms
from medvlm.training.selftest import chosen_rows, why_not_cached, why_not_packed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medvlm.models.chat import Encoded

Switch = Literal["auto", "always", "never"]


@dataclass(frozen=True)
class Paths:
    """How a step is computed; none of it changes what is learnt.

    `auto` takes a path where it applies and passes its self-test, and says so where it does not; `always` refuses
    to run without it.

    Attributes:
        packing: conversations of a batch in one row without padding, each attending to itself.
        features: image features of a frozen tower from disk, computed once.
        features_folder: where they are kept; `features/` in the run's folder by default. Runs may share one folder.
        fused_loss: head and loss in blocks of the vocabulary.
        norms: RMS norms that keep only their input for the backward pass.
        checkpointing: compute activations again in the backward pass: about a third slower, far less memory.
        compile: compile the layers of the language part; pays after some hundred steps.
    """

    packing: Switch = "auto"
    features: Switch = "auto"
    features_folder: Path | None = None
    fused_loss: Switch = "auto"
    norms: Switch = "auto"
    checkpointing: bool = False
    compile: bool = False


@dataclass(frozen=True)
class Chosen:
    """The paths that a run takes, and the words in which it says so."""

    packed: bool = False
    features: FeatureCache | None = None
    fused: bool = False
    notices: tuple[str, ...] = ()


def choose(paths: Paths, loaded: Any, sample: Sequence[Encoded], pad_id: int, root: Path) -> Chosen:
    """Try the paths on a few conversations.

    Args:
        paths: what is asked for.
        loaded: the model as it will train, in the precision of the run.
        sample: some encoded conversations.
        pad_id: of the tokenizer.
        root: folder of the run.

    Raises:
        MedVLMError: a path is `always` and cannot be taken.
    """
    from medvlm.training.collate import TrainingCollator

    model, few, notices = loaded.model, chosen_rows(sample), []
    if paths.norms == "always" or (paths.norms == "auto" and not paths.compile):
        reason = None if lean_norms(model) else "no RMS norm of the usual formula"
        notices.append(_notice("norms", paths.norms, reason, "the model's own"))
    packed = False
    if paths.packing != "never":
        reason = why_not_packed(model, sample, pad_id)
        packed = reason is None
        notices.append(_notice("packing", paths.packing, reason, "padded batches of similar length"))
    features = None
    shown = [row for row in few if "pixel_values" in row.vision]
    if paths.features == "always" or (paths.features == "auto" and shown and _tower_frozen(loaded)):
        features, reason = _features(paths.features_folder or root / "features", loaded, shown, pad_id)
        notices.append(_notice("image features", paths.features, reason, "computed in every step"))
    fused = False
    if paths.fused_loss == "always" or (paths.fused_loss == "auto" and wants_fused(model)):
        batch = {name: value.to(model.device) for name, value in TrainingCollator(pad_id)(few).items()}
        batch |= {name: value.to(model.dtype) for name, value in batch.items() if value.is_floating_point()}
        fused = fits_fused(model, batch)
        reason = None if fused else "the family changes logits after its head"
        notices.append(_notice("fused loss", paths.fused_loss, reason, "all logits of the learnt positions at once"))
    return Chosen(packed, features, fused, tuple(notices))


def _features(folder: Path, loaded: Any, shown: list[Encoded], pad_id: int) -> tuple[FeatureCache | None, str | None]:
    try:
        cache = FeatureCache.open(loaded, folder)
        if not shown:
            return None, "no conversation of the sample has a picture"
        cache.fill(shown[:1])
        reason = why_not_cached(loaded.model, shown[0], cache, pad_id)
    except MedVLMError as error:
        cache, reason = None, str(error)
    return (None if reason else cache), reason


def _notice(name: str, wanted: Switch, reason: str | None, instead: str) -> str:
    if reason is None:
        return f"{name:<15} tested: the same as without"
    if wanted == "always":
        raise MedVLMError(f"{name}: {reason.rstrip('.')}; leave it on auto.")
    return f"{name:<15} off ({reason.rstrip('.')}): {instead}"


def _tower_frozen(loaded: Any) -> bool:
    from medvlm.models.parts import table

    return not any(row.trainable for row in table(loaded) if row.part == "vision")
