"""One image, one label for each pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import nn

from weights.records import Preprocessing

from ..palettes import voc_palette
from .images import ImageLike, read_image, to_input


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a net sees in one image.

    `labels` (h, w) is the class of each pixel, the first of the best where scores tie; `scores` (classes, h, w)
    float32 the net's output; `image` (h, w, 3) uint8 RGB what it looked at; `classes` the names, if known; `palette`
    (256, 3) uint8 RGB.
    """

    labels: np.ndarray
    scores: np.ndarray
    image: np.ndarray
    classes: tuple[str, ...]
    palette: np.ndarray

    def label_image(self) -> Image.Image:
        """The label map as an indexed picture: the pixel values are the labels, the palette gives the colours."""
        picture = Image.fromarray(self.labels.astype(np.uint8))
        picture.putpalette(self.palette.astype(np.uint8).tobytes())
        return picture

    def overlay(self, *, opacity: float = 0.6) -> Image.Image:
        """The image with every pixel not labelled 0 tinted in its class's colour."""
        colours = self.palette[self.labels].astype(np.float64)
        weight = np.where(self.labels > 0, opacity, 0.0)[..., None]
        mixed = self.image * (1 - weight) + colours * weight
        return Image.fromarray(mixed.round().astype(np.uint8))

    def share_of_classes(self) -> dict[str, float]:
        """The share of the pixels of each class that occurs, the largest first."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.scores))
        return {self._name(i): float(counts[i]) / self.labels.size for i in np.argsort(-counts) if counts[i]}

    def _name(self, label: int) -> str:
        return self.classes[label] if label < len(self.classes) else f"class {label}"


def segment(
    net: nn.Module, image: ImageLike, *, preprocessing: Preprocessing | None = None
) -> Segmentation | dict[str, Segmentation]:
    """Segment a Pillow image, an image file, or an (h, w, 3) uint8 RGB array, in its own size.

    `net` comes from `load`, or `preprocessing` says how its input is made. A net with several outputs gives one
    Segmentation for each, by name. Raises ImageError for an image that cannot be read, ValueError for a net that does
    not say how its input is made or that takes more than one.
    """
    recipe = preprocessing or getattr(net, "preprocessing", None)
    if recipe is None:
        raise ValueError(
            "this net does not say how its input is made; pass preprocessing=, such as that of a release: "
            'weights.release("voc-fcn8s").preprocessing'
        )
    if len(recipe.inputs) != 1:
        names = ", ".join(each.name for each in recipe.inputs)
        raise ValueError(f"this net has {len(recipe.inputs)} inputs ({names}); segment takes nets with one image")
    pixels = read_image(image)
    parameter = next(net.parameters())
    x = to_input(pixels, recipe.inputs[0]).to(parameter.device, parameter.dtype)
    with torch.inference_mode():
        output = net(x)
    classes: Mapping[str, tuple[str, ...]] = getattr(net, "classes", None) or {}
    colours = getattr(net, "palette", None)
    colours = voc_palette() if colours is None else colours
    if isinstance(output, dict):
        return {n: _segmentation(scores, pixels, classes.get(n, ()), colours) for n, scores in output.items()}
    return _segmentation(output, pixels, next(iter(classes.values()), ()), colours)


def _segmentation(
    output: torch.Tensor, pixels: np.ndarray, classes: tuple[str, ...], colours: np.ndarray
) -> Segmentation:
    scores = output[0].float().cpu().numpy()
    return Segmentation(scores.argmax(axis=0), scores, pixels, classes, colours)
