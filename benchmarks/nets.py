"""A net to measure with: real widths, weights that keep activations in range. Speed does not depend on their values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

import fcn_port
from converters.layers import im2col as columns
from fcn_port.nets import FCN


def random_net(name: str = "voc-fcn8s") -> FCN:
    """The net called `name` with the same weights on every machine, in eval mode, without gradients."""
    torch.manual_seed(0)
    net = fcn_port.build(name)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            assert module.bias is not None
            nn.init.normal_(module.bias, std=0.5)
    return net.requires_grad_(False)


@contextmanager
def plain_convolutions() -> Iterator[None]:
    """All convolutions of our nets as nn.Conv2d has them, as in a net that a user wrote."""
    before = columns.FEW, columns.SHORT
    columns.FEW = columns.SHORT = 0
    try:
        yield
    finally:
        columns.FEW, columns.SHORT = before


def random_image(net: FCN, size: tuple[int, int], *, batch: int = 1) -> torch.Tensor:
    """Noise of the magnitude of an image less its mean, (batch, 3, h, w)."""
    generator = torch.Generator().manual_seed(size[0] * 10_000 + size[1])
    return 60 * torch.randn(batch, *(shape[1] for shape in net.inputs.values()), *size, generator=generator)


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference of two outputs, as a share of the largest magnitude of the second."""
    return float((found - expected).abs().max() / expected.abs().max())
