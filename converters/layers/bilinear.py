"""Bilinear interpolation as a deconvolution's weight, which is what FCN's upsampling layers begin as.

Equations: for a kernel of size k, f = (k + 1) // 2 and centre c = f - 1 for odd k, f - 0.5 for even k,
w[i, j] = (1 - |i - c| / f) (1 - |j - c| / f), on the diagonal of channels and zero elsewhere (the release's
surgery.py). The BilinearFiller of Caffe 1.0 gives the same numbers; older ones had c = (2 f - 1 - f % 2) / (2 f) in
units of f, which is off the centre for some sizes, AlexNet's 63 among them (filler.hpp; tried with pycaffe 1.0.0).
"""

from __future__ import annotations

import numpy as np

from ..net.layer import Shape


def bilinear_kernel(size: int) -> np.ndarray:
    """The (size, size) float64 kernel of the release's surgery.py."""
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 else factor - 0.5
    ramp = 1 - np.abs(np.arange(size) - center) / factor
    return np.outer(ramp, ramp)


def old_bilinear_kernel(size: int) -> np.ndarray:
    """The (size, size) float64 kernel of the BilinearFiller before Caffe 1.0."""
    factor = (size + 1) // 2
    center = (2 * factor - 1 - factor % 2) / (2 * factor)
    ramp = 1 - np.abs(np.arange(size) / factor - center)
    return np.outer(ramp, ramp)


def bilinear_weight(shape: Shape) -> np.ndarray:
    """A float32 weight (in, out / group, k, k) that upsamples each channel by itself.

    With in == out / group the kernel is on the diagonal; with one output for each group, in every place.
    """
    channels_in, channels_out, height, width = shape
    if height != width:
        raise ValueError(f"a bilinear kernel is square; found {height}x{width}")
    weight = np.zeros(shape, np.float32)
    if channels_out == 1:
        weight[:, 0] = bilinear_kernel(height)
    elif channels_in == channels_out:
        weight[range(channels_in), range(channels_in)] = bilinear_kernel(height)
    else:
        raise ValueError(f"{channels_in} channels in, {channels_out} out: there is no diagonal to put the kernel on")
    return weight


def kind_of_upsampling(weight: np.ndarray) -> str:
    """The origin of a stored deconvolution weight, "bilinear" or "learned"; it is used as it is in both cases.

    Rounding is allowed for; the release's kernel and those of all of Caffe's fillers count as bilinear.
    """
    weight = np.asarray(weight)
    if weight.ndim != 4 or weight.shape[2] != weight.shape[3]:
        return "learned"
    channels_in, channels_out = weight.shape[:2]
    if channels_out != 1 and channels_in != channels_out:
        return "learned"
    rows = np.arange(channels_in)
    columns = np.zeros_like(rows) if channels_out == 1 else rows
    diagonal = weight[rows, columns]
    if np.count_nonzero(weight) != np.count_nonzero(diagonal):
        return "learned"
    kernels = (bilinear_kernel(weight.shape[2]), old_bilinear_kernel(weight.shape[2]))
    rounding = max(1e-6, float(np.finfo(weight.dtype).eps)) if weight.dtype.kind == "f" else 0.0
    return "bilinear" if any(np.allclose(diagonal, k, rtol=0, atol=rounding) for k in kernels) else "learned"
