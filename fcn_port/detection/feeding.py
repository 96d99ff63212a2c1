"""An image through a net that also asks how large the image is, as the projects feed theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from converters.errors import NetError
from converters.net import LayerSpec, NetSpec
from weights.records import InputRecipe

from ..predict.images import to_input
from ..predict.running import taking
from .resizing import image_info

if TYPE_CHECKING:
    from torch import Tensor

    from ..nets import Net

INFO, SIZES = "im_info", "image_sizes"
"""The inputs that tell a net of its image: height, width and scales, and in Cascade R-CNN height and width."""


def kind_of(layer: LayerSpec) -> str:
    """The type of a layer, "Python:Name" of a Python layer."""
    return f"Python:{layer.message.python_param.layer}" if layer.type == "Python" else layer.type


def image_inputs(spec: NetSpec) -> list[str]:
    """The inputs that are not told by the image's size."""
    return [name for name in spec.inputs if name not in (INFO, SIZES)]


def blobs_of(
    net: Net, seen: np.ndarray, recipe: InputRecipe, names: Sequence[str], *, scales: tuple[float, float]
) -> list[Tensor]:
    """The blobs `names`, as rows (n, c) float32 on the CPU, of an image (h, w, 3) uint8 RGB.

    It was scaled by `scales` (height's, width's). NetError for a net that takes more than an image or not this one.
    """
    import torch

    images = image_inputs(net.spec)
    if len(images) != 1:
        raise NetError(f"expected a net with one image as its input, found the inputs {', '.join(net.inputs)}")
    h, w = seen.shape[:2]
    fed = {images[0]: to_input(seen, recipe)}
    if INFO in net.inputs:
        fed[INFO] = image_info(net.inputs[INFO], (h, w), scales)
    if SIZES in net.inputs:
        fed[SIZES] = torch.tensor([[h, w]], dtype=torch.float32).reshape(*net.inputs[SIZES])
    like: Tensor = next(net.parameters(), torch.empty(0))
    with taking((h, w)), torch.inference_mode():
        blobs = net.blobs(**{name: x.to(like.device, like.dtype) for name, x in fed.items()})
        return [blobs[name].flatten(1).float().cpu() for name in names]
