"""Values of tensors as NumPy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def to_array(tensor: Tensor) -> np.ndarray:
    """A tensor's values as an array, a view of one on a CPU; bfloat16, which NumPy does not have, becomes float32."""
    from torch import bfloat16

    return (tensor.float() if tensor.dtype == bfloat16 else tensor).detach().cpu().numpy()
