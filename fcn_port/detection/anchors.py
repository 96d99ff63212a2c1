"""`with_anchors`: a YOLO net whose definition ends before its boxes, with the layer behind it that makes them.

Darknet's nets say their anchors in their .cfg, and ports of them to Caffe in the program or in a training layer: what
is left of the net are its heads, whose channels are x, y, width, height, objectness and classes of each anchor. The
layers are those of eric612/MobileNet-YOLO (`converters.layers`, YoloDetectionOutput and Yolov3DetectionOutput).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite

from torch import nn

from converters.errors import NetError
from converters.execution import CaffeNet
from converters.formats import parse_prototxt
from converters.net import NetSpec, Shape, infer_shapes

from ..nets import Net, as_net
from .rows import TYPES

TOP = "detections"
FINEST = 4
"""The least pixels along a side that a place of a head is for: YOLO's are for 8, 16 and 32, a few ports' for 4."""
FARTHEST = 2
"""Anchors that are all smaller than so many of a head's sides are in its places, as YOLO v2's are; else in pixels."""


def with_anchors(net: nn.Module, anchors: Sequence[float]) -> Net:
    """The net with its heads made boxes, by `anchors`, a width and a height for each, as darknet's .cfg lists them.

    Those of a YOLO v2 are in places of its head, those of a v3 or v4 in pixels of its input, the smallest first; each
    head has as many. A Region layer gives way to one that makes boxes. Raises ValueError for anchors that do not fit
    the heads, NetError for a net without any.
    """
    if len(anchors) < 2 or len(anchors) % 2 or not all(isfinite(size) and size > 0 for size in anchors):
        raise ValueError(f"anchors are {len(anchors)} numbers; expected a width and a height above 0 for each")
    given = as_net(net)
    spec = _without_region(given.spec)
    heads = _heads(given, spec)
    if max(anchors) < FARTHEST * max(max(shape[2:]) for shape in heads.values()):
        text = _version_2(heads, anchors)
    else:
        text = _version_3(heads, anchors, given.inputs[next(iter(given.inputs))])
    bottoms = " ".join(f'bottom: "{name}"' for name in _ordered(heads))
    made = parse_prototxt(f'layer {{ name: "{TOP}" {bottoms} top: "{TOP}" {text} }}').layers
    found = CaffeNet(spec.replace_layers((*spec.layers, *made)))
    found.load_state_dict(given.state_dict())
    like = next(given.parameters(), None)
    found = found if like is None else found.to(like.device, like.dtype)
    return _with_card(found.eval(), given)


def _with_card(found: CaffeNet, net: Net) -> Net:
    from ..loading import attach

    names = next(iter(net.card.classes.values()), None)
    attach(found, replace(net.card, classes={} if names is None else {TOP: names}))
    return as_net(found)


def _without_region(spec: NetSpec) -> NetSpec:
    """The net without a Region at its end; NetError where that has no softmax, without which scores are none."""
    last = spec.layers[-1]
    if last.type != "Region":
        return spec
    if not getattr(last.params, "softmax", False):
        raise NetError("its classes have no softmax", path=spec.path, where=last.place)
    return spec.replace_layers(spec.layers[:-1])


def _heads(net: Net, spec: NetSpec) -> dict[str, Shape]:
    """The outputs and their shapes, all of them maps of a convolution."""
    shapes = infer_shapes(spec)
    made = {top: layer.type for layer in spec.layers for top in layer.tops}
    wrong = [name for name in spec.outputs if len(shapes[name]) != 4 or made[name] in TYPES]
    if wrong or len(net.inputs) != 1 or not spec.outputs:
        what = f"'{wrong[0]}' is {made[wrong[0]]}'s" if wrong else f"the inputs are {', '.join(net.inputs)}"
        raise NetError(f"anchors are for YOLO's heads, the outputs of convolutions of one image; here {what}")
    (image,) = net.inputs.values()
    for name in spec.outputs:
        (h, w), places = image[2:], shapes[name][2:]
        if places[0] * FINEST > h + FINEST and places[1] * FINEST > w + FINEST:
            here = f"'{name}' has {places[0]}x{places[1]} places for {h}x{w} pixels"
            raise NetError(f"anchors are for YOLO's heads, which have one place for 8x8 pixels or more; here {here}")
    return {name: shapes[name] for name in spec.outputs}


def _ordered(heads: dict[str, Shape]) -> list[str]:
    """The heads with the fewest places, those of the largest objects, first."""
    return sorted(heads, key=lambda name: heads[name][2] * heads[name][3])


def _classes(heads: dict[str, Shape], boxes: int) -> int:
    counts = {name: shape[1] / boxes - 5 for name, shape in heads.items()}
    if len(set(counts.values())) > 1 or not all(count.is_integer() and count >= 1 for count in counts.values()):
        said = ", ".join(f"'{name}' has {shape[1]}" for name, shape in heads.items())
        raise ValueError(f"{boxes} anchors of a head need {boxes} x (5 + classes) channels; {said}")
    return int(next(iter(counts.values())))


def _version_2(heads: dict[str, Shape], anchors: Sequence[float]) -> str:
    if len(heads) > 2:
        raise ValueError(f"{len(heads)} heads have anchors in pixels; these are at most {max(anchors):g}")
    boxes = len(anchors) // 2
    sizes = " ".join(f"biases: {size!r}" for size in map(float, anchors))
    return (
        f'type: "YoloDetectionOutput" yolo_detection_output_param {{ num_classes: {_classes(heads, boxes)} '
        f"num_box: {boxes} {sizes} }}"
    )


def _version_3(heads: dict[str, Shape], anchors: Sequence[float], image: Shape) -> str:
    boxes, more = divmod(len(anchors) // 2, len(heads))
    if more or not boxes:
        raise ValueError(f"{len(anchors) // 2} anchors do not divide among {len(heads)} heads")
    sizes = " ".join(f"biases: {size!r}" for size in map(float, anchors))
    last = len(heads) * boxes
    masks = [last - boxes * (head + 1) + each for head in range(len(heads)) for each in range(boxes)]
    strides = [image[2] // heads[name][2] for name in _ordered(heads)]
    groups = " ".join([f"mask: {mask}" for mask in masks] + [f"anchors_scale: {stride}" for stride in strides])
    return (
        f'type: "Yolov3DetectionOutput" yolov3_detection_output_param {{ num_classes: {_classes(heads, boxes)} '
        f"num_box: {boxes} mask_group_num: {len(heads)} {sizes} {groups} }}"
    )
