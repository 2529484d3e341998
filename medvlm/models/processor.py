"""Load a model's processor; for models that also take videos, without the library that decodes them.

Many families carry a video processor, which transformers builds with torchvision only. medvlm shows images; where
torchvision is missing the video settings are kept as they are and written back on saving, so that another machine with
torchvision loads the complete processor.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoProcessor, ProcessorMixin
from transformers.models.auto import video_processing_auto
from transformers.utils import cached_file, is_torchvision_available
from transformers.video_processing_utils import VideoProcessorMixin

from medvlm.errors import MedVLMError
from medvlm.storage import read_json

HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


class KeptVideoSettings(VideoProcessorMixin):
    """Stands in for a video processor that cannot be built here; knows its settings, processes nothing."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = settings

    def __getattr__(self, name: str) -> Any:
        # Processors read single settings (`num_frames`, `merge_size`) even when no video is given.
        settings = self.__dict__.get("settings", {})
        if name in settings:
            return settings[name]
        raise AttributeError(name)

    def __call__(self, videos: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        raise MedVLMError("videos need the package torchvision, which is not installed.")

    def to_dict(self) -> dict[str, Any]:
        return dict(self.settings)

    @classmethod
    def from_pretrained(cls, name: str, *_: Any, **options: Any) -> KeptVideoSettings:  # type: ignore[override]
        """The settings that a model's folder or hub page holds, in either of the files that may hold them."""
        kept = {key: options[key] for key in HUB_OPTIONS if key in options}
        for file, key in (("processor_config.json", "video_processor"), ("video_preprocessor_config.json", "")):
            path = cached_file(str(name), file, _raise_exceptions_for_missing_entries=False, **kept)
            settings = read_json(Path(path)) if path else {}
            settings = settings.get(key, {}) if key else settings
            if settings:
                return cls(**settings)
        return cls()


def load_processor(name: str, trust_remote_code: bool = False) -> Any:
    """A model's processor by folder or hub id, whether or not videos can be decoded here."""
    if is_torchvision_available():
        return AutoProcessor.from_pretrained(name, trust_remote_code=trust_remote_code)
    with video_settings_kept():
        return AutoProcessor.from_pretrained(name, trust_remote_code=trust_remote_code)


@contextmanager
def video_settings_kept() -> Iterator[None]:
    """Within the context transformers gives and takes `KeptVideoSettings` for video processors."""
    load = video_processing_auto.AutoVideoProcessor
    check = ProcessorMixin.check_argument_for_proper_class

    def accept(self: ProcessorMixin, name: str, value: Any) -> Any:
        return type(value) if isinstance(value, KeptVideoSettings) else check(self, name, value)

    video_processing_auto.AutoVideoProcessor = KeptVideoSettings  # type: ignore[misc,assignment]
    ProcessorMixin.check_argument_for_proper_class = accept  # type: ignore[method-assign]
    try:
        yield
    finally:
        video_processing_auto.AutoVideoProcessor = load  # type: ignore[misc]
        ProcessorMixin.check_argument_for_proper_class = check  # type: ignore[method-assign]
