"""Labels that were drawn: polygons and run lengths as COCO, labelme and CVAT export them, made into label maps.

Pixels that no shape covers are the first class; a later shape lies over an earlier one, and what COCO calls a crowd
does not count.
"""

from __future__ import annotations

import base64
import cmath
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
from PIL import Image, ImageDraw

from weights.records import IGNORE_LABEL

from ..predict.pictures import opened_picture
from ..predict.run_lengths import counts_of_text, mask_of_counts
from .errors import DataError
from .records import Files

_LARGEST = 1 << 28
"""Pixels of an image; more is no image that can be read."""
_FARTHEST = 1e7
"""Pixels from the first one, beyond which no point is taken for one."""
_LONGEST = 4_000_000
"""Pixels of an outline, for each of which COCO's API takes a hundred bytes."""
_RIM = 96
"""Corners of the polygon that an ellipse is drawn as."""
_Paint = Callable[[np.ndarray, int], None]


@dataclass(frozen=True)
class DrawnShape:
    """A shape: the name of its class (None for what does not count), and how it is painted into a map as a label."""

    name: str | None
    paint: _Paint = field(compare=False)


@dataclass(frozen=True)
class Drawing:
    """The shapes of one image: its file's name, its size (h, w), and the file that says so."""

    image: str
    size: tuple[int, int]
    shapes: tuple[DrawnShape, ...]
    path: Path


@dataclass(frozen=True)
class DrawnFiles(Files):
    """Label maps made of drawings, by the image's id; with `others_void` shapes of other classes do not count."""

    drawings: Mapping[str, Drawing] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    others_void: bool = False

    def path(self, id_: str) -> Path:
        """The file that the drawing is from."""
        return self.drawings[id_].path

    def of(self, id_: str) -> np.ndarray:
        """The label map (h, w) uint8 of an image; DataError names a class that is none, or a shape that is broken."""
        drawing = self.drawings[id_]
        labels = np.zeros(drawing.size, np.uint8)
        for number, shape in enumerate(drawing.shapes, start=1):
            if shape.name is not None and shape.name not in self.classes and not self.others_void:
                raise DataError(
                    f"'{shape.name:.60}' is no class",
                    path=drawing.path,
                    where=f"{drawing.image}, shape {number}",
                    hint=f'classes are {", ".join(self.classes)[:200]}; others = "void" in dataset.toml drops others',
                )
            label = self.classes.index(shape.name) if shape.name in self.classes else IGNORE_LABEL
            try:
                shape.paint(labels, label)
            except (ValueError, TypeError, IndexError, KeyError, OverflowError, MemoryError) as error:
                where = f"{drawing.image}, shape {number}"
                raise DataError(
                    f"a shape that cannot be drawn: {error!s:.120}", path=drawing.path, where=where
                ) from None
        return labels


def read_drawings(place: Path) -> tuple[dict[str, Drawing], tuple[str, ...]]:
    """The drawings by id, the image's name without its ending, and the names of all classes in the files' order.

    `place` is COCO's .json, CVAT's .xml ("CVAT for images") or a folder of labelme's .json files. DataError for others.
    """
    if place.is_dir():
        paths = sorted(path for path in place.iterdir() if path.suffix.lower() == ".json")
        found = [_labelme(path) for path in paths]
        names = sorted({shape.name for each in found for shape in each.shapes if shape.name is not None})
    elif place.suffix.lower() == ".xml":
        found, names = _cvat(place)
    elif place.suffix.lower() == ".json":
        found, names = _coco(place)
    elif place.exists():
        raise DataError("expected COCO's .json, CVAT's .xml or a folder of labelme's .json files", path=place)
    else:
        raise FileNotFoundError(f"{place}: there are no such annotations")
    drawings: dict[str, Drawing] = {}
    for each in found:
        id_ = PurePosixPath(each.image.replace("\\", "/")).stem
        if id_ in drawings:
            raise DataError(f"two images are called {id_}", path=place)
        drawings[id_] = each
    if not drawings:
        raise DataError("there is no image in it", path=place)
    return drawings, tuple(dict.fromkeys(names))


def _coco(path: Path) -> tuple[list[Drawing], list[str]]:
    data = _json(path)
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in ("images", "annotations")):
        raise DataError("not COCO's instances: lists images, annotations and categories are expected", path=path)
    try:
        from pycocotools import mask
    except ImportError:
        hint = "pip install 'fcn-port[coco]'"
        raise DataError(
            "COCO's shapes are drawn by pycocotools, which is not installed", path=path, hint=hint
        ) from None
    try:
        names = {each["id"]: str(each["name"]) for each in data.get("categories", [])}
        shapes: dict[Any, list[DrawnShape]] = {}
        for each in data["annotations"]:
            name = None if each.get("iscrowd") else names[each["category_id"]]
            shapes.setdefault(each["image_id"], []).append(DrawnShape(name, _coco_paint(mask, each["segmentation"])))
        drawings = [
            Drawing(
                str(each["file_name"]), _size(each["height"], each["width"]), tuple(shapes.get(each["id"], ())), path
            )
            for each in data["images"]
        ]
        classes = [names[key] for key in sorted(names)]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"not COCO's instances: {type(error).__name__} {error!s:.80}", path=path) from None
    strangers = shapes.keys() - {each["id"] for each in data["images"]}
    if shapes and len(strangers) == len(shapes):
        found = next(iter(strangers))
        raise DataError(f"no shape is of an image in it: image_id {found!r:.40} is none's id", path=path)
    return drawings, classes


def _coco_paint(mask: Any, segmentation: Any) -> _Paint:
    """Polygons [[x, y, x, y ...] ...], or run lengths, as text or as numbers."""

    def paint(labels: np.ndarray, label: int) -> None:
        h, w = labels.shape
        if isinstance(segmentation, dict):
            if list(segmentation["size"]) != [h, w]:
                raise ValueError(f"run lengths of {segmentation['size']} in an image of {[h, w]}")
            counts = segmentation["counts"]
            inside = mask_of_counts(counts_of_text(counts) if isinstance(counts, str) else counts, (h, w))
            labels[inside] = label
        else:
            if not segmentation or any(len(ring) < 6 or len(ring) % 2 for ring in segmentation):
                raise ValueError("a polygon of fewer than three points")
            _check_rings([np.asarray(ring, np.float64).reshape(-1, 2) for ring in segmentation])
            runs = mask.merge(mask.frPyObjects(segmentation, h, w))
            x, y, across, down = (int(value) for value in mask.toBbox(runs))
            box = np.s_[y : y + down, x : x + across]
            labels[box][mask.decode(runs)[box] != 0] = label

    return paint


def _check_rings(rings: Sequence[np.ndarray]) -> None:
    """ValueError for outlines on which COCO's API, which notes each of their pixels, would crash."""
    if not all((np.abs(ring) < _FARTHEST).all() for ring in rings):  # which NaN is not either
        raise ValueError("a point that lies beyond any image")
    if any(np.abs(ring - np.roll(ring, 1, 0)).max(1).sum() > _LONGEST for ring in rings):
        raise ValueError(f"an outline of more than {_LONGEST:,} pixels")


def _labelme(path: Path) -> Drawing:
    data = _json(path)
    try:
        size = _size(data["imageHeight"], data["imageWidth"])
        shapes = [
            DrawnShape(
                str(each["label"]),
                _mask_paint(each["points"], each["mask"])
                if each.get("shape_type") == "mask"
                else _points_paint(each.get("shape_type") or "polygon", each["points"]),
            )
            for each in data["shapes"]
        ]
        image = str(data.get("imagePath") or path.name)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"not labelme's: {type(error).__name__} {error!s:.80}", path=path) from None
    # The image is called as its .json is, wherever it lay when it was labelled.
    return Drawing(path.with_suffix(PurePosixPath(image).suffix or ".jpg").name, size, tuple(shapes), path)


def _cvat(path: Path) -> tuple[list[Drawing], list[str]]:
    text = _bytes(path)
    _refuse_document_types(text, path)
    try:
        root = ElementTree.fromstring(text)
        names = [each.text or "" for each in root.findall(".//labels/label/name")]
        drawings = [
            Drawing(image.attrib["name"], _size(image.attrib["height"], image.attrib["width"]),
                    tuple(_cvat_shapes(image)), path)
            for image in root.findall("image")
        ]  # fmt: skip
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise DataError(f"not CVAT's for images: {type(error).__name__} {error!s:.80}", path=path) from None
    return drawings, names or [s.name for each in drawings for s in each.shapes if s.name is not None]


def _refuse_document_types(text: bytes, path: Path) -> None:
    """DataError for an XML that declares one, in any encoding: entities of its own may grow without end."""

    def refuse(*declaration: object) -> None:
        raise DataError("an XML with a document type, which CVAT does not write", path=path)

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    with suppress(expat.ExpatError):  # what is no XML at all is told where it is read
        parser.Parse(text, True)


def _cvat_shapes(image: ElementTree.Element) -> Iterator[DrawnShape]:
    for shape in sorted(image, key=lambda each: int(each.attrib.get("z_order", 0))):
        said, kind = shape.attrib, shape.tag
        if kind == "polygon":
            points = [[float(value) for value in point.split(",")] for point in said["points"].split(";")]
        elif kind == "box":
            points = [[float(said["xtl"]), float(said["ytl"])], [float(said["xbr"]), float(said["ybr"])]]
            if turn := float(said.get("rotation", 0)):
                (x0, y0), (x1, y1) = points
                points = _turned([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], turn)
                kind = "polygon"
        elif kind == "ellipse":
            x, y, across, down = (float(said[name]) for name in ("cx", "cy", "rx", "ry"))
            rim = [cmath.rect(1, math.tau * i / _RIM) for i in range(_RIM)]
            points = _turned([(x + across * at.real, y + down * at.imag) for at in rim], float(said.get("rotation", 0)))
            kind = "polygon"
        elif kind == "mask":
            runs = [int(value) for value in said["rle"].split(",")]
            box = [int(said[name]) for name in ("left", "top", "width", "height")]
            yield DrawnShape(said["label"], _runs_paint(runs, *box))
            continue
        elif kind == "tag":
            continue
        else:
            points = []
        yield DrawnShape(said["label"], _points_paint("rectangle" if kind == "box" else kind, points))


def _turned(points: Sequence[tuple[float, float]], degrees: float) -> list[list[float]]:
    """Points turned about their middle, clockwise as one sees it (CVAT, RotatedBoxesToPolygons)."""
    places, turn = [complex(*point) for point in points], cmath.rect(1, math.radians(degrees))
    middle = sum(places) / len(places)
    turned = [middle + (place - middle) * turn for place in places]
    return [[place.real, place.imag] for place in turned]


def _runs_paint(runs: Sequence[int], left: int, top: int, width: int, height: int) -> _Paint:
    """CVAT's run lengths: of 0 and 1 in turn, row by row, within a box."""

    def paint(labels: np.ndarray, label: int) -> None:
        box = _box(labels, left, top, width, height)
        if min(runs) < 0 or sum(runs) != width * height:
            raise ValueError("run lengths that do not fill their box")
        box[np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)] = label

    return paint


def _mask_paint(points: Sequence[Sequence[float]], encoded: str) -> _Paint:
    """labelme's mask: a picture as base64, of the pixels from its first corner to its last one, that count but 0."""

    def paint(labels: np.ndarray, label: int) -> None:
        (left, top), (right, bottom) = ((int(x), int(y)) for x, y in points)
        with opened_picture(base64.b64decode(encoded, validate=True)) as image:
            inside = np.asarray(image).astype(bool)
        box = _box(labels, left, top, right - left + 1, bottom - top + 1)
        if inside.shape != box.shape:
            raise ValueError(f"a mask of {inside.shape} pixels in a box of {box.shape}")
        box[inside] = label

    return paint


def _box(labels: np.ndarray, left: int, top: int, width: int, height: int) -> np.ndarray:
    """The pixels of a mask's box, a view; ValueError for one that is not all inside of the image."""
    h, w = labels.shape
    if not (0 <= left <= left + width <= w and 0 <= top <= top + height <= h):
        raise ValueError("a mask that reaches out of its image")
    return labels[top : top + height, left : left + width]


def _points_paint(kind: str, points: Sequence[Sequence[float]]) -> _Paint:
    """A polygon, a rectangle of two corners or a circle of its centre and a point on it, as labelme draws them."""

    def paint(labels: np.ndarray, label: int) -> None:
        corners = [(float(x), float(y)) for x, y in points]
        if not all(math.isfinite(value) and abs(value) < _FARTHEST for corner in corners for value in corner):
            raise ValueError("a point that lies beyond any image")
        if kind == "circle" and len(corners) == 2:
            (x, y), rim = corners
            r = math.dist((x, y), rim)
            corners = [(x - r, y - r), (x + r, y + r)]
        elif not ((kind == "rectangle" and len(corners) == 2) or (kind == "polygon" and len(corners) > 2)):
            raise ValueError(f"a {kind} of {len(corners)} points covers no pixels")
        _draw(labels, kind, [(int(x), int(y)) for x, y in corners], label)

    return paint


def _draw(labels: np.ndarray, kind: str, corners: Sequence[tuple[int, int]], label: int) -> None:
    """Draw a shape by Pillow, which takes pixels to be whole; of a large image only the shape's box is looked at."""
    (h, w), (xs, ys) = labels.shape, zip(*corners, strict=True)
    left, top, right, bottom = max(min(xs), 0), max(min(ys), 0), min(max(xs) + 1, w), min(max(ys) + 1, h)
    if left >= right or top >= bottom:
        return
    image = Image.new("1", (right, bottom))  # from the image's corner on: moved, a rim is rounded otherwise
    draw = ImageDraw.Draw(image)
    if kind == "polygon":
        draw.polygon(corners, fill=1, outline=1)
    else:
        box = [min(xs), min(ys), max(xs), max(ys)]
        (draw.rectangle if kind == "rectangle" else draw.ellipse)(box, fill=1, outline=1)
    labels[top:bottom, left:right][np.asarray(image.crop((left, top, right, bottom)))] = label


def _size(height: Any, width: Any) -> tuple[int, int]:
    h, w = int(height), int(width)
    if not (h > 0 and w > 0 and h * w <= _LARGEST):
        raise ValueError(f"an image of {h}x{w}")
    return h, w


def _json(path: Path) -> Any:
    try:
        return json.loads(_bytes(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error!s:.80}", path=path) from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", path=path) from None
