"""Models: load any image-text-to-text model, choose what trains, generate answers."""

from medvlm.models.generate import Generator
from medvlm.models.load import LoadedModel, load_model

__all__ = ["Generator", "LoadedModel", "load_model"]
