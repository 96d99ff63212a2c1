"""Sizes at which nets see an image, and `im_info`, which tells them of it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from converters.errors import NetError

if TYPE_CHECKING:
    from torch import Tensor


def image_info(shape: Sequence[int], size: Sequence[int], scales: Sequence[float]) -> Tensor:
    """An input im_info of a shape, for an image that was scaled by `scales` (height's, width's) to `size` (h, w).

    Three numbers end in one scale, py-faster-rcnn's; PVANET's four and the six of Intel's nets in those of height and
    width, once and twice.
    """
    import torch

    length = prod(shape)
    if length not in (3, 4, 6):
        raise NetError(f"im_info has {length} numbers; expected height, width, and one, two or four scales")
    return torch.tensor([*size, *scales, *scales][:length], dtype=torch.float32).reshape(*shape)


def fitted(size: tuple[int, int], *, shorter: float, longer: float) -> tuple[tuple[int, int], float]:
    """The size (h, w) of an image of `size` scaled so that its shorter side is `shorter`, its longer at most `longer`.

    And by how much it is scaled, the same for both sides (py-faster-rcnn, lib/fast_rcnn/test.py, _get_image_blob).
    """
    h, w = size
    scale = min(shorter / min(h, w), longer / max(h, w))
    return (max(1, round(h * scale)), max(1, round(w * scale))), scale


def resize_cubic(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image (h, w, c) uint8 at `size` (h, w) as MATLAB's imresize has it: bicubic (a = -0.5), smoothed if smaller.

    Within 1 of MATLAB's values but for two pixels at the borders, beyond which MATLAB mirrors the image.
    """
    import torch
    from torch.nn.functional import interpolate

    if image.shape[:2] == size:
        return image
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    found = interpolate(x, list(size), mode="bicubic", align_corners=False, antialias=True)
    return found[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()
