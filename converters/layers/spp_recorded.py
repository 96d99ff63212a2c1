"""A level of SPP where torch.export records the net for images of any size: no pooling operator takes a free kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def level_by_places(x: Tensor, method: str, bins: int) -> Tensor:
    """(n, c, bins, bins): each pixel goes into its window, along h and then along w.

    Kernel and padding are spp_layer.cpp's (`SPP._level`), so the windows end within the padding, and AVE divides by the
    whole kernel.
    """
    import torch

    kernels = [-(-size // bins) for size in x.shape[2:]]
    for dim, kernel in enumerate(kernels, 2):
        size = x.shape[dim]
        places = torch.arange(size, device=x.device) + (kernel * bins - size + 1) // 2
        window = torch.div(places, kernel, rounding_mode="floor")
        shape = [bins if axis == dim else length for axis, length in enumerate(x.shape)]
        if method == "MAX":
            index = window.reshape(-1, *[1] * (x.ndim - dim - 1)).expand(x.shape)
            x = x.new_full(shape, torch.finfo(x.dtype).min).scatter_reduce(dim, index, x, "amax")
        else:
            x = x.new_zeros(shape).index_add(dim, window, x)
    return x if method == "MAX" else x / torch.scalar_tensor(kernels[0] * kernels[1], dtype=x.dtype, device=x.device)
