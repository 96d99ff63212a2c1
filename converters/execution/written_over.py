"""Gradients that Caffe writes over instead of adding to: of the passes of an update (iter_size) the last one counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..net.backward import lent_blob
from .operations import Operation


def written_over(step: Operation, bottoms: Sequence[Tensor], blobs: list[Tensor]) -> list[Tensor]:
    """The learnable blobs of a layer; its gradient of the first will replace, where Caffe does it, what `grad` holds.

    That is what earlier passes left. Raises NetError where the layer `lends` its blob to another, whose gradient Caffe
    computes before, and so loses: the bias of a Scale comes before its scale.
    """
    writes = getattr(step.params, "writes_over", None)
    if writes is None or not blobs or not (torch.is_grad_enabled() and blobs[0].requires_grad):
        return blobs
    if not writes([tuple(blob.shape) for blob in bottoms]):
        return blobs
    if step.lends:
        raise lent_blob(step.place)
    first: Tensor = _WrittenOver.apply(blobs[0])  # type: ignore[no-untyped-call]
    return [first, *blobs[1:]]


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
