"""The record of an image in the table of results, and the files that are written of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.escaping import file_name, json_text
from converters.safety import write_whole

from ..detection import Detections
from ..detection.files import write_detections
from ..predict.classifying import MOST_NAMED, Classification
from ..predict.image_lists import CLASSIFICATION
from ..predict.outputs import write_map, write_outputs
from ..predict.seeing import Seeing
from ..predict.value_map import ValueMap
from ..predictor import Prediction
from .planning import ImageRef

BOX = ("xmin", "ymin", "xmax", "ymax")
"""The columns of a box, in pixels of the image."""


def write_seen(seen: Mapping[str, Seeing], base: Path) -> list[dict[str, Any]]:
    """Write the files that `predict` writes of an image, and say what is in it: the `found` of its row."""
    found: list[dict[str, Any]] = []
    for output, each in seen.items():
        place = base.with_name(f"{base.name}.{file_name(output, dots=False)}") if output else base
        if isinstance(each, Classification):
            path = base.with_name(base.name + CLASSIFICATION)
            write_whole(path, json_text(each.to_json(), indent=2).encode(), durable=False, follow=False)
            found += [
                {"output": output, "label": one.label, "class": one.name, "score": one.score}
                for one in each.found[:MOST_NAMED]
            ]
        elif isinstance(each, Detections):
            write_detections(each, base)
            found += [
                {"output": output, "label": one.class_id, "class": one.name, "score": one.score}
                | dict(zip(BOX, one.box, strict=True))
                for one in each
            ]
        elif isinstance(each, ValueMap):
            write_map(each, place)
            least, largest = each.range
            found.append({"output": output, "least": least, "largest": largest})
        else:
            write_outputs(each, place)
            found += [
                {"output": output, "label": one.label, "class": one.name, "share": one.share}
                for one in each.classes_found()
            ]
    return found


def row_of(item: ImageRef, prediction: Prediction, found: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of an image, in JSON's types: what it is, its size, why it could not be done, what was found."""
    size = next((each.image.shape[:2] for each in (prediction.seen or {}).values()), (None, None))
    height, width = (None if side is None else int(side) for side in size)
    problem = prediction.problem
    return {
        "image": item.image, "name": item.name, "height": height, "width": width, "problem": problem, "found": found,
    }  # fmt: skip
