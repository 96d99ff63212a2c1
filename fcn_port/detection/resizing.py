"""Images at other sizes as cv2.resize makes them, with which the projects feed their nets."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from converters.errors import NetError


def image_info(shape: Sequence[int], size: Sequence[int], scales: Sequence[float]) -> Tensor:
    """An input im_info of a shape, for an image that was scaled by `scales` (height's, width's) to `size` (h, w).

    Three numbers end in one scale, py-faster-rcnn's; PVANET's four and the six of Intel's nets in those of height and
    width, once and twice.
    """
    length = prod(shape)
    if length not in (3, 4, 6):
        raise NetError(f"im_info has {length} numbers; expected height, width, and one, two or four scales")
    return torch.tensor([*size, *scales, *scales][:length], dtype=torch.float32).reshape(*shape)


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image (h, w, c) uint8 at `size` (h, w): bilinear between pixel centres and without smoothing (INTER_LINEAR).

    Within 1 of cv2's values, which it computes with 11 bits.
    """
    if image.shape[:2] == size:
        return image
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    found = interpolate(x, list(size), mode="bilinear", align_corners=False, antialias=False)
    return found[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()
