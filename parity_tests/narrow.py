"""Nets of the real geometry with few channels, and the comparison of their outputs."""

from __future__ import annotations

import copy
import functools

import torch
from torch import Tensor, nn

from fcn_port.nets import FCN, SiftFlowFCN8s, Widths
from parity_tests.tolerances import tolerance

NARROW = Widths(4, 4, 6, 6, 6, 8, 8)


def named(output: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
    return output if isinstance(output, dict) else {"score": output}


def narrow(make: type[FCN], dtype: torch.dtype = torch.float32) -> FCN:
    """A net of the real geometry and few channels, with weights and biases that let every layer matter.

    Each is another one: of a net that all had, a test that changed weights left zeros to those behind it.
    """
    return copy.deepcopy(_narrow(make, dtype))


@functools.cache
def _narrow(make: type[FCN], dtype: torch.dtype) -> FCN:
    generator = torch.Generator().manual_seed(len(make.__name__))
    heads = {"sem": 3, "geo": 2} if make is SiftFlowFCN8s else 3
    net = make(num_classes=heads, widths=NARROW).eval()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            spread = (2 / module.weight[0].numel()) ** 0.5
            module.weight.data.normal_(0, spread, generator=generator)
            module.bias.data.normal_(0, 0.5, generator=generator)
    return net.requires_grad_(False).to(dtype)


def image(net: FCN, size: tuple[int, int], *, batch: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(size[0] * 1000 + size[1])
    dtype = next(net.parameters()).dtype
    return {
        name: 50 * torch.randn(batch, channels, *size, generator=generator, dtype=dtype)
        for name, (_, channels, *_) in net.inputs.items()
    }


def same(found: Tensor, expected: Tensor, *, claim: str | None = None) -> bool:
    """Equal within rounding, and with equal labels but where the two best scores are that close."""
    if found.shape != expected.shape:
        return False
    claim = claim or ("lossless" if expected.dtype == torch.float32 else "lossless-double")
    allowed = tolerance(claim) * float(expected.abs().max())
    best = expected.topk(2, dim=1).values
    decided = best[:, 0] - best[:, 1] > 2 * allowed
    equal_labels = (found.argmax(1) == expected.argmax(1)) | ~decided
    return float((found - expected).abs().max()) <= allowed and bool(equal_labels.all())
