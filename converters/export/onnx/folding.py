"""BatchNorm, BN, Scale and Bias as part of the convolution or inner product before them, which rounds otherwise."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from ...layers.base import canonical_axis
from ...layers.batch_norm import BN, BatchNorm
from ...layers.convolution import Convolution, Deconvolution
from ...layers.inner_product import InnerProduct
from ...layers.scale import Bias, Scale
from ...net.layer import LayerSpec, Shape
from ...net.parameter_sharing import BlobId, borrowed_blobs
from ...net.shapes import LayerShapes, iter_layer_shapes, known_params
from ...net.spec import NetSpec

Arrays = Mapping[BlobId, np.ndarray]
Affine = tuple[np.ndarray, np.ndarray]
"""Factor and summand of each channel, float64."""


def fold(spec: NetSpec, arrays: Arrays, *, keep: Collection[str]) -> tuple[NetSpec, dict[BlobId, np.ndarray]]:
    """The net without those layers that the layer before can do with other weights, and all its weights.

    Only where nobody else reads what is between, and it is not in `keep`; a blob that the layer changes in place keeps
    its last state. Weights are worked out in float64 and rounded once.
    """
    shared = _shared(spec)
    layers, rows, found = list(spec.layers), list(iter_layer_shapes(spec)), dict(arrays)
    index = 0
    while index < len(layers):
        follower = _follower(layers, index, keep)
        if follower is None or layers[index].name in shared or not _meet(rows[index], rows[follower]):
            index += 1
            continue
        affine = _affine(layers[follower], found, shared)
        if affine is None:
            index += 1
            continue
        _absorb(layers[index], found, rows[index].blobs[0], affine)
        layers[index] = _with_bias(layers[index], layers[follower].tops)
        del layers[follower], rows[follower]
    return spec.replace_layers(tuple(layers)), found


def _shared(spec: NetSpec) -> set[str]:
    """The layers that share blobs with others."""
    return {layer for pair in borrowed_blobs(spec).items() for layer, _ in pair}


def _follower(layers: list[LayerSpec], index: int, keep: Collection[str]) -> int | None:
    """The layer that alone reads the top of layer `index`, or that changes it in place before any other reads it."""
    layer = layers[index]
    if type(known_params(layer)) not in (Convolution, Deconvolution, InnerProduct) or len(layer.tops) != 1:
        return None
    top = layer.tops[0]
    readers = [i for i in range(index + 1, len(layers)) if top in layers[i].bottoms]
    if not readers or len(layers[readers[0]].bottoms) != 1 or len(layers[readers[0]].tops) != 1:
        return None
    alone = len(readers) == 1 and top not in keep
    return readers[0] if alone or layers[readers[0]].tops == (top,) else None


def _meet(row: LayerShapes, follower: LayerShapes) -> bool:
    """True where axis 1, which a follower changes by channels, has the outputs, and the top keeps its shape.

    With `axis` outputs are elsewhere, and BN gives its top four axes.
    """
    params = known_params(row.layer)
    assert isinstance(params, (Convolution, InnerProduct))  # the types that have followers
    return canonical_axis(params.axis, row.bottoms[0]) == 1 and row.tops == follower.tops


def _affine(layer: LayerSpec, arrays: Arrays, shared: Collection[str]) -> Affine | None:
    """The factor and the summand by which a layer changes each channel; None for a layer that does something else."""
    params = known_params(layer)
    blobs = [arrays[layer.name, i].reshape(-1).astype(np.float64) for i in range(5) if (layer.name, i) in arrays]
    if layer.name in shared:
        return None
    if isinstance(params, BatchNorm) and params.scale_bias:
        mean, variance, _, scale, shift = blobs
        deviation = np.sqrt(variance + params.eps)
        return scale / deviation, shift - mean * scale / deviation
    if isinstance(params, BatchNorm) and params.use_global_stats is not False and not params.eps_after_root:
        mean, variance, factor = blobs
        inverse = 1 / factor[0] if factor[0] else 0.0
        deviation = np.sqrt(variance * inverse + params.eps)
        return 1 / deviation, -mean * inverse / deviation
    if isinstance(params, BN) and params.running:
        scale, shift, mean, variance = blobs
        deviation = np.sqrt(variance + params.eps)
        return scale / deviation, shift - mean * scale / deviation
    if isinstance(params, BN) and params.merged:
        return blobs[0], blobs[1]
    if isinstance(params, (Scale, Bias)) and not params.two_bottoms and (params.axis, params.num_axes) == (1, 1):
        one, none = np.ones_like(blobs[0]), np.zeros_like(blobs[0])
        if isinstance(params, Bias):
            return one, blobs[0]
        return blobs[0].clip(params.least, params.most), blobs[1] if params.bias else none
    return None


def _absorb(layer: LayerSpec, arrays: dict[BlobId, np.ndarray], shape: Shape, by: Affine) -> None:
    """Change the layer's weights, of this shape, so that its top is multiplied and summed as the affine says."""
    factor, summand = by
    params = known_params(layer)
    weight = arrays[layer.name, 0].reshape(shape).astype(np.float64)
    if isinstance(params, Deconvolution):
        groups = weight.reshape(params.group, -1, *shape[1:])
        weight = (groups * factor.reshape(params.group, 1, -1, *[1] * (len(shape) - 2))).reshape(shape)
    elif isinstance(params, InnerProduct) and params.transpose:
        weight = weight * factor
    else:
        weight = weight * factor.reshape(-1, *[1] * (len(shape) - 1))
    bias = arrays.get((layer.name, 1))
    total = summand if bias is None else bias.reshape(-1) * factor + summand
    arrays[layer.name, 0], arrays[layer.name, 1] = weight.astype(np.float32), total.astype(np.float32)


def _with_bias(layer: LayerSpec, tops: tuple[str, ...]) -> LayerSpec:
    message = layer.to_message()
    inner = isinstance(known_params(layer), InnerProduct)
    (message.inner_product_param if inner else message.convolution_param).bias_term = True
    return replace(LayerSpec.from_message(message, extra=layer.extra, line=layer.line), tops=tops)
