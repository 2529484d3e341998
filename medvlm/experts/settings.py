"""What a training run can be told; the sections of `configs/train.yaml`. No torch here: the command line reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Augment:
    """Random changes of a training sample; each is a probability and, where it makes sense, a strength.

    Attributes:
        noise: probability of Gaussian noise of up to `noise_std` (in working units, 0..1).
        blur: probability of Gaussian smoothing.
        gamma: probability of a change of contrast.
        shift: probability of a shift of all intensities by up to `shift_by`.
        flip: probability of a mirror image along each axis; only for images without sides (cells).
        rotate: probability of quarter turns in the image plane; only for images without sides.
    """

    noise: float = 0.3
    noise_std: float = 0.03
    blur: float = 0.2
    gamma: float = 0.2
    shift: float = 0.3
    shift_by: float = 0.03
    flip: float = 0.0
    rotate: float = 0.0


@dataclass(frozen=True)
class Batches:
    """How samples reach the network.

    Attributes:
        patch: size of the random patch along each axis of the working grid.
        focus: structure name → how often a patch is centred on it, relative to 1 for structures that are not named;
            empty centres patches anywhere.
        batch_size: patches a step.
        workers: processes that prepare batches.
        augment: random changes of the training samples.
    """

    patch: tuple[int, ...] = (144, 128, 56)
    focus: Mapping[str, float] = field(default_factory=dict)
    batch_size: int = 1
    workers: int = 0
    augment: Augment = field(default_factory=Augment)


@dataclass(frozen=True)
class Optimiser:
    """AdamW with a one-cycle learning rate.

    Attributes:
        learning_rate: the highest learning rate of the cycle.
        weight_decay: decoupled weight decay.
        warmup: share of the steps in which the learning rate rises.
        freeze_norm: keep the running statistics of the normalisation; for fine-tuning on small patches, whose own
            statistics are not those of whole studies.
    """

    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    warmup: float = 0.15
    freeze_norm: bool = False


@dataclass(frozen=True)
class Loss:
    """Dice plus cross-entropy over the structures, cross-entropy over the classes.

    Attributes:
        weights: structure name → weight in the cross-entropy (1 where not given); raise it for small structures.
        dice: factor of the Dice term.
        classes: factor of the class term.
    """

    weights: Mapping[str, float] | None = None
    dice: float = 1.0
    classes: float = 0.5
