"""Looking into a net: every blob after a forward pass, and every shape without one."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor, nn

from converters.net import Shape, check_weights_fit, images_at

from .nets.net import as_net
from .nets.record import NotCaffes


def blobs(net: nn.Module, /, x: Tensor | None = None, **inputs: Tensor) -> dict[str, Tensor]:
    """Every blob by name, inputs included, as Caffe holds it after a forward pass.

    Layers in place have overwritten their bottom: `conv1_1` holds the values after its ReLU. One input goes in by
    position, several by name (`color=, hha=`). No gradients. Of a `fast` net, an engine and a replayed net the blobs
    are those of the net that it stands for; of one that upsamples by dilation those of its one pass; of one that
    shifts and stitches, which has many passes, what goes in and what comes out. Nothing is written to `net`: threads
    may share it. ValueError for a module of which no layers are known.
    """
    own = as_net(net)
    if x is not None:
        names = list(own.inputs)
        if "x" in names:
            inputs["x"] = x
        elif len(names) != 1 or inputs:
            raise TypeError(f"this net has {len(names)} inputs; give them by name: {', '.join(names)}")
        else:
            inputs = {names[0]: x}
    with torch.no_grad():
        return own.blobs(**inputs)


def trace(net: nn.Module, size: tuple[int, int]) -> dict[str, Shape]:
    """The shape (n, c, h, w) of every blob for one image of `size` (h, w); nothing is computed.

    Inputs are included, Caffe's `_split_` copies are not. The blobs are those that `blobs` gives. NetError for a size
    at which the net does not run.
    """
    own, shapes = as_net(net), input_shapes(net, size)
    with suppress(NotCaffes):  # a net that Caffe does not have has no definition to check, and shapes all the same
        check_weights_fit(own.spec, shapes)
    return own.shapes(shapes)


def input_shapes(net: nn.Module, size: tuple[int, int]) -> dict[str, Shape]:
    """The shapes of a net's inputs for one image of `size` (h, w); inputs that are no images keep theirs."""
    return images_at(as_net(net).inputs, size, batch=1)
