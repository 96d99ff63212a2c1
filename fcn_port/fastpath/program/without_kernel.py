"""The operations of a flow that are left to PyTorch, told before anything is packed."""

from __future__ import annotations

from collections.abc import Mapping

from converters.net import Shape

from ..flow import Flow
from .kernels import NoKernel, choose
from .places import is_concatenation, place_values, view_of
from .program import shapes_of


def without_kernel(flow: Flow, inputs: Mapping[str, Shape]) -> str | None:
    """The first operation without a native kernel for inputs of these shapes, and why; None where each has one."""
    shapes = shapes_of(flow, inputs)
    places = place_values(flow, shapes).values
    for operation in flow.operations:
        if view_of(operation, places, shapes) is not None or is_concatenation(operation, shapes):
            continue
        bottoms, tops = ([places[name] for name in names] for names in (operation.bottoms, operation.tops))
        kernel = choose(operation, bottoms, tops)
        if isinstance(kernel, NoKernel):
            return f"{operation.name}: {kernel.why}"
    return None
