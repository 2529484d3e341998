"""Studies in: readers for DICOM, NIfTI and plain images, and the pictures made from them."""

from medvlm.imaging.reader import load_study
from medvlm.imaging.study import Series, Skipped, Study, Volume
from medvlm.imaging.text import clean_text

__all__ = ["Series", "Skipped", "Study", "Volume", "clean_text", "load_study"]
