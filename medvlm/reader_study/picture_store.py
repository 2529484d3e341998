"""Pictures of all cases, prepared once and linked into every packet under names of their own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from medvlm.errors import MedVLMError
from medvlm.reader_study.packet import Codes, Packet, write_bytes
from medvlm.reader_study.pictures import load_stacks, picture_script
from medvlm.reader_study.spec import StudySpec
from medvlm.reader_study.study_secrets import header_secrets


class PictureStore:
    """Prepares the images of a study on entering; gives each showing a new name.

    Attributes:
        cases: the cases by id.
        scripts: name in a packet → prepared file.
    """

    def __init__(self, spec: StudySpec, codes: Codes, tell: Callable[[str, int, int], None]) -> None:
        self.cases = {case.id: case for case in spec.cases}
        self.scripts: dict[str, Path] = {}
        self._spec, self._codes, self._tell = spec, codes, tell
        self._prepared: dict[str, Path] = {}
        self._folder = Path()

    def __enter__(self) -> PictureStore:
        self._folder = Path(tempfile.mkdtemp(prefix="medvlm-pictures-"))
        try:
            pictured = [case for case in self._spec.cases if case.image]
            for number, case in enumerate(pictured, start=1):
                self._tell("images", number, len(pictured))
                self._prepare(number, case.id, Path(case.image))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _prepare(self, number: int, case: str, image: Path) -> None:
        if not image.exists():
            raise MedVLMError(f"case {case}: no image {image}.")
        try:
            stacks = load_stacks(image, self._spec.pictures)
        except MedVLMError as error:
            raise MedVLMError(f"case {case}: {error}") from None
        self._prepared[case] = self._folder / str(number)
        write_bytes(self._prepared[case].with_suffix(".js"), picture_script(stacks))
        write_bytes(self._prepared[case].with_suffix(".png"), stacks[0].png())

    def names_for(self, case: str) -> tuple[str, ...]:
        """A new name for the pictures of a case; empty where it has none."""
        if case not in self._prepared:
            return ()
        name = self._codes.draw(8)
        self.scripts[name] = self._prepared[case].with_suffix(".js")
        return (name,)

    def link_previews(self, folder: Path, packet: Packet) -> None:
        """One PNG an item, named by its code, for the formats that show plain images."""
        for item in packet.items:
            for name in item.pictures:
                folder.mkdir(exist_ok=True)
                preview = self.scripts[name].with_suffix(".png")
                try:
                    os.link(preview, folder / f"{item.code}.png")
                except OSError:
                    write_bytes(folder / f"{item.code}.png", preview.read_bytes())

    def header_secrets(self) -> set[str]:
        """Identifiers in the headers of all images."""
        found: set[str] = set()
        for case in self._spec.cases:
            if case.image:
                found |= header_secrets(Path(case.image))
        return found
