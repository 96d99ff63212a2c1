"""`Detection` and `Detections`: the objects that a net finds in an image, and their forms in files."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
from PIL import Image

from .drawing import draw_boxes

_NOTEBOOK = 1200
"""Pixels of the longer side from which on a notebook gets a smaller picture."""

Box = tuple[float, float, float, float]
"""(xmin, ymin, xmax, ymax) in pixels of the image, inside it; xmax - xmin is the width."""


@dataclass(frozen=True)
class Detection:
    """One object: its class by number and by name, its score, its box, and what points of it the net tells.

    The name is "class 7" where the names of the classes are not known. `points` are (x, y) in pixels of the image.
    """

    class_id: int
    name: str
    score: float
    box: Box
    points: tuple[tuple[float, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The record in JSON's types."""
        found: dict[str, Any] = {"class_id": self.class_id, "name": self.name, "score": self.score}
        found["box"] = dict(zip(("xmin", "ymin", "xmax", "ymax"), self.box, strict=True))
        return found | ({"points": [list(point) for point in self.points]} if self.points else {})


@dataclass(frozen=True, eq=False)
class Detections:
    """The objects in an image, the best score first; a sequence of `Detection`.

    `image` (h, w, 3) uint8 RGB is what the net looked at, `palette` (256, 3) uint8 RGB the colours of the classes. In a
    notebook it shows itself.
    """

    found: tuple[Detection, ...]
    image: np.ndarray
    palette: np.ndarray

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Detection]:
        return iter(self.found)

    @overload
    def __getitem__(self, index: int) -> Detection: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Detection, ...]: ...
    def __getitem__(self, index: int | slice) -> Detection | tuple[Detection, ...]:
        return self.found[index]

    def above(self, score: float) -> Detections:
        """Those with at least this score."""
        return replace(self, found=tuple(each for each in self.found if each.score >= score))

    def picture(self) -> Image.Image:
        """The image with each box in its class's colour, and its name and score beside it."""
        return draw_boxes(
            self.image, [(each.box, f"{each.name} {each.score:.2f}", self._colour(each), each.points) for each in self]
        )

    def to_json(self) -> dict[str, Any]:
        """Height, width and the detections in JSON's types; boxes in pixels of the image."""
        h, w = self.image.shape[:2]
        return {"height": h, "width": w, "detections": [each.to_json() for each in self]}

    def to_coco(self, image: str) -> list[dict[str, Any]]:
        """The detections as COCO's results have them: image_id, category_id, bbox (x, y, width, height), score.

        `image` is the file's name without its ending; where it ends in twelve digits, as COCO's do, these are the id.
        """
        digits = re.search(r"(\d{12})$", image)
        return [
            {
                "image_id": int(digits[1]) if digits else image,
                "category_id": each.class_id,
                "bbox": [each.box[0], each.box[1], each.box[2] - each.box[0], each.box[3] - each.box[1]],
                "score": each.score,
            }
            for each in self
        ]

    def _colour(self, detection: Detection) -> tuple[int, int, int]:
        r, g, b = (int(value) for value in self.palette[detection.class_id % 256])
        return r, g, b

    def _repr_png_(self) -> bytes:
        picture = self.picture()
        picture.thumbnail((_NOTEBOOK, _NOTEBOOK))
        out = io.BytesIO()
        picture.save(out, format="PNG")
        return out.getvalue()
