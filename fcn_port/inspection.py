"""Looking into a net: every blob after a forward pass, and every shape without one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from converters.execution import CaffeNet
from converters.net import Shape, infer_shapes

from .nets.parts import FCN
from .nets.record import record, shapes_of


def blobs(net: nn.Module, x: Tensor | None = None, **inputs: Tensor) -> dict[str, Tensor]:
    """Every blob by name, inputs included, as Caffe holds it after a forward pass.

    Layers in place have overwritten their bottom: `conv1_1` holds the values after its ReLU. One input goes in by
    position, several by name (`color=, hha=`). Works for hand-written nets and for CaffeNet; no gradients. Of a `fast`
    net the blobs are those of the net that it stands for. Nothing is written to `net`: threads may share it.
    """
    net = _written_out(net)
    if x is not None:
        names = _input_names(net)
        if "x" in names:
            inputs["x"] = x
        elif len(names) != 1 or inputs:
            raise TypeError(f"this net has {len(names)} inputs; give them by name: {', '.join(names)}")
        else:
            inputs = {names[0]: x}
    if isinstance(net, CaffeNet):
        with torch.no_grad():
            return net.blobs(**inputs)
    return record(net, inputs)[1]


def trace(net: nn.Module, size: tuple[int, int]) -> dict[str, Shape]:
    """The shape (n, c, h, w) of every blob for one image of `size` (h, w); nothing is computed.

    Inputs are included, Caffe's `_split_` copies are not.
    """
    net = _written_out(net)
    shapes: Mapping[str, Shape]
    if isinstance(net, CaffeNet):
        shapes = {name: (1, shape[1], *size) if len(shape) == 4 else shape for name, shape in net.spec.inputs.items()}
        return dict(infer_shapes(net.spec, shapes))
    return shapes_of(net, input_shapes(net, size))


def input_shapes(net: nn.Module, size: tuple[int, int]) -> dict[str, Shape]:
    """The shapes of a hand-written net's inputs for one image of `size` (h, w)."""
    channels: Mapping[str, int] = net.inputs  # type: ignore[assignment]
    return {name: (1, count, *size) for name, count in channels.items()}


def _written_out(net: nn.Module) -> nn.Module:
    """The net behind a `fast` one or an engine, which have no blobs of their own."""
    while not isinstance(net, (CaffeNet, FCN)) and isinstance(getattr(net, "net", None), nn.Module):
        net = net.net  # type: ignore[assignment]
    return net


def _input_names(net: nn.Module) -> list[str]:
    if isinstance(net, CaffeNet):
        return list(net.spec.inputs)
    return list(inspect.signature(net.forward).parameters)
