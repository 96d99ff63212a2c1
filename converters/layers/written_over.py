"""Gradients that Caffe writes over instead of adding to: of the passes of an update (iter_size) the last one counts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def written_over(blob: Tensor) -> Tensor:
    """A learnable blob as it is; its gradient will replace the one that earlier passes left in its `grad`."""
    if not (torch.is_grad_enabled() and blob.requires_grad):
        return blob
    found: Tensor = _WrittenOver.apply(blob)  # type: ignore[no-untyped-call]
    return found


class _WrittenOver(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, blob: Tensor) -> Tensor:
        ctx.owner = blob if blob.is_leaf else blob._base
        return blob.view_as(blob)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        if ctx.owner is not None and ctx.owner.grad is not None:
            ctx.owner.grad.zero_()
        return gradient
