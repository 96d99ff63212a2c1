"""`Detection` and `Detections`: the objects that a net finds in an image, and their forms in files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
from PIL import Image

from ..predict.notebook import notebook_png
from ..predict.palettes import colour_of
from .drawing import draw_boxes

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
        boxes = [
            (each.box, f"{each.name} {each.score:.2f}", colour_of(self.palette, each.class_id), each.points)
            for each in self
        ]
        return draw_boxes(self.image, boxes)

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

    def _repr_png_(self) -> bytes:
        return notebook_png(self.picture())
