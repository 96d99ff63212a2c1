"""Shapes of a flow's values, and whether several images are as good as one after the other."""

from __future__ import annotations

from collections.abc import Mapping

from converters.layers import convolution
from converters.net import Shape

from ..flow import Flow, FlowLayer, FlowStep, own_statistics, recurrence


def shapes_of(flow: Flow, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shape of every value for inputs of these shapes; ValueError where they do not fit the weights."""
    shapes = dict(inputs)
    for operation in flow.operations:
        main, *others = operation.parts
        _add_tops(shapes, main)
        if others and _change_no_shape(operation, shapes):
            for part in others:
                shapes.update(dict.fromkeys(part.tops, shapes[main.tops[0]]))
            continue
        for part in others:
            _add_tops(shapes, part)
    if min(map(min, filter(None, shapes.values())), default=1) < 1:
        raise ValueError("nothing is left of a blob")
    return shapes


def _add_tops(shapes: dict[str, Shape], part: FlowLayer) -> None:
    bottoms = [shapes[name] for name in part.bottoms]
    part.check_weights(bottoms)
    shapes.update(zip(part.tops, part.params.top_shapes(bottoms), strict=True))


def _change_no_shape(operation: FlowStep, shapes: Mapping[str, Shape]) -> bool:
    """True where the layers behind a convolution give its shape, and their weights are for its outputs at any size.

    Half of the layers of a net are such; asking each of them took a tenth of the time that a plan takes. SegNet's BN
    makes images of what has fewer axes.
    """
    params, addend = operation.weighted, operation.addend
    if not isinstance(params, convolution.Convolution) or params.axis != 1 or len(shapes[operation.main.tops[0]]) < 4:
        return False
    return addend is None or shapes[addend] == shapes[operation.main.tops[0]]


def keeps_images_apart(flow: Flow, one: Mapping[str, Shape]) -> bool:
    """True where the net takes one image of these shapes, gives one, and of two everything twice, one behind the other.

    Layers that PyTorch computes are not looked at: a plan with such a layer takes its images together.
    """
    try:
        shapes = shapes_of(flow, one)
        if any(_mixes_images(operation, shapes) for operation in flow.operations):
            return False
        twice = {name: (2 * shape[0], *shape[1:]) for name, shape in shapes.items()}
        found = shapes_of(flow, {name: twice[name] for name in flow.inputs})
    except (LookupError, ValueError):
        return False
    return found == twice and all(shapes[value][0] == 1 for value in flow.outputs.values())


def _mixes_images(operation: FlowStep, shapes: Mapping[str, Shape]) -> bool:
    """True for an operation that may put numbers of several images together, where `shapes` are those of one."""
    own = own_statistics(operation.main.params)
    if own is not None:
        return not own.by_image
    names = (*operation.bottoms, *operation.tops)
    if recurrence(operation.main.params, [shapes[name] for name in operation.bottoms]) is not None:
        return True
    return operation.main.params.moves and any(shapes[name][:1] != (1,) for name in names)
