"""The passes in their order."""

from __future__ import annotations

from .activations import merge_activations
from .affine import merge_affine
from .flow import Flow
from .sums import merge_sums


def merge(flow: Flow) -> Flow:
    """The flow with as few operations as can be."""
    for each in (merge_affine, merge_sums, merge_activations):
        flow = each(flow)
    return flow
