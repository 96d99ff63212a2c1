"""The fill rule: weights and inputs made from names, so that a golden needs no 500 MB file.

Every value is drawn from a generator seeded with the crc32 of a name, in float64, scaled, then rounded to float32.
The same file runs here and inside the oracle (next to real Caffe, on its Python 3.9), so it needs numpy and nothing
else, and both sides hold the same bits.

================================  =========================================================================
what                              value
================================  =========================================================================
Convolution, InnerProduct weight  ``rs("L/0").standard_normal(shape) * sqrt(2 / prod(shape[1:]))``
their bias, and a Scale's         ``rs("L/1").standard_normal(shape) * 0.1``
Deconvolution weight, `random`    as a convolution's: dense and asymmetric, it shows a flipped kernel
Deconvolution weight, `bilinear`  the interpolation kernel of the release's ``surgery.py`` on the channel diagonal
Scale weight                      the constant that the net gives
input blob B                      ``rs("B").standard_normal(shape) * 50``
================================  =========================================================================

``layer-zoo`` nets use another rule, `zoo_blob`, because a BatchNorm's variance must not be negative.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

Shape = Sequence[int]

INPUT_SCALE = 50.0
"""Standard deviation of an input: about that of an image from which the mean was taken."""

SCALE_CONSTANTS = {"scale_pool4": 0.01, "scale_pool3": 0.0001}
"""What the at-once nets multiply their skips by."""


def rs(name: str) -> np.random.RandomState:
    """Generator of one blob, seeded with the crc32 of its name."""
    return np.random.RandomState(zlib.crc32(name.encode()) & 0xFFFFFFFF)


def input_blob(name: str, shape: Shape, *, scale: float = INPUT_SCALE) -> np.ndarray:
    """Values of the input blob `name`, float32."""
    return (rs(name).standard_normal(tuple(shape)) * scale).astype(np.float32)


def bilinear_kernel(size: int) -> np.ndarray:
    """(size, size) float64 interpolation kernel of the release's ``surgery.py``.

    Caffe's own BilinearFiller centres odd kernels differently.
    """
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 == 1 else factor - 0.5
    ramp = 1 - np.abs(np.arange(size) - center) / factor
    return ramp[:, None] * ramp[None, :]


def bilinear_blob(shape: Shape, *, group: int = 1) -> np.ndarray:
    """Deconvolution weight (in, out / group, k, k) that interpolates each channel by itself, float32."""
    channels_in, channels_out, height, width = shape
    if height != width:
        raise ValueError(f"a bilinear kernel is square, not {height} x {width}")
    blob = np.zeros(tuple(shape), np.float32)
    for channel in range(channels_in):
        first_out = channel // (channels_in // group) * channels_out
        if 0 <= channel - first_out < channels_out:
            blob[channel, channel - first_out] = bilinear_kernel(height)
    return blob


def fill_blob(
    layer_name: str,
    layer_type: str,
    position: int,
    shape: Shape,
    *,
    deconvolution: str = "bilinear",
    group: int = 1,
    constant: float | None = None,
) -> np.ndarray:
    """Blob `position` (0 the weight, 1 the bias) of a layer, in the shape in which Caffe holds it, float32.

    `deconvolution` is ``bilinear`` or ``random``; `constant` is the weight of a Scale. Raises ValueError for a type
    that the rule does not cover.
    """
    if deconvolution not in ("bilinear", "random"):
        raise ValueError(f"deconvolution fill is 'bilinear' or 'random', not {deconvolution!r}")
    if layer_type not in ("Convolution", "InnerProduct", "Deconvolution", "Scale") or position > 1:
        raise ValueError(f"the fill rule has no blob {position} for layer {layer_name!r} of type {layer_type}")
    if position == 1:
        return _normal(layer_name, 1, shape, 0.1)
    if layer_type == "Scale":
        if constant is None:
            raise ValueError(f"the weight of Scale {layer_name!r} is the constant that its net gives: pass it")
        return np.full(tuple(shape), constant, np.float32)
    if layer_type == "Deconvolution" and deconvolution == "bilinear":
        return bilinear_blob(shape, group=group)
    return _normal(layer_name, 0, shape, math.sqrt(2 / math.prod(shape[1:])))


def zoo_blob(layer_name: str, layer_type: str, position: int, shape: Shape) -> np.ndarray:
    """Blob `position` of a layer of a ``layer-zoo`` net, float32: weights as above, all else 0.3 as wide."""
    if layer_type == "BatchNorm" and position == 1:  # the running variance
        return (np.abs(rs(f"{layer_name}/1").standard_normal(tuple(shape))) + 0.5).astype(np.float32)
    if layer_type == "BatchNorm" and position == 2:  # the factor by which Caffe divides both running sums
        return np.full(tuple(shape), 2.5, np.float32)
    if layer_type in ("Convolution", "InnerProduct", "Deconvolution") and position == 0:
        return _normal(layer_name, 0, shape, math.sqrt(2 / math.prod(shape[1:])))
    return _normal(layer_name, position, shape, 0.3)


def fcn_layer_types(layer_names: Sequence[str]) -> dict[str, str]:
    """Layer type of each layer with weights of an FCN, which its name tells."""
    prefixes = {"upscore": "Deconvolution", "scale_": "Scale"}
    return {
        name: next((kind for prefix, kind in prefixes.items() if name.startswith(prefix)), "Convolution")
        for name in layer_names
    }


def fill_state(
    params: Mapping[str, Sequence[Shape]],
    types: Mapping[str, str] | None = None,
    *,
    deconvolution: str = "bilinear",
    groups: Mapping[str, int] | None = None,
    constants: Mapping[str, float] = SCALE_CONSTANTS,
) -> dict[str, tuple[np.ndarray, ...]]:
    """All blobs of a net: {layer: its blobs in order}, float32.

    `params` has the blob shapes of each layer (as in ``goldens.shapes()[net].params``), `types` each layer's Caffe
    type (default: `fcn_layer_types`), `groups` the group of grouped deconvolutions.
    """
    types = fcn_layer_types(list(params)) if types is None else types
    return {
        layer: tuple(
            fill_blob(
                layer,
                types[layer],
                position,
                shape,
                deconvolution=deconvolution,
                group=(groups or {}).get(layer, 1),
                constant=constants.get(layer),
            )
            for position, shape in enumerate(shapes)
        )
        for layer, shapes in params.items()
    }


def _normal(layer_name: str, position: int, shape: Shape, scale: float) -> np.ndarray:
    return (rs(f"{layer_name}/{position}").standard_normal(tuple(shape)) * scale).astype(np.float32)
