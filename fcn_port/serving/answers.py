"""Answers: a net's labels or objects as JSON, as a picture, and as COCO's results."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
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


def of_output(sight: Sight, output: str | None, names: Sequence[str] = ()) -> Sight:
    """The answer of the output that a request names, else of all of them; 400 for an output that there is not.

    `names` are the net's own; an answer of its only output stands under none.
    """
    if output is None or [output] == list(names):
        return sight
    outputs = sight if isinstance(sight, Mapping) else {}
    if output in outputs:
        return {output: outputs[output]}
    there = ", ".join(map(repr, filter(None, outputs)))
    raise RefusedRequest(400, f"the net has no output {output[:64]!r}; it has {there or ', '.join(map(repr, names))}")


def coco_results(sight: Sight, image: int | str) -> list[dict[str, Any]]:
    """The records of COCO's results for an image of this id."""
    if isinstance(sight, Detections):
        return [{**each, "image_id": image} for each in sight.to_coco(str(image))]
    instead = "json" if isinstance(sight, Classification) else "json or overlay"
    return list(to_coco(_labelled(sight, instead), image))


def labels_picture(sight: Sight) -> Image.Image:
    """The labels of the first output that has some, as an indexed picture."""
    instead = "json, coco or overlay" if isinstance(sight, Detections) else "json"
    return _labelled(sight, instead if not isinstance(sight, Mapping) else "json or overlay").label_image()


def overlay_picture(sight: Sight) -> Image.Image:
    """The image with what is seen drawn on it, of several outputs the first; of values the first channel."""
    return sight.picture() if isinstance(sight, Detections) else _pixels(sight, "json")[0].picture()


def _pixels(sight: Sight, instead: str) -> list[OfPixels]:
    """The answers by output; 400 for a net that says nothing of pixels."""
    if isinstance(sight, Classification | Detections):
        what = "finds objects" if isinstance(sight, Detections) else "names images"
        raise RefusedRequest(400, f"this net {what} and labels no pixels; ask for {instead}")
    return list(sight.values())


def _labelled(sight: Sight, instead: str) -> Segmentation:
    """The labels of the first output that has some; 400 for none."""
    found = next((each for each in _pixels(sight, instead) if isinstance(each, Segmentation)), None)
    if found is None:
        raise RefusedRequest(400, f"this output is a map of values and no labels; ask for {instead}")
    return found


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
