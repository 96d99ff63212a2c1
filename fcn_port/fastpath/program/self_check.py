"""A look at every native kernel where it was compiled, beside sums in double precision; what differs is not used.

It is taken once for each library that was compiled: where that is kept, a mark beside it says that it has passed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from converters.formats import parse_prototxt
from converters.layers import concat, convolution, eltwise, inner_product, lrn, neuron, pooling, softmax, upsample
from converters.net import Layer, infer_blobs
from converters.passes import prepare

from ..compiler import NotBuilt
from ..flow import merge, read, state_key
from ..native import build
from ..points import FORMS
from .runner import Runner

_NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 40, 11, 13] } } }
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param {
    num_output: 33 kernel_size: 3 stride: 2 } }
layer { name: "b" type: "Convolution" bottom: "x" top: "b" convolution_param { num_output: 40 kernel_size: 1 } }
layer { name: "b2" type: "PReLU" bottom: "b" top: "b" }
layer { name: "c" type: "Convolution" bottom: "b" top: "c" convolution_param {
    num_output: 40 kernel_size: 3 pad: 1 group: 40 } }
layer { name: "c2" type: "Convolution" bottom: "c" top: "c2" convolution_param {
    num_output: 40 kernel_size: 3 pad: 1 stride: 2 group: 40 } }
layer { name: "y" type: "Input" top: "y" input_param { shape { dim: [1, 64, 9, 7] } } }
layer { name: "j" type: "Convolution" bottom: "y" top: "j" convolution_param { num_output: 72 kernel_size: 1 } }
layer { name: "j2" type: "ReLU" bottom: "j" top: "j" }
layer { name: "k" type: "Convolution" bottom: "y" top: "k" convolution_param { num_output: 33 kernel_size: 3 } }
layer { name: "l" type: "Softmax" bottom: "k" top: "l" }
layer { name: "d" type: "Eltwise" bottom: "b" bottom: "c" top: "d" }
layer { name: "d2" type: "ReLU" bottom: "d" top: "d" }
layer { name: "e" type: "Pooling" bottom: "d" top: "e" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "f" type: "Pooling" bottom: "d" top: "f" pooling_param { kernel_size: 3 stride: 2 pool: AVE } }
layer { name: "g" type: "Concat" bottom: "e" bottom: "f" top: "g" }
layer { name: "h" type: "LRN" bottom: "g" top: "h" lrn_param { local_size: 5 alpha: 0.1 } }
layer { name: "m" type: "Convolution" bottom: "y" top: "m" convolution_param { num_output: 33 kernel_size: 5 } }
layer { name: "n" type: "Convolution" bottom: "y" top: "n" convolution_param { num_output: 33 kernel_size: 7 } }
layer { name: "r" type: "Convolution" bottom: "y" top: "r" convolution_param {
    num_output: 33 kernel_size: 3 pad: 2 dilation: 2 dilation: 3 } }
layer { name: "o" type: "Pooling" bottom: "y" top: "o" top: "p" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "q" type: "Upsample" bottom: "o" bottom: "p" top: "q" upsample_param { upsample_h: 9 upsample_w: 7 } }
layer { name: "s" type: "Deconvolution" bottom: "e" top: "s" convolution_param {
    num_output: 40 group: 40 kernel_size: 8 stride: 4 pad: 1 } }
layer { name: "i" type: "InnerProduct" bottom: "h" top: "i" inner_product_param { num_output: 9 } }
"""

TRIED = ("product", "sparse", "amx", "strassen_1", "strassen_2", *FORMS)
"""The kernels of convolutions; each is taken in turn for what it can compute, the quickest for the rest."""
MOST_APART = 1e-4
"""Of an output's largest value: ten times what the worst of them rounds."""

Doubles = Any
"""Arrays of float64."""


@cache
def why_not_any() -> str | None:
    """The reason why nets are not run by native code here; None where they are."""
    try:
        found = build.library()
    except NotBuilt as error:
        return str(error)
    library = Path(found._name)
    ending = ".tried" if found.has_tiles() else ".tried-without-tiles"  # which the system may deny to one process
    mark = library.with_suffix(ending) if library.parent == build.cache_folder() else None
    if mark is not None and mark.exists():  # nobody but this user can have put it there, or the library
        return None
    reason = _trial()
    if reason is None and mark is not None:
        with suppress(OSError):
            mark.touch(mode=0o600)
    return reason


def _trial() -> str | None:
    """Name an output of the net for trial that some kernel computes wrongly; None where all are right."""
    spec = prepare(parse_prototxt(_NET), input_shapes={})  # those that somebody chose are of another net
    flow = read(spec, spec.outputs)
    generator = np.random.default_rng(0)
    state = {
        state_key((layer, position)): (generator.standard_normal(shape) / 10).astype(np.float32)
        for layer, shapes in infer_blobs(spec).items() for position, shape in enumerate(shapes)
    }  # fmt: skip
    values: dict[str, Doubles] = {}
    inputs = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in spec.inputs.items()}
    values.update({name: x.astype(np.float64) for name, x in inputs.items()})
    for operation in flow.operations:
        part = operation.main
        blobs = [state[state_key(key)].reshape(shape).astype(np.float64) for key, shape in part.blobs]
        values[part.tops[0]] = _exactly(part.params, [values[name] for name in part.bottoms], blobs)
        if isinstance(part.params, pooling.Pooling) and part.params.mask:
            values[part.tops[1]] = _places(part.params, values[part.bottoms[0]])
    for prefer in TRIED:
        found = Runner(merge(flow), state, prefer=prefer).run(inputs, 1)
        for name, value in found.items():
            exact = values[flow.outputs[name]]
            if not float(np.abs(value - exact).max()) <= MOST_APART * float(np.abs(exact).max()):
                return f"'{name}' of a net for trial, as compiled here, differs from sums in double precision"
    return None


def _exactly(params: Layer, bottoms: Sequence[Doubles], blobs: Sequence[Doubles]) -> Doubles:
    """The top of a layer of the net for trial, by its definition."""
    x = bottoms[0]
    if isinstance(params, convolution.Deconvolution):
        return _enlarged(x, blobs[0][:, 0], params) + blobs[1][:, None, None]
    if isinstance(params, convolution.Convolution):
        kernel, stride, pad, dilation = params.along(2)
        windows = _windows(x, kernel, stride, pad, 0.0, dilation)
        n, c, h, w = windows.shape[:4]
        groups = windows.reshape(n, params.group, c // params.group, h, w, *windows.shape[4:])
        weight = blobs[0].reshape(params.group, -1, *blobs[0].shape[1:])
        return np.einsum("ngchwij,gocij->ngohw", groups, weight).reshape(n, -1, h, w) + blobs[1][:, None, None]
    if isinstance(params, pooling.Pooling):
        windows = _windows(x, params.kernel, params.stride, params.pad, -np.inf)
        return windows.max((4, 5)) if params.method == "MAX" else windows.mean((4, 5))
    if isinstance(params, upsample.Upsample) and params.size:
        top = np.zeros((*x.shape[:2], params.size[0] * params.size[1]))
        np.put_along_axis(top, bottoms[1].reshape(*x.shape[:2], -1).astype(int), x.reshape(*x.shape[:2], -1), 2)
        return top.reshape(*x.shape[:2], *params.size)
    if isinstance(params, lrn.LRN):
        half = params.local_size // 2
        squares = np.pad(x * x, ((0, 0), (half, half), (0, 0), (0, 0)))
        around = sliding_window_view(squares, params.local_size, axis=1).sum(-1)
        return x / (params.k + params.alpha / params.local_size * around) ** params.beta
    if isinstance(params, inner_product.InnerProduct):
        return x.reshape(len(x), -1) @ blobs[0].T + blobs[1]
    if isinstance(params, eltwise.Eltwise):
        return np.sum(bottoms, axis=0)
    return _PLAIN[type(params)](bottoms, blobs)


def _enlarged(x: Doubles, weight: Doubles, params: convolution.Deconvolution) -> Doubles:
    """A deconvolution of each channel by itself, tap by tap."""
    (height, width), (down, right), (top, left), _ = params.along(2)
    h, w = x.shape[2:]
    found = np.zeros((*x.shape[:2], (h - 1) * down + height, (w - 1) * right + width))
    for i in range(height):
        for j in range(width):
            rows, cols = slice(i, i + (h - 1) * down + 1, down), slice(j, j + (w - 1) * right + 1, right)
            found[:, :, rows, cols] += x * weight[:, i, j, None, None]
    return found[:, :, top : found.shape[2] - top, left : found.shape[3] - left]


def _places(params: pooling.Pooling, x: Doubles) -> Doubles:
    """The places of maxima, row * width + column."""
    windows = _windows(x, params.kernel, params.stride, params.pad, -np.inf)
    rows, cols = np.divmod(windows.reshape(*windows.shape[:4], -1).argmax(-1), params.kernel[1])
    down, right = (step * np.arange(count) for step, count in zip(params.stride, rows.shape[2:], strict=True))
    return ((rows + down[:, None]) * x.shape[3] + cols + right).astype(np.float64)


def _softmax(bottoms: Sequence[Doubles], _: Sequence[Doubles]) -> Doubles:
    powers = np.exp(bottoms[0] - bottoms[0].max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


_PLAIN: Mapping[type, Callable[[Sequence[Doubles], Sequence[Doubles]], Doubles]] = {
    neuron.ReLU: lambda bottoms, _: np.maximum(bottoms[0], 0),
    neuron.PReLU: lambda bottoms, blobs: np.where(bottoms[0] < 0, bottoms[0] * blobs[0][:, None, None], bottoms[0]),
    concat.Concat: lambda bottoms, _: np.concatenate(bottoms, axis=1),
    softmax.Softmax: _softmax,
}


def _windows(
    x: Doubles, kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int], beyond: float,
    dilation: Sequence[int] = (1, 1),
) -> Doubles:  # fmt: skip
    """The window of each output, (n, c, h, w, kernel_h, kernel_w)."""
    (top, left), (down, right) = pad, stride
    padded = np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)), constant_values=beyond)
    reach = tuple(apart * (side - 1) + 1 for side, apart in zip(kernel, dilation, strict=True))
    windows = sliding_window_view(padded, reach, axis=(2, 3))
    return windows[:, :, ::down, ::right, :: dilation[0], :: dilation[1]]
