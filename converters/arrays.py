"""Values of tensors as NumPy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .given import refuse_other_than

if TYPE_CHECKING:
    from torch import Tensor


def to_array(tensor: Tensor) -> np.ndarray:
    """A tensor's values as an array, a view of one on a CPU; bfloat16, which NumPy lacks, becomes float32.

    An array is one as it is.
    """
    from torch import Tensor, bfloat16

    if isinstance(tensor, np.ndarray):
        return tensor
    refuse_other_than(Tensor, tensor, "a tensor")
    return (tensor.float() if tensor.dtype == bfloat16 else tensor).detach().cpu().numpy()
