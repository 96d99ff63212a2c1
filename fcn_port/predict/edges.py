"""Edges of photographs as pix2pix makes its edges2shoes and edges2handbags: HED's probabilities, thinned and cleaned.

Source: phillipi/pix2pix, scripts/edges/batch_hed.py (the border) and PostprocessHED.m (everything after it); the
suppression is edgesNmsMex.cpp of pdollar/edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from converters.errors import MismatchError
from converters.execution import CaffeNet
from converters.net import NetSpec
from converters.passes import auto_crop
from converters.safety import machine_memory
from weights.records import InputRecipe

from ..errors import ImageMemoryError
from .images import to_input

if TYPE_CHECKING:
    from ..nets import Net

BORDER = 128
"""Pixels of mirrored image around the photograph, so that its own border is no edge."""
HED_INPUT = InputRecipe(name="data", kind="color", channels="bgr", mean=(104.00698793, 116.66876762, 122.67891434))
"""The photograph as HED was trained on it."""


_EDGE_BYTES = 180
"""That a pixel of the edges takes while they are made, measured at 1000x1000 and 2000x2000."""
_INPUT_BYTES = 3 + 12 + 4
"""That a pixel takes as the net's input, and as a probability, beside all that lies between these."""


@dataclass(frozen=True)
class Cleaning:
    """The settings of PostprocessHED.m: the size (h, w) that maps are resized to, a number for a square (None: as they
    are), the probability from which a pixel is an edge, and the least number of pixels of an edge."""

    size: int | tuple[int, int] | None = 256
    threshold: float = 25 / 255
    small_edge: int = 5


def aligned(net: Net) -> Net:
    """The net with its crops where the image lies, as HED's own Caffe worked them out; offsets that are given stay.

    Without them BVLC's Caffe crops at 0, and batch_hed.py makes up for it by taking its cut 35 pixels further on.
    """
    cropped = auto_crop(net.spec)
    if cropped == net.spec:
        return net
    moved: Net = type(net)(cropped) if isinstance(net, CaffeNet) else net
    if moved is not net:
        moved.load_state_dict(net.state_dict(), assign=True)
        moved.card = net.card
    return moved


def edge_output(spec: NetSpec) -> str:
    """The output that says how likely each pixel is an edge: `sigmoid-fuse`, or the only one; MismatchError if none."""
    if "sigmoid-fuse" in spec.outputs:
        return "sigmoid-fuse"
    if len(spec.outputs) == 1:
        return spec.outputs[0]
    raise MismatchError(
        f"the net's outputs are {', '.join(spec.outputs)}", path=spec.path, hint="HED's edges are in its sigmoid-fuse"
    )


def edge_map(net: Net, image_hwc_rgb: np.ndarray, *, border: int = BORDER) -> np.ndarray:
    """The probability of an edge at each pixel, (h, w) float32, of a net from `aligned`.

    The border is the image's mirror image, and that one's, and so on where it is wider than the image.
    """
    h, w = image_hwc_rgb.shape[:2]
    padded = _bordered(image_hwc_rgb, border)
    recipe = net.preprocessing.inputs[0] if net.preprocessing is not None else HED_INPUT
    name = edge_output(net.spec)
    device = next((each.device for each in net.parameters()), torch.device("cpu"))
    with torch.inference_mode():
        found = net(to_input(padded, recipe).to(device))
    scores = (found[name] if isinstance(found, dict) else found)[0].cpu().numpy()
    if scores.shape != (1, *padded.shape[:2]) or not (scores.min() >= 0 and scores.max() <= 1):
        raise MismatchError(
            f"{name} is {scores.shape} with values from {scores.min():g} to {scores.max():g}; expected a probability "
            f"for each of {padded.shape[0]}x{padded.shape[1]} pixels",
            path=net.spec.path,
        )
    found_hw: np.ndarray = scores[0, border : border + h, border : border + w]
    return found_hw


def _bordered(image_hwc: np.ndarray, border: int) -> np.ndarray:
    """The image with mirrored pixels around it, as np.pad's "reflect" (batch_hed.py); ImageMemoryError for too many."""
    h, w = (size + 2 * border for size in image_hwc.shape[:2])
    there = machine_memory()
    if there is not None and h * w * _INPUT_BYTES > there:
        problem = f"not enough memory: with a border of {border} the image is {h}x{w}"
        raise ImageMemoryError(f"{problem}; make it smaller with --border")
    return np.pad(image_hwc, ((border, border), (border, border), (0, 0)), "reflect")


def edges(probability: np.ndarray, cleaning: Cleaning = Cleaning()) -> np.ndarray:
    """The thin, clean edges of a map of probabilities: (h, w) bool; ImageMemoryError where they take too much."""
    from skimage.morphology import thin

    check_room(cleaning.size or probability.shape)
    values = _resized(probability, cleaning.size)
    strong = suppressed(values) >= max(np.finfo(np.float64).eps, cleaning.threshold)
    thinned: np.ndarray = thin(strong)
    return without_small(thinned, cleaning.small_edge)


def check_room(size: int | tuple[int, ...]) -> None:
    """ImageMemoryError where there is no memory for edges of a size (h, w), or of a square's side."""
    h, w = (size, size) if isinstance(size, int) else size
    try:
        np.empty(h * w * _EDGE_BYTES, np.uint8)
    except (MemoryError, ValueError) as error:
        problem = f"not enough memory: edges of {h}x{w} pixels take {h * w * _EDGE_BYTES:,} bytes"
        raise ImageMemoryError(f"{problem}; make them smaller with --size HxW") from error


def picture(found: np.ndarray) -> np.ndarray:
    """Edges in black on white, (h, w) uint8, as the data sets have them."""
    return np.asarray(Image.fromarray(~found).convert("L"))


def suppressed(probability: np.ndarray) -> np.ndarray:
    """The map without what is no maximum across its edge, float32.

    The edge's direction is that of the second derivatives of the map smoothed by a triangle of radius 4. A value stays
    if 1.01 times it is at least the interpolated values one pixel away on both sides; five pixels at the border fade.
    """
    e = probability.astype(np.float32)
    smooth = _triangle(e, 4)
    dy, dx = _slope(smooth, 0), _slope(smooth, 1)
    dxx, dyy, dxy = _slope(dx, 1), _slope(dy, 0), _slope(dy, 1)
    direction = np.mod(np.arctan(dyy * np.sign(-dxy) / (dxx + 1e-5)), np.pi).astype(np.float32)
    h, w = e.shape
    rows, columns = np.indices((h, w))
    kept = e.copy()
    for step in (-1, 1):
        beside = _between(e, rows + step * np.sin(direction), columns + step * np.cos(direction))
        kept[np.float32(1.01) * e < beside] = 0
    margin = min(5, h // 2, w // 2)
    faded: np.ndarray = kept * _fade(h, margin)[:, None] * _fade(w, margin)
    return faded


def without_small(found: np.ndarray, least: int) -> np.ndarray:
    """The edges of at least so many pixels, corners touching (bwareaopen)."""
    from skimage.measure import label

    parts = label(found, connectivity=2)
    large = np.bincount(parts.ravel()) >= least
    large[0] = False
    kept: np.ndarray = large[parts]
    return kept


def _resized(probability: np.ndarray, size: int | tuple[int, int] | None) -> np.ndarray:
    """The map at this size, bicubic; MATLAB's imresize smooths when it makes a map smaller, and so does Pillow."""
    if size is None:
        return probability
    image = Image.fromarray(np.ascontiguousarray(probability, np.float32))
    height, width = (size, size) if isinstance(size, int) else size
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _triangle(values: np.ndarray, radius: int) -> np.ndarray:
    """Smoothed along both axes by a triangle (convTri of Dollar's toolbox): the border is mirrored, with itself."""
    weights = np.concatenate([np.arange(1, radius + 1), [radius + 1], np.arange(radius, 0, -1)]) / (radius + 1) ** 2
    for axis in (0, 1):
        padded = np.pad(values, [(radius, radius) if each == axis else (0, 0) for each in (0, 1)], "symmetric")
        size = values.shape[axis]
        values = sum(weight * padded.take(range(i, i + size), axis=axis) for i, weight in enumerate(weights))
    return values


def _slope(values: np.ndarray, axis: int) -> np.ndarray:
    """The differences along an axis; none where it is a single pixel."""
    return np.asarray(np.gradient(values, axis=axis)) if values.shape[axis] > 1 else np.zeros_like(values)


def _between(values: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Values between the pixels, bilinearly; places outside count as the border (interp of edgesNmsMex.cpp)."""
    h, w = values.shape
    y, x = y.clip(0, max(0, h - 1.001)), x.clip(0, max(0, w - 1.001))
    top, left = y.astype(int), x.astype(int)
    dy, dx = y - top, x - left
    below, right = np.minimum(top + 1, h - 1), np.minimum(left + 1, w - 1)
    upper = (1 - dx) * values[top, left] + dx * values[top, right]
    lower = (1 - dx) * values[below, left] + dx * values[below, right]
    found: np.ndarray = (1 - dy) * upper + dy * lower
    return found


def _fade(length: int, margin: int) -> np.ndarray:
    """Factors along an axis: of a margin of 5 pixels 0, 1/5, 2/5 ... 1 from either end."""
    factors = np.ones(length, np.float32)
    rising = np.arange(margin, dtype=np.float32) / max(margin, 1)
    factors[:margin] *= rising
    factors[length - margin :] *= rising[::-1]
    return factors
