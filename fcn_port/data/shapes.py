"""A small data set that anybody may have: seeded shapes on textured grounds, laid out like PASCAL VOC.

Seven classes, each with an outline and a range of hues of its own, so that a narrow net learns them in minutes; with
light, stripes and a soft shadow. Shapes overlap, and a border of 255 surrounds each, as in VOC. The pictures depend on
the seed alone.
"""

from __future__ import annotations

import colorsys
import errno
import io
import math
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from converters.errors import ChoiceError, NotEnoughMemoryError
from converters.given import path_of, whole_number
from converters.safety import machine_memory, make_folder, write_whole
from weights.download import human_bytes
from weights.records import IGNORE_LABEL

from ..predict.palettes import voc_palette

CLASSES = ("background", "circle", "square", "triangle", "star", "cross", "ring")

DRAWING = ".drawing"
"""A file that is in the folder as long as not all of the pictures are: what was asked for."""

DRAWN = ".drawn"
"""Its name then."""

_DRAWN_BYTES = 150
"""Bytes that a pixel takes while it is drawn: colours and distances, each of 8."""
_LONGEST = 65500
"""Pixels; the longest side of a JPEG that its library writes."""
_BLOCK = 4096
"""Bytes of which a disk gives a file a whole number."""

_HUE_SPREAD = 0.035
"""Standard deviation; classes lie 1/6 apart. With 0.06, one shape in six has a hue nearer to another class's."""

Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From coordinates (in units of the radius, y down) to a signed distance: negative inside."""


def make_shapes(
    folder: str | os.PathLike[str], *, count: int, seed: int = 0, size: tuple[int, int] = (96, 128), val: float = 0.25
) -> Path:
    """Write `count` images of `size` (h, w) with their label maps below `folder`, and return it.

    As in VOC: `JPEGImages/<id>.jpg`, `SegmentationClass/<id>.png` (indexed, VOC's palette, borders 255),
    `ImageSets/Segmentation/{train,val,trainval}.txt`, the last `val` of the images for val, but no list of none; and
    `classes.txt`. Before anything is written, OSError for more than the disk has room for, ChoiceError for a size
    that a JPEG does not have, NotEnoughMemoryError for one that is too large to draw.
    """
    root = path_of(folder, "the folder to write")
    count, seed = whole_number(count, "count", least=0), whole_number(seed, "seed", least=0)
    drawing = root / DRAWING
    _check_memory(size)
    first = _files(seed, 0, size)
    _check_room(root, count, first)
    make_folder(root)
    write_whole(drawing, _order(count, seed, size, val), durable=False, follow=False)
    lists = root / "ImageSets" / "Segmentation"
    for each in (root / "JPEGImages", root / "SegmentationClass", lists):
        make_folder(each)
    ids = shape_ids(count=count, seed=seed)
    for index, id_ in enumerate(ids):
        for name, content in (_files(seed, index, size) if index else first).items():
            write_whole(root / name.format(id_), content, durable=False, follow=False)
    first_val = count - round(count * val)
    for name, part in {"train": ids[:first_val], "val": ids[first_val:], "trainval": ids}.items():
        if part:  # an empty list is refused by whoever opens it; one that is not there has not been asked for
            write_whole(lists / f"{name}.txt", "".join(f"{id_}\n" for id_ in part).encode(), follow=False)
    write_whole(root / "classes.txt", "".join(f"{name}\n" for name in CLASSES).encode(), follow=False)
    with suppress(FileNotFoundError):  # who draws the same at the same time may have been the first to end
        drawing.replace(root / DRAWN)
    return root


def _files(seed: int, index: int, size: tuple[int, int]) -> Mapping[str, bytes]:
    """The files of an image of a seed, by their names with {} for its id."""
    image, labels = draw_shapes(np.random.default_rng((seed, index)), size=size)
    indexed = Image.fromarray(labels)
    indexed.putpalette(voc_palette().tobytes())
    jpeg = _encoded(Image.fromarray(image), "JPEG", quality=95, subsampling=0)
    return {"JPEGImages/{}.jpg": jpeg, "SegmentationClass/{}.png": _encoded(indexed, "PNG")}


def _check_memory(size: tuple[int, int]) -> None:
    """ChoiceError for a size that no JPEG has, NotEnoughMemoryError for one that the machine has no memory to draw."""
    if max(size) > _LONGEST:
        raise ChoiceError(f"images of {size[0]}x{size[1]}; expected at most {_LONGEST} pixels a side, as JPEG has them")
    there, needed = machine_memory(), size[0] * size[1] * _DRAWN_BYTES
    if there is not None and needed > there:
        problem = f"an image of {size[0]}x{size[1]} takes about {human_bytes(needed)} to draw"
        raise NotEnoughMemoryError(f"{problem}; this machine has {human_bytes(there)} of memory")


def _check_room(root: Path, count: int, first: Mapping[str, bytes]) -> None:
    """OSError where `count` images with files as large as the first one's are more than the disk has room for."""
    there = next(place for place in (root, *root.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    needed = count * sum(-(-len(content) // _BLOCK) * _BLOCK for content in first.values())
    if needed > free:
        problem = f"{count} images and label maps take about {human_bytes(needed)}"
        raise OSError(errno.ENOSPC, problem, str(root))


def state_of(
    folder: Path, *, count: int, seed: int = 0, size: tuple[int, int] = (96, 128), val: float = 0.25
) -> Literal["empty", "in part", "whole", "other"]:
    """The state of `folder` for `make_shapes` with these settings; "in part" is left by a call that was killed."""
    if not folder.exists():
        return "empty"
    states: dict[str, Literal["in part", "whole"]] = {DRAWING: "in part", DRAWN: "whole"}
    for name, state in states.items():
        if (folder / name).is_file():
            return state if (folder / name).read_bytes() == _order(count, seed, size, val) else "other"
    names = [path.name for path in folder.iterdir()]
    if not names:
        return "empty"
    return "in part" if all(name.startswith(f".{DRAWING}.") and name.endswith(".part") for name in names) else "other"


def _order(count: int, seed: int, size: tuple[int, int], val: float) -> bytes:
    return f"{count} images of {size[0]}x{size[1]}, seed {seed}, {val:g} of them for val\n".encode()


def _encoded(picture: Image.Image, kind: str, **settings: int) -> bytes:
    """A picture's file. Pillow writes a JPEG straight to a disk, and does not notice that it is full."""
    out = io.BytesIO()
    picture.save(out, format=kind, **settings)
    return out.getvalue()


def shape_ids(*, count: int, seed: int) -> tuple[str, ...]:
    """The ids of the images of a seed."""
    return tuple(f"shapes_{seed:04d}_{index:05d}" for index in range(count))


HELD_OUT_IDS = shape_ids(count=60, seed=2)
"""The set that the bundled release is scored on; it learned from images of another seed (`make sample`)."""


def draw_shapes(rng: np.random.Generator, *, size: tuple[int, int] = (96, 128)) -> tuple[np.ndarray, np.ndarray]:
    """An image (h, w, 3) uint8 RGB of two to five shapes, and its labels (h, w) uint8."""
    h, w = size
    image = _ground(rng, size)
    labels = np.zeros(size, np.uint8)
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    for _ in range(int(rng.integers(2, 6))):
        shape = _placed(rng, size)
        distance = shape.distance(x, y)
        shadow = _cover(shape.distance(x - 0.12 * shape.radius, y - 0.16 * shape.radius), softness=0.2 * shape.radius)
        image *= 1 - 0.45 * shadow[..., None]
        cover = _cover(distance, softness=1.0)[..., None]
        image = image * (1 - cover) + _painted(rng, shape, x, y) * cover
        border = max(1.0, 0.012 * min(size))
        labels[distance <= 0] = shape.label
        labels[np.abs(distance) <= border] = IGNORE_LABEL
    noisy = image + rng.normal(0, 0.015, image.shape)
    return (noisy.clip(0, 1) * 255).round().astype(np.uint8), labels


@dataclass(frozen=True)
class _PaintedShape:
    """A shape's place: centre (x, y) and radius in pixels, turned by `angle`, its class and colour (r, g, b)."""

    label: int
    centre: tuple[float, float]
    radius: float
    angle: float
    colour: tuple[float, float, float]

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The signed distance to the outline in pixels, negative inside."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        dx, dy = (x - self.centre[0]) / self.radius, (y - self.centre[1]) / self.radius
        return _OUTLINES[CLASSES[self.label]](c * dx + s * dy, c * dy - s * dx) * self.radius


def _placed(rng: np.random.Generator, size: tuple[int, int]) -> _PaintedShape:
    h, w = size
    label = int(rng.integers(1, len(CLASSES)))
    radius = float(rng.uniform(0.15, 0.32)) * min(size)
    hue = (label - 1) / (len(CLASSES) - 1) + float(rng.normal(0, _HUE_SPREAD))
    colour = colorsys.hsv_to_rgb(hue % 1, float(rng.uniform(0.55, 0.95)), float(rng.uniform(0.65, 1.0)))
    centre = float(rng.uniform(0.1, 0.9)) * w, float(rng.uniform(0.1, 0.9)) * h
    return _PaintedShape(label, centre, radius, float(rng.uniform(-0.45, 0.45)), colour)


def _painted(rng: np.random.Generator, shape: _PaintedShape, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The surface of a shape: light from above left, and stripes."""
    lit = 1.0 - 0.25 * ((x - shape.centre[0]) + (y - shape.centre[1])) / shape.radius
    angle, period = rng.uniform(0, math.pi), rng.uniform(0.25, 0.6) * shape.radius
    stripes = 1 + rng.uniform(0.0, 0.14) * np.sin(2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / period)
    return np.asarray(shape.colour) * (lit.clip(0.55, 1.25) * stripes)[..., None]


def _ground(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A muted ground: two colours mixed by noise of several scales."""
    noise, weight = np.zeros(size), 0.0
    for cells in (2, 4, 8, 16, 32):
        noise += _smooth_noise(rng, size, cells) / cells**0.7
        weight += 1 / cells**0.7
    mix = (noise / weight)[..., None]
    one, other = (
        np.asarray(colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.03, 0.25), rng.uniform(0.25, 0.85)))
        for _ in range(2)
    )
    return one * mix + other * (1 - mix)


def _smooth_noise(rng: np.random.Generator, size: tuple[int, int], cells: int) -> np.ndarray:
    """Noise in 0 to 1 on a grid of `cells`, interpolated to `size`."""
    grid = rng.uniform(0, 1, (cells + 1, cells + 1))
    rows, columns = (np.linspace(0, cells, length, endpoint=False) for length in size)
    i, j = rows.astype(int), columns.astype(int)
    u, v = (_ease(at - at.astype(int)) for at in (rows, columns))
    top = grid[np.ix_(i, j)] * (1 - v) + grid[np.ix_(i, j + 1)] * v
    bottom = grid[np.ix_(i + 1, j)] * (1 - v) + grid[np.ix_(i + 1, j + 1)] * v
    return np.asarray(top * (1 - u[:, None]) + bottom * u[:, None])


def _ease(t: np.ndarray) -> np.ndarray:
    return np.asarray(t * t * (3 - 2 * t))


def _cover(distance: np.ndarray, *, softness: float) -> np.ndarray:
    """1 inside, 0 outside, and a ramp of `softness` pixels on the outline."""
    return np.asarray((0.5 - distance / softness).clip(0, 1))


def _circle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.asarray(np.hypot(x, y) - 1)


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(np.abs(x), np.abs(y)) - 0.85)


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(np.abs(x) * math.sqrt(3) / 2 - y / 2, y) - 0.55)


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five points, the inner corners at 0.45 of the outer ones."""
    sector = 2 * math.pi / 5
    angle = np.abs((np.arctan2(x, -y) + sector / 2) % sector - sector / 2)
    radius = np.hypot(x, y)
    across, along = radius * np.sin(angle), radius * np.cos(angle)
    tip, inner = (1.1, 0.0), (0.5 * math.cos(sector / 2), 0.5 * math.sin(sector / 2))
    nx, ny = inner[1] - tip[1], tip[0] - inner[0]
    length = math.hypot(nx, ny)
    return np.asarray(((along - tip[0]) * nx + (across - tip[1]) * ny) / length)


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    arm = 0.34
    upright = np.maximum(np.abs(x) - arm, np.abs(y) - 1)
    return np.asarray(np.minimum(upright, np.maximum(np.abs(x) - 1, np.abs(y) - arm)))


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(np.hypot(x, y) - 0.75) - 0.27)


_OUTLINES: Mapping[str, Outline] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
}
