"""Answers: a net's labels or objects as JSON, as a picture, and as COCO's results."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image

from ..detection import Detections
from ..predict import Segmentation
from ..predict.classifying import Classification
from ..predict.run_lengths import to_coco
from ..predict.segmenting import OfPixels
from ..predict.value_map import ValueMap
from .records import RefusedRequest
from .seeing import Sight

FORMATS: Mapping[str, str] = {
    "json": "the classes with their shares, the range of values, the best classes, or the objects with their boxes",
    "labels": "the labels as an indexed PNG, as predict writes it",
    "overlay": "the image tinted by class with a legend, a map of values in greys, or the image with boxes, as a PNG",
    "coco": "COCO's results: run lengths of each class, or the boxes",
    "page": "a page for people",
}
"""The forms of an answer, by the name that a request gives."""


def to_json(sight: Sight) -> dict[str, Any]:
    """The classes, values or objects in JSON's types; sizes and boxes in pixels of the image."""
    if isinstance(sight, Detections | Classification):
        return sight.to_json()
    h, w = next(iter(sight.values())).image.shape[:2]
    return {"height": h, "width": w, "outputs": [{"output": name, **_said(each)} for name, each in sight.items()]}


def _said(seen: OfPixels) -> dict[str, Any]:
    if isinstance(seen, ValueMap):
        least, largest = seen.range
        return {"channels": len(seen.values), "least": least, "largest": largest}
    return {"classes": list(_classes(seen))}


def _classes(seen: Segmentation) -> Iterator[dict[str, Any]]:
    for each in seen.classes_found():
        colour = "#{:02x}{:02x}{:02x}".format(*each.colour)
        yield {"label": each.label, "name": each.name, "share": each.share, "colour": colour, "drawn": each.drawn}


def coco_results(sight: Sight, image: int | str, output: str | None) -> list[dict[str, Any]]:
    """The records of COCO's results for an image of this id."""
    if isinstance(sight, Detections):
        return [{**each, "image_id": image} for each in sight.to_coco(str(image))]
    instead = "json" if isinstance(sight, Classification) else "json or overlay"
    return list(to_coco(labelled(sight, output, instead), image))


def chosen(sight: Sight, output: str | None, instead: str) -> OfPixels:
    """The answer of the output that a request names, by default the first; 400 for a net without such ones."""
    if isinstance(sight, Classification | Detections):
        what = "finds objects" if isinstance(sight, Detections) else "names images"
        raise RefusedRequest(400, f"this net {what} and labels no pixels; ask for {instead}")
    if output is not None and output not in sight:
        there = "one, which needs no name" if "" in sight else ", ".join(map(repr, sight))
        raise RefusedRequest(400, f"the net has no output {output[:64]!r}; it has {there}")
    return next(iter(sight.values())) if output is None else sight[output]


def labelled(sight: Sight, output: str | None, instead: str) -> Segmentation:
    """The labels of the output that a request names, by default of the first that has some; 400 for none."""
    if output is None and isinstance(sight, Mapping):
        output = next((name for name, each in sight.items() if isinstance(each, Segmentation)), None)
    found = chosen(sight, output, instead)
    if not isinstance(found, Segmentation):
        raise RefusedRequest(400, f"this output is a map of values and no labels; ask for {instead}")
    return found


def labels_picture(sight: Sight, output: str | None) -> Image.Image:
    """The labels as an indexed picture."""
    instead = "json, coco or overlay" if isinstance(sight, Detections) else "json"
    return labelled(sight, output, instead if not isinstance(sight, Mapping) else "json or overlay").label_image()


def overlay_picture(sight: Sight, output: str | None) -> Image.Image:
    """The image with what is seen drawn on it; of values a picture of the first channel."""
    return sight.picture() if isinstance(sight, Detections) else chosen(sight, output, "json").picture()


def png(picture: Image.Image) -> bytes:
    """A picture as a PNG file."""
    out = io.BytesIO()
    picture.save(out, format="PNG")
    return out.getvalue()


def jpeg(picture: Image.Image, *, longest: int) -> bytes:
    """A picture as a JPEG file, its longer side at most `longest`."""
    small = picture.convert("RGB")
    small.thumbnail((longest, longest))
    out = io.BytesIO()
    small.save(out, format="JPEG", quality=88)
    return out.getvalue()
