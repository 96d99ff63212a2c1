"""Answers: a net's labels or objects as JSON, as a picture, and as COCO's results."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image

from ..detection import Detections
from ..predict import Segmentation
from ..predict.run_lengths import to_coco
from .records import RefusedRequest
from .seeing import Sight

FORMATS: Mapping[str, str] = {
    "json": "the classes with their shares, or the objects with their boxes",
    "labels": "the labels as an indexed PNG, as predict writes it; not of objects",
    "overlay": "the image tinted by class with a legend, or with boxes, as a PNG",
    "coco": "COCO's results: run lengths of each class, or the boxes",
    "page": "a page for people",
}
"""The forms of an answer, by the name that a request gives."""


def outputs_of(sight: Segmentation | dict[str, Segmentation]) -> dict[str, Segmentation]:
    """The segmentations by output, "" for the only one."""
    return sight if isinstance(sight, dict) else {"": sight}


def to_json(sight: Sight) -> dict[str, Any]:
    """The classes or objects in JSON's types; sizes and boxes in pixels of the image."""
    if isinstance(sight, Detections):
        return sight.to_json()
    outputs = outputs_of(sight)
    h, w = next(iter(outputs.values())).labels.shape
    return {
        "height": h,
        "width": w,
        "outputs": [{"output": name, "classes": list(_classes(each))} for name, each in outputs.items()],
    }


def _classes(seen: Segmentation) -> Iterator[dict[str, Any]]:
    for each in seen.classes_found():
        colour = "#{:02x}{:02x}{:02x}".format(*each.colour)
        yield {"label": each.label, "name": each.name, "share": each.share, "colour": colour, "drawn": each.drawn}


def coco_results(sight: Sight, image: int | str, output: str | None) -> list[dict[str, Any]]:
    """The records of COCO's results for an image of this id."""
    if isinstance(sight, Detections):
        return [{**each, "image_id": image} for each in sight.to_coco(str(image))]
    return list(to_coco(chosen(sight, output), image))


def chosen(sight: Segmentation | dict[str, Segmentation], output: str | None) -> Segmentation:
    """The segmentation by the output that a request names, by default the first."""
    outputs = outputs_of(sight)
    if output is not None and output not in outputs:
        raise RefusedRequest(400, f"the net has no output {output[:64]!r}; it has {', '.join(map(repr, outputs))}")
    return next(iter(outputs.values())) if output is None else outputs[output]


def labels_picture(sight: Sight, output: str | None) -> Image.Image:
    """The labels as an indexed picture."""
    if isinstance(sight, Detections):
        raise RefusedRequest(400, "this net finds objects and labels no pixels; ask for json, coco or overlay")
    return chosen(sight, output).label_image()


def overlay_picture(sight: Sight, output: str | None) -> Image.Image:
    """The image with what is seen drawn on it."""
    return sight.picture() if isinstance(sight, Detections) else chosen(sight, output).picture()


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
