"""What is drawn on top of a picture: overlays, legend, scale bar, side markers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# One colour a structure, everywhere and always; named, never ranked.
COLOURS: dict[str, tuple[int, int, int]] = {
    "lung nodule": (255, 64, 64),
    "nodule": (255, 64, 64),
    "lesion": (255, 64, 64),
    "tumor": (255, 64, 64),
    "pleural effusion": (64, 160, 255),
    "effusion": (64, 160, 255),
    "heart": (255, 144, 64),
    "lung": (96, 208, 160),
    "right upper lobe": (96, 208, 160),
    "right middle lobe": (216, 200, 88),
    "right lower lobe": (160, 120, 224),
    "left upper lobe": (88, 200, 216),
    "left lower lobe": (224, 136, 184),
    "airway": (160, 200, 255),
    "trachea": (160, 200, 255),
    "vessel": (208, 72, 120),
    "aorta": (208, 72, 120),
    "rib": (224, 216, 192),
    "bone": (224, 216, 192),
    "liver": (184, 112, 64),
    "spleen": (160, 72, 160),
    "kidney": (200, 160, 64),
    "brain": (255, 176, 176),
    "nucleus": (120, 80, 255),
    "cytoplasm": (64, 200, 120),
    "subretinal fluid": (64, 160, 255),
    "intraretinal fluid": (64, 224, 224),
    "drusen": (255, 208, 64),
}
WHITE = (255, 255, 255)
_FILL = 0.25  # opacity inside the contour


def colour_of(name: str) -> tuple[int, int, int]:
    """The colour of a structure: from the table, else made from its letters alone."""
    plain = name.lower().replace("_", " ").strip()
    if plain in COLOURS:
        return COLOURS[plain]
    total = sum(position * ord(letter) for position, letter in enumerate(plain, start=1))
    hue = (total * 0.6180339887) % 1.0  # golden-ratio steps keep neighbours apart
    sector, fraction = int(hue * 6), hue * 6 % 1
    rising, falling = round(72 + 168 * fraction), round(240 - 168 * fraction)
    sectors = (
        (240, rising, 72),
        (falling, 240, 72),
        (72, 240, rising),
        (72, falling, 240),
        (rising, 72, 240),
        (240, 72, falling),
    )
    return sectors[sector]


def blend_labels(pixels: np.ndarray, labels: np.ndarray, names: Mapping[int, str]) -> None:
    """Draw each label's contour and a light fill into `pixels` `[H, W, 3]` uint8, in place."""
    for label, name in names.items():
        own = labels == label
        if not own.any():
            continue
        colour = np.array(colour_of(name), dtype=np.float32)
        pixels[own] = (pixels[own] * (1 - _FILL) + colour * _FILL + 0.5).astype(np.uint8)
        pixels[own & ~_eroded(own)] = colour.astype(np.uint8)


def _eroded(mask: np.ndarray) -> np.ndarray:
    inner = np.pad(mask, 1)
    return inner[1:-1, 1:-1] & inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]


def text(image: Image.Image, place: tuple[int, int], words: str, colour: tuple[int, int, int] = WHITE) -> None:
    """Small text with a dark rim, in Pillow's own bitmap font (the same bytes everywhere)."""
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default_imagefont()
    words = words.encode("latin-1", "replace").decode("latin-1")
    for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        draw.text((place[0] + dx, place[1] + dy), words, font=font, fill=(0, 0, 0))
    draw.text(place, words, font=font, fill=colour)


def legend(image: Image.Image, names: list[str]) -> None:
    """Colour and name of each structure, from the bottom left upwards."""
    draw = ImageDraw.Draw(image)
    for row, name in enumerate(reversed(names)):
        top = image.height - 16 - 14 * row
        draw.rectangle((6, top, 14, top + 8), fill=colour_of(name), outline=(0, 0, 0))
        text(image, (19, top - 1), name)


def scale_bar(image: Image.Image, millimetres_per_pixel: float) -> None:
    """A bar of a round length, at most 30 % of the width, at the bottom right."""
    longest = 0.3 * image.width * millimetres_per_pixel
    lengths = [base * 10.0**power for power in range(-4, 4) for base in (1, 2, 5)]
    fitting = [length for length in lengths if length <= longest]
    if not fitting:
        return
    length = fitting[-1]
    pixels = round(length / millimetres_per_pixel)
    right, bottom = image.width - 8, image.height - 8
    draw = ImageDraw.Draw(image)
    draw.rectangle((right - pixels - 1, bottom - 4, right + 1, bottom), fill=(0, 0, 0))
    draw.rectangle((right - pixels, bottom - 3, right, bottom - 1), fill=WHITE)
    words = f"{length:g} mm"
    text(image, (right - 6 * len(words), bottom - 18), words)


def side_markers(image: Image.Image, left: str, right: str) -> None:
    """`R` and `L` (or `A` and `P`) at half height."""
    text(image, (5, image.height // 2 - 6), left)
    text(image, (image.width - 11, image.height // 2 - 6), right)
