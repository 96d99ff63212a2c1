"""Seeded weights and inputs for any net, wide enough that every layer matters and no number overflows."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from converters import CaffeNet, NetSpec
from converters.execution.operations import Operation
from converters.export.indices import Limit, drawn, index_inputs
from converters.layers.convolution import Convolution
from converters.layers.inner_product import InnerProduct
from converters.layers.scale import Scale
from converters.net import Shape

LARGE = 3.0
"""The standard deviation from which on a layer's numbers are made smaller."""


def _generator(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(name.encode("utf-8", "surrogateescape")))


def fill_weights(net: CaffeNet) -> None:
    """Fill every learnable blob: kernels by their fan-in, what begins at a constant near it, all else 0.3 as wide."""
    types = {layer.name: layer for layer in net.spec.layers}
    for key, blob in net.state_dict(keep_vars=True).items():
        name, _, part = key.rpartition(".")
        position = {"weight": 0, "bias": 1}.get(part) if part in ("weight", "bias") else int(part[4:])
        assert position is not None
        noise = torch.empty(blob.shape).normal_(generator=_generator(key))
        with torch.no_grad():
            blob.copy_(_values(noise, types[name].type, position, float(blob.flatten()[0]) if blob.numel() else 0.0))


def _values(noise: Tensor, kind: str, position: int, start: float) -> Tensor:
    if kind == "BatchNorm" and position == 1:  # a variance
        return noise.mul_(0.3).abs_().add_(0.5)
    if kind == "BatchNorm" and position == 2:  # the factor by which both sums are divided
        return noise.zero_().add_(1)
    if start:
        return noise.mul_(0.1).add_(1).mul_(start)
    if position == 0 and noise.ndim > 1:
        return noise.mul_(math.sqrt(2 / math.prod(noise.shape[1:])))
    return noise.mul_(0.3)


def tame(net: CaffeNet, inputs: Mapping[str, Tensor]) -> None:
    """Make the weights of each layer smaller whose numbers are more than LARGE wide, in the order of the layers.

    A deep net of noise ends in logits of hundreds: a Softmax is 1 to the last bit then, so that which boxes stay is
    open, and what each program rounds is a hundred times as large behind it. After Mishkin and Matas (2015), "All you
    need is a good init".
    """
    known = net._execute

    def execute(step: Operation, blobs: dict[str, Tensor]) -> None:
        known(step, blobs)
        if not isinstance(step.params, (Convolution, InnerProduct, Scale)) or len(step.bottoms) != 1:
            return
        wide = float(blobs[step.tops[0]].std(correction=0))
        if LARGE < wide < math.inf:
            for place in step.learnable:
                net._learnable(place).mul_(LARGE / wide)
            for name in step.tops:
                blobs[name] = blobs[name] * (LARGE / wide)

    net._execute = execute  # type: ignore[method-assign]
    try:
        with torch.no_grad():
            net(**inputs)
    finally:
        del net._execute


def noise_inputs(spec: NetSpec) -> dict[str, Tensor]:
    """Inputs of the shapes that the net has: images of noise, places where it wants places, boxes inside the image."""
    shapes = dict(spec.inputs)
    limits = index_inputs(spec, shapes)
    image = next((shape[2:] for shape in shapes.values() if len(shape) == 4 and min(shape[2:]) > 1), (100, 100))
    return {name: _input(name, shape, limits.get(name), image) for name, shape in shapes.items()}


def _input(name: str, shape: Shape, limit: Limit | None, image: Shape) -> Tensor:
    generator = _generator(name)
    if "im_info" in name or name == "iminfo":  # (n, 3): height, width and scale
        info = torch.tensor([*map(float, image[-2:]), *[1.0] * 8])
        return info[: shape[-1]].expand(shape).clone() if shape and shape[-1] <= 10 else torch.ones(shape)
    if "roi" in name and math.prod(shape[1:]) == 5:  # (n, 5): image, x1, y1, x2, y2
        return _boxes(shape, image, generator)
    if limit is not None:
        return torch.from_numpy(drawn(limit, shape, np.random.default_rng(0)))
    if name.startswith(("cont", "clip")):  # of a recurrent net: where a sequence goes on
        return torch.ones(shape)
    return torch.empty(shape).normal_(generator=generator)


def _boxes(shape: Shape, image: Shape, generator: torch.Generator) -> Tensor:
    h, w = image[-2:]
    ends = torch.rand(shape[0], 2, 2, generator=generator).sort(dim=1).values * torch.tensor([w - 1.0, h - 1.0])
    return torch.cat([torch.zeros(shape[0], 1), ends.round().reshape(shape[0], 4)], dim=1).reshape(shape)


def as_named(output: Tensor | Mapping[str, Tensor], spec: NetSpec) -> dict[str, Tensor]:
    """A net's answer by name, also where it has one output only."""
    return {spec.outputs[0]: output} if isinstance(output, Tensor) else dict(output)
