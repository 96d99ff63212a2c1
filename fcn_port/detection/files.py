"""The files that detection writes for an image, each whole or not there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from converters.escaping import json_text
from converters.safety import whole_file

from ..predict.image_lists import DETECTIONS
from .records import Detections


def write_detections(found: Detections, base: Path) -> dict[str, Path]:
    """Write `<base>.detections.png`, the boxes drawn, and `<base>.detections.json`, the records; paths by kind."""
    picture, records = (base.with_name(base.name + end) for end in DETECTIONS)
    with whole_file(picture, durable=False, follow=False) as file:
        found.picture().save(file, format="PNG")
    with whole_file(records, durable=False, follow=False) as file:
        file.write(json_text(found.to_json()).encode())
    return {"picture": picture, "records": records}


def write_coco(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Write COCO's results, a list of what `Detections.to_coco` gives, as pycocotools' loadRes reads it."""
    with whole_file(path, durable=False, follow=False) as file:
        file.write(json_text(list(results)).encode())
