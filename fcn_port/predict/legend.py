"""A legend under a picture: each class that is in it, with its colour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LegendEntry = tuple[str, tuple[int, int, int]]
"""The text that is written, and the colour beside it."""

_LONGEST = 64
"""Characters of an entry; a longer one loses its middle, for its end says how much of the picture it is."""

_INK, _PAPER, _EDGE = (32, 32, 32), (255, 255, 255), (150, 150, 150)


def with_legend(picture: Image.Image, entries: Sequence[LegendEntry]) -> Image.Image:
    """The RGB picture, every pixel as it was, with the entries on white below it, as many in a row as fit.

    The result is wider than the picture where an entry is. Text is in Pillow's own font, on one line of at most 64
    characters; what cannot be shown becomes a question mark.
    """
    if not entries:
        return picture.convert("RGB")
    entries = [(shown_text(text), colour) for text, colour in entries]
    height = int(np.clip(picture.width / 40, 12, 28))
    font = ImageFont.load_default(size=height)
    gap = height // 2
    widths = [int(np.ceil(font.getlength(text))) + height + 3 * gap for text, _ in entries]
    width = max(picture.width, gap + max(widths))
    places, rows = _places(widths, width - gap)
    line = height + gap
    out = Image.new("RGB", (width, picture.height + rows * line + gap), _PAPER)
    out.paste(picture, (0, 0))
    draw = ImageDraw.Draw(out)
    for (text, colour), (x, row) in zip(entries, places, strict=True):
        left, top = x + gap, picture.height + gap + row * line
        draw.rectangle((left, top, left + height - 1, top + height - 1), fill=colour, outline=_EDGE)
        draw.text((left + height + gap, top + height / 2), text, fill=_INK, font=font, anchor="lm")
    return out


def shown_text(text: str) -> str:
    """A text from a file as one short line: Pillow would take 3 kB of memory for each character of a long one."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 20]}\N{HORIZONTAL ELLIPSIS}{text[-19:]}"
    return "".join(each if each.isprintable() else "?" for each in text)


def _places(widths: Sequence[int], width: int) -> tuple[list[tuple[int, int]], int]:
    """The places where entries begin, each as (x, row), and the number of rows."""
    places, x, row = [], 0, 0
    for each in widths:
        if x and x + each > width:
            x, row = 0, row + 1
        places.append((x, row))
        x += each
    return places, row + 1
