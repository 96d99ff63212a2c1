"""Boxes on an image, each with a label that stays inside the picture and can be read on any colour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..predict.legend import shown_text

Colour = tuple[int, int, int]
Drawn = tuple[Sequence[float], str, Colour, Sequence[tuple[float, float]]]
"""A box (xmin, ymin, xmax, ymax), its label, its colour, and points to mark."""

_DARK, _LIGHT = (24, 24, 24), (255, 255, 255)
_GREY = 128
"""The brightness of a label's ground from which on its text is dark."""


def draw_boxes(image: np.ndarray, boxes: Sequence[Drawn]) -> Image.Image:
    """The image (h, w, 3) uint8 RGB with the boxes on it; the first, the best, is drawn last and so on top."""
    picture = Image.fromarray(image).convert("RGB")
    draw = ImageDraw.Draw(picture)
    line = max(2, round(max(picture.size) / 300))
    font = ImageFont.load_default(size=int(np.clip(max(picture.size) / 40, 10, 28)))
    for box, label, colour, points in reversed(boxes):
        left, top, right, bottom = (round(value) for value in box)
        right, bottom = max(left, min(right, picture.width - 1)), max(top, min(bottom, picture.height - 1))
        draw.rectangle((left, top, right, bottom), outline=colour, width=line)
        for x, y in points:
            draw.ellipse((x - line, y - line, x + line, y + line), fill=colour)
        _label(draw, picture.size, (left, top), shown_text(label), colour, font)
    return picture


def _label(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    corner: tuple[int, int],
    text: str,
    colour: Colour,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """The text above the corner, on the box's colour; moved to where all of it is inside the picture."""
    x0, y0, x1, y1 = draw.textbbox((0, 0), text, font=font)
    width, height = x1 - x0 + 4, y1 - y0 + 4
    left = max(0, min(corner[0], size[0] - width))
    top = max(0, min(corner[1] - height, size[1] - height))
    bright = (299 * colour[0] + 587 * colour[1] + 114 * colour[2]) / 1000
    draw.rectangle((left, top, left + width - 1, top + height - 1), fill=colour)
    draw.text((left + 2 - x0, top + 2 - y0), text, fill=_DARK if bright > _GREY else _LIGHT, font=font)
