"""Images at other sizes as cv2.resize makes them, with which the projects feed their nets."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import interpolate


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image (h, w, c) uint8 at `size` (h, w): bilinear between pixel centres and without smoothing (INTER_LINEAR).

    Within 1 of cv2's values, which it computes with 11 bits.
    """
    if image.shape[:2] == size:
        return image
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    found = interpolate(x, list(size), mode="bilinear", align_corners=False, antialias=False)
    return found[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()
