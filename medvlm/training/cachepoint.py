"""Where image features can be taken from a model and given back to it.

After the projector, where that is frozen, too: transformers takes features there (`mm_encoder_outputs`). After the
tower, where the projector trains: then the tower is replaced, for the length of a step, by what it said. Which of the
tower's outputs the model goes on with is not looked up by family but found out: they are those that gradients reach.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.utils import _pytree as pytree

from medvlm.errors import MedVLMError
from medvlm.models.parts import part_of

if TYPE_CHECKING:
    from torch import Tensor, nn

Vision = dict[str, "Tensor"]


class CachePoint(Protocol):
    """One way to record features and to give them back."""

    names: tuple[str, ...]
    with_projector: bool

    def record(self, vision: Vision) -> Vision:
        """The features of the pictures of one conversation; the first axis is one along which sets concatenate."""
        ...

    def rest(self, vision: Vision) -> Vision:
        """What else of the vision inputs a step needs when it has the features."""
        ...

    def replayed(self, inputs: dict[str, Any], features: Vision) -> Any:
        """Context in which `model(**what it yields)` uses the features."""
        ...


def find_point(model: Any) -> CachePoint:
    """The place of an (unwrapped) model where features can be cached.

    Raises:
        MedVLMError: the tower trains, or this family cannot take features.
    """
    trains = dict.fromkeys(("vision", "projector", "language"), False)
    parts = part_of(model)
    for name, module in model.named_modules():
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
            trains[parts[name]] = True
    if trains["vision"]:
        raise MedVLMError("the feature cache needs a frozen vision part: set --model.tuning.vision=freeze.")
    if not hasattr(model, "get_image_features"):
        raise MedVLMError(f"{type(model).__name__} keeps image features to itself: they cannot be cached.")
    if not trains["projector"] and "mm_encoder_outputs" in inspect.signature(model.forward).parameters:
        return AfterProjector(model)
    tower = model.get_encoder(modality="image")
    if any(parameter.requires_grad for parameter in tower.parameters()):
        raise MedVLMError(
            f"{type(model).__name__} keeps its projector inside the tower: the feature cache needs it frozen, "
            "set --model.tuning.projector=freeze."
        )
    return AfterTower(model, tower)


class AfterProjector:
    """Features as the language part gets them, for the families that take `mm_encoder_outputs`."""

    with_projector = True

    def __init__(self, model: Any) -> None:
        self.model = model
        self.names: tuple[str, ...] = ("pooled",)
        self._kind: Any = None
        # Which of the features the family keeps as a list with one entry a picture.
        self._listed: dict[str, bool] = {}

    def record(self, vision: Vision) -> Vision:
        output = _image_features(self.model, vision)
        found = {"pooled": output.pooler_output}
        for level, features in enumerate(getattr(output, "deepstack_features", None) or ()):
            found[f"deep{level}"] = features
        self._kind, self.names = type(output), tuple(found)
        self._listed = {name: not isinstance(value, torch.Tensor) for name, value in found.items()}
        return {name: (torch.cat(list(value)) if self._listed[name] else value).cpu() for name, value in found.items()}

    def rest(self, vision: Vision) -> Vision:
        # Grids and sizes stay: positions follow from them.
        return {name: value for name, value in vision.items() if not name.startswith("pixel_")}

    @contextmanager
    def replayed(self, inputs: dict[str, Any], features: Vision) -> Iterator[dict[str, Any]]:
        given = {name: [value] if self._listed[name] else value for name, value in features.items()}
        deep = {"deepstack_features": [given[name] for name in self.names[1:]]} if len(self.names) > 1 else {}
        output = self._kind(pooler_output=given["pooled"], **deep)
        yield inputs | {"mm_encoder_outputs": {"image": output}}


class AfterTower:
    """What the tower says, before a projector that trains."""

    with_projector = False

    def __init__(self, model: Any, tower: nn.Module) -> None:
        self.model, self.tower = model, tower
        self.names: tuple[str, ...] = ()
        self._shape: torch.Size | None = None  # [3, H, W] of a picture or tile
        self._spec: Any = None
        self._count = 0

    def record(self, vision: Vision) -> Vision:
        shape = vision["pixel_values"].shape[-3:]
        if vision["pixel_values"].ndim < 4 or (self._shape or shape) != shape:
            raise MedVLMError(
                f"{type(self.model).__name__} takes pictures of varying size: the feature cache needs a frozen "
                "projector, set --model.tuning.projector=freeze."
            )
        self._shape = shape
        said: list[Any] = []

        def separate(_: nn.Module, __: Any, output: Any) -> Any:
            """Cut the graph at the tower's outputs, so that gradients tell which of them are used."""
            leaves, self._spec = pytree.tree_flatten(output)
            said[:] = [_leaf(value) for value in leaves]
            return pytree.tree_unflatten(said, self._spec)

        handle = self.tower.register_forward_hook(separate)
        try:
            with torch.enable_grad():
                pooled = _image_features(self.model, vision, grad=True).pooler_output
            whole = pooled if isinstance(pooled, torch.Tensor) else torch.cat(list(pooled))
        finally:
            handle.remove()
        self._count = len(said)
        tracked = [index for index, value in enumerate(said) if getattr(value, "requires_grad", False)]
        gradients = torch.autograd.grad(whole.float().sum(), [said[index] for index in tracked], allow_unused=True)
        used = [index for index, gradient in zip(tracked, gradients) if gradient is not None]
        self.names = tuple(f"tower{index}" for index in used)
        return {f"tower{index}": said[index].detach().cpu() for index in used}

    def rest(self, vision: Vision) -> Vision:
        """Pixels are told by one number a picture or tile: 0 where it is mere padding, which families leave out."""
        pixels = vision["pixel_values"]
        there = pixels.flatten(-3).any(dim=-1)
        return {name: value for name, value in vision.items() if name != "pixel_values"} | {"pixel_values": there}

    @contextmanager
    def replayed(self, inputs: dict[str, Any], features: Vision) -> Iterator[dict[str, Any]]:
        leaves = [features.get(f"tower{index}") for index in range(self._count)]
        output = pytree.tree_unflatten(leaves, self._spec)
        there = inputs["pixel_values"].to(self.model.dtype)
        pixels = there[..., None, None, None].expand(*there.shape, *(self._shape or ()))
        previous = self.tower.__dict__.get("forward")
        self.tower.forward = lambda *_, **__: output
        try:
            yield inputs | {"pixel_values": pixels}
        finally:
            del self.tower.forward
            if previous is not None:
                self.tower.forward = previous


def _leaf(value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return value
    return value.detach().requires_grad_()


def _image_features(model: Any, vision: Vision, grad: bool = False) -> Any:
    """What the model itself makes of the pictures, in evaluation mode."""
    known = inspect.signature(model.get_image_features).parameters
    given: dict[str, Any] = {name: value.to(model.device) for name, value in vision.items() if name in known}
    given["pixel_values"] = given["pixel_values"].to(model.dtype)
    training = [module for module in model.modules() if module.training]
    model.eval()
    with torch.set_grad_enabled(grad):
        output = model.get_image_features(**given, return_dict=True)
    for module in training:
        module.training = True
    return output
