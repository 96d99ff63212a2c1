"""The classes of a label map as a table that travels with it: in a PNG's text, beside it as JSON, and as CSV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from PIL.PngImagePlugin import PngInfo

from converters.escaping import csv_cell, json_text

from .segmentation import Segmentation

KEYWORD = "Classes"
"""The keyword of the PNG text that holds the table."""
_LONG = 1024
"""Characters from which on a PNG's text is compressed."""
AREA_HEADER = ("image", "output", "label", "class", "pixels", "share")


def class_table(seen: Segmentation) -> list[dict[str, Any]]:
    """Each class that the net knows or the map holds, by label: its name, colour, pixels and share."""
    found = {each.label: each for each in seen.classes_found()}
    labels = sorted({*range(len(seen.classes)), *found})
    return [
        {
            "label": label,
            "name": seen.name(label),
            "color": "#{:02x}{:02x}{:02x}".format(*seen.colour(label)),
            "pixels": found[label].pixels if label in found else 0,
            "share": found[label].share if label in found else 0.0,
        }
        for label in labels
    ]


def png_text(seen: Segmentation) -> PngInfo:
    """The classes with their colours as PNG text: JSON in ASCII under the keyword "Classes"."""
    table = [{key: each[key] for key in ("label", "name", "color")} for each in class_table(seen)]
    text = json_text(table, compact=True)
    info = PngInfo()
    info.add_text("Software", "fcn-port")
    info.add_text(KEYWORD, text, zip=len(text) > _LONG)
    return info


def sidecar(seen: Segmentation) -> str:
    """The classes of a label map, its size, and what its labels came from, as a JSON document."""
    h, w = seen.labels.shape
    coarse = {} if seen.coarse is None else {"upsampled_from": list(seen.coarse)}
    return json_text({"height": h, "width": w, **coarse, "classes": class_table(seen)}, indent=2)


def area_rows(seen: Segmentation, image: object, output: str = "") -> Iterable[Sequence[object]]:
    """A row under AREA_HEADER for each class that occurs, the largest first, safe for spreadsheets."""
    for each in seen.classes_found():
        row = (str(image), output, each.label, each.name, each.pixels, round(each.share, 9))
        yield [csv_cell(cell) for cell in row]
