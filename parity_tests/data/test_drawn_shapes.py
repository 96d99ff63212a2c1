"""Shapes at any place, also over an image's rim: as drawn over the whole image."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fcn_port.data.drawings import DrawnFiles, read_drawings
from fcn_port.data.masks import read_mask


def labels_of(place: Path) -> np.ndarray:
    drawings, names = read_drawings(place)
    return DrawnFiles(place, "{}", read_mask, drawings=drawings, classes=("background", *names)).of("i0")


def as_labelme(size: tuple[int, int], kind: str, points: list[list[float]]) -> np.ndarray:
    """labelme's own way (utils/shape.py, shape_to_mask)."""
    mask = Image.new("L", size[::-1], 0)
    draw = ImageDraw.Draw(mask)
    corners = [(x, y) for x, y in points]
    if kind == "circle":
        (x, y), rim = corners
        r = math.dist((x, y), rim)
        draw.ellipse([x - r, y - r, x + r, y + r], fill=1, outline=1)
    elif kind == "rectangle":
        (x0, y0), (x1, y1) = corners
        draw.rectangle([min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)], fill=1, outline=1)
    else:
        draw.polygon(corners, fill=1, outline=1)
    return np.asarray(mask)


def shapes(seed: int) -> list[tuple[str, list[list[float]]]]:
    rng = random.Random(seed)
    found = [("polygon", [[3.0, 46.0], [32.0, -8.0], [56.0, 49.0]])]  # moved to 0, one pixel of this one is another
    for kind, corners in [("polygon", 3), ("polygon", 7), ("rectangle", 2), ("circle", 2)] * 10:
        found.append((kind, [[rng.uniform(-30, 80), rng.uniform(-30, 70)] for _ in range(corners)]))
    return found


@pytest.mark.parametrize(("kind", "points"), shapes(0))
def test_labelme(kind: str, points: list[list[float]], tmp_path: Path) -> None:
    said = {"label": "cat", "shape_type": kind, "points": points}
    image = {"imagePath": "i0.jpg", "imageHeight": 37, "imageWidth": 48, "shapes": [said]}
    (tmp_path / "i0.json").write_text(json.dumps(image))
    assert np.array_equal(labels_of(tmp_path), as_labelme((37, 48), kind, points))


@pytest.mark.parametrize("points", [points for kind, points in shapes(1) if kind == "polygon"])
def test_coco(points: list[list[float]], tmp_path: Path) -> None:
    from pycocotools import mask

    flat = [[value for point in points for value in point]]
    said = {"image_id": 1, "category_id": 1, "segmentation": flat}
    image = {"id": 1, "file_name": "i0.jpg", "height": 37, "width": 48}
    whole = {"images": [image], "annotations": [said], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "a.json").write_text(json.dumps(whole))
    expected = mask.decode(mask.merge(mask.frPyObjects(flat, 37, 48)))
    assert np.array_equal(labels_of(tmp_path / "a.json"), expected)
