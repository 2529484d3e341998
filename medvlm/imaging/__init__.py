"""Studies in: readers for DICOM, NIfTI and plain images, and the pictures made from them."""

from medvlm.imaging.reader import load_study
from medvlm.imaging.study import Grid, Series, Skipped, Study, Volume
from medvlm.imaging.suv import suv_volume
from medvlm.imaging.text import clean_text
from medvlm.imaging.view import View, overview, slice_view

__all__ = [
    "Grid",
    "Series",
    "Skipped",
    "Study",
    "View",
    "Volume",
    "clean_text",
    "load_study",
    "overview",
    "slice_view",
    "suv_volume",
]
