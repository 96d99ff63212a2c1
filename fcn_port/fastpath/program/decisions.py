"""The kernels of a flow, told before anything is packed."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from math import prod

from converters.net import Shape

from ..flow import Flow, FlowStep, Tops
from .choice import Decision, KernelChoice, UsualKernel
from .kernels import choose
from .places import is_concatenation, place_values, view_of
from .shapes import shapes_of
from .traits import traits_of

NOT_PLANNED = (ArithmeticError, LookupError, NotImplementedError, ValueError)
"""Errors where a layer does not take inputs of such shapes."""


def decisions(
    flow: Flow, inputs: Mapping[str, Shape], *, winograd: bool = True, sparing: Container[Tops] = ()
) -> list[tuple[FlowStep, Decision]]:
    """The operations and their kernels; views and concatenations need none.

    `sparing` holds the tops of those whose weights are to stay small.
    """
    shapes = shapes_of(flow, inputs)
    places = place_values(flow, shapes).values
    found, traits = list[tuple[FlowStep, Decision]](), traits_of(flow)
    for operation in flow.operations:
        if view_of(operation, places, shapes) is not None or is_concatenation(operation, shapes):
            continue
        bottoms, tops = ([places[name] for name in names] for names in (operation.bottoms, operation.tops))
        is_spared, facts = operation.tops in sparing, traits.of(operation)
        kernel = choose(operation, bottoms, tops, winograd=winograd, sparing=is_spared, **facts)
        found.append((operation, kernel))
    return found


def usual_kernels(
    flow: Flow, inputs: Mapping[str, Shape], *, winograd: bool = True, sparing: Container[Tops] = ()
) -> dict[Tops, UsualKernel]:
    """The kernels for inputs of these shapes, by tops; none where a layer does not take them."""
    try:
        found = decisions(flow, inputs, winograd=winograd, sparing=sparing)
    except NOT_PLANNED:
        return {}
    return as_usual(found, shapes_of(flow, inputs))


def as_usual(
    found: Iterable[tuple[FlowStep, Decision | None]], shapes: Mapping[str, Shape]
) -> dict[Tops, UsualKernel]:  # fmt: skip
    """The kernels of convolutions among these decisions for values of these shapes, as other sizes are told of them."""
    return {
        operation.tops: UsualKernel(each, prod(shapes[operation.tops[0]])) for operation, each in found
        if isinstance(each, KernelChoice) and operation.convolution is not None
    }  # fmt: skip


def of_one(inputs: Mapping[str, Shape]) -> dict[str, Shape]:
    """These shapes for one image."""
    return {name: (1, *shape[1:]) if len(shape) == 4 else shape for name, shape in inputs.items()}
