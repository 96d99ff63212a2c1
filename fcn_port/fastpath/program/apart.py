"""The test by which several images may be computed one by one: that none is seen where another one is computed."""

from __future__ import annotations

from collections.abc import Mapping

from converters.layers import concat, crop
from converters.net import Shape

from ..flow import Flow, FlowStep
from .program import shapes_of


def keeps_images_apart(flow: Flow, one: Mapping[str, Shape]) -> bool:
    """True where the net takes one image of these shapes, gives one, and of two everything twice, one behind the other.

    Layers that PyTorch computes are not looked at: a plan with such a layer takes its images together.
    """
    try:
        shapes = shapes_of(flow, one)
        twice = {name: (2 * shape[0], *shape[1:]) for name, shape in shapes.items()}
        found = shapes_of(flow, {name: twice[name] for name in flow.inputs})
    except (LookupError, ValueError):
        return False
    if any(_cuts_first_axis(operation, shapes) for operation in flow.operations):
        return False
    return found == twice and all(shapes[value][0] == 1 for value in flow.outputs.values())


def _cuts_first_axis(operation: FlowStep, shapes: Mapping[str, Shape]) -> bool:
    """True where parts of the first axis become blobs of their own: behind a Reshape, half of two images is one."""
    params = operation.main.params
    if not isinstance(params, (concat.Slice, crop.Crop)):
        return False
    return params.axis % len(shapes[operation.bottoms[0]]) == 0
