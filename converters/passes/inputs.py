"""Input layers, and the shapes that they get where a data layer stood.

A data layer's definition seldom says how large its blobs are: that is in the data. What is known is used, the rest is
assumed and noted: images of `ASSUMED_SIZE` with three channels, or with as many as `assume_channels` was told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import ChoiceError
from ..net.layer import LayerSpec, Shape, params_if_valid
from ..net.spec import NetSpec
from ..schema import LayerParameter
from ..wording import shape_text
from .data_fields import data_set, image_channels, image_size, input_shape

Weights = Mapping[str, Sequence[np.ndarray]]

ASSUMED_SIZE = (500, 500)
"""(h, w) of an image where neither the net nor its weights tell: photographs, and more than any classifier takes."""
ASSUMED_CHANNELS = 3

_channels_by_blob: dict[str, int] = {}


def assume_channels(blob: str, channels: int) -> None:
    """Assume so many channels of a data layer's blob of this name, where neither the net nor its weights tell.

    For packages that know the nets of somebody: names such as "depth" are conventions of theirs. Holds from now on.
    """
    _channels_by_blob[blob] = channels


OWN = ("Parameter", "ContinuationIndicator")
"""Types without bottoms whose tops are the net's own numbers."""


def is_data(layer: LayerSpec) -> bool:
    """True for a layer that brings data into the net from outside: it has no bottoms, and is none of `OWN`."""
    return not layer.bottoms and bool(layer.tops) and layer.type not in ("Input", *OWN)


class LearnedChannels(NamedTuple):
    """The channels, as weights tell them, of blobs that no layer makes, and the layer that ended the way, by blob.

    `shapes` are those that a layer must have its bottom in, with 1 for a size that is free.
    """

    channels: Mapping[str, int | None]
    ends: Mapping[str, LayerSpec]
    shapes: Mapping[str, Shape]


class StandIn(NamedTuple):
    """The Input layer that stands for a data or Input layer; notes by top where a shape is assumed.

    Of the tops in `sized` the height and width are not assumed.
    """

    layer: LayerSpec
    notes: Mapping[str, str]
    sized: tuple[str, ...] = ()


def input_of(layer: LayerSpec, tops: Sequence[str], learned: LearnedChannels) -> StandIn:
    """The Input layer that stands for the `tops` of a data or Input layer.

    `learned` is what the weights tell (`learned_channels`). An Input layer that gives all its
    shapes and keeps all its tops comes back as it is.
    """
    given = _own_shapes(layer)
    if layer.message.input_param.shape and len(tops) == len(layer.tops) and layer.type == "Input":
        return StandIn(layer, {})
    shapes, notes = [], {}
    size, why = _size(layer)
    channels, known_set = image_channels(layer), data_set(layer)
    usual = known_set[1] if known_set else ASSUMED_CHANNELS
    for top in tops:
        shape = given[top] if top in given else learned.shapes.get(top)
        if top not in given and shape is not None:
            notes[top] = f"the net does not give the size of input '{top}'; {shape_text(shape)} is what reads it"
        if shape is None:
            shape = (1, learned.channels.get(top) or channels or _channels_by_blob.get(top, usual), *size)
            notes[top] = f"the net does not give the size of input '{top}'; {shape_text(shape)} is assumed{why}"
            if top in learned.ends and not learned.channels.get(top):
                notes[top] += f", as it is not said what {learned.ends[top].place} makes of its channels"
        shapes.append(shape)
    message = layer.to_message() if layer.type == "Input" else LayerParameter(name=layer.name, type="Input")
    extra = tuple(field for field in layer.extra if not field.name.startswith(("input_param.", "enable")))
    extra = extra if layer.type == "Input" else ()
    known = tuple(top for top in tops if why or top in learned.shapes)
    return StandIn(_with_shapes(message, tops, shapes, extra=extra, line=layer.line), notes, known)


def constant_notes(layer: LayerSpec, tops: Sequence[str]) -> Iterator[str]:
    """Notes on those `tops` that Caffe fills with a constant and that are inputs here (dummy_data_layer.cpp)."""
    if layer.type != "DummyData":
        return
    fillers, needed = layer.message.dummy_data_param.data_filler, set(tops)
    for position, top in enumerate(layer.tops):
        filler = fillers[min(position, len(fillers) - 1)] if fillers else None
        if top in needed and (filler is None or filler.type == "constant"):
            value = 0.0 if filler is None else filler.value
            yield f"'{top}' is an input here; Caffe's DummyData fills it with {value:g}"


def with_input_shapes(spec: NetSpec, shapes: Mapping[str, Shape]) -> NetSpec:
    """The net with the Input layers' shapes changed to the given ones; ChoiceError for a blob that is no input."""
    known = spec.inputs
    for name in shapes:
        if name not in known:
            raise ChoiceError(f"the net has no input '{name}'", path=spec.path, hint=f"inputs: {', '.join(known)}")
    layers = []
    for layer in spec.layers:
        if layer.type == "Input" and any(top in shapes for top in layer.tops):
            wanted = [tuple(shapes.get(top, known[top])) for top in layer.tops]
            layer = _with_shapes(layer.to_message(), layer.tops, wanted, extra=layer.extra, line=layer.line)
        layers.append(layer)
    return spec.replace_layers(tuple(layers))


def _with_shapes(message: Any, tops: Sequence[str], shapes: Sequence[Shape], **about: Any) -> LayerSpec:
    del message.top[:]
    message.top.extend(tops)
    del message.input_param.shape[:]
    for shape in shapes if len(set(shapes)) > 1 else shapes[:1]:
        message.input_param.shape.add(dim=shape)
    return LayerSpec.from_message(message, **about)


def _own_shapes(layer: LayerSpec) -> dict[str, Shape]:
    """The shapes that a layer's definition fixes, by top."""
    message = layer.message
    shapes: list[Shape] = []
    if layer.type == "Input":
        shapes = [tuple(shape.dim) for shape in message.input_param.shape]
        old = input_shape(layer)
        shapes = shapes or ([old] if old is not None else [])
    elif layer.type == "DummyData":
        shapes = list(_dummy_shapes(message.dummy_data_param))
    elif layer.type == "MemoryData":
        param = message.memory_data_param
        shapes = [(param.batch_size, param.channels, param.height, param.width), (param.batch_size,)]
        shapes = shapes if all(shapes[0]) else []  # Caffe refuses sizes of 0; an image of none is nothing to assume
    if len(shapes) == 1:
        shapes *= len(layer.tops)
    return dict(zip(layer.tops, shapes, strict=False))


def _dummy_shapes(param: Any) -> Iterator[Shape]:
    """DummyData's shapes, or its old num, channels, height and width, each given once or for every top."""
    yield from (tuple(shape.dim) for shape in param.shape)
    old = [param.num, param.channels, param.height, param.width]
    if not param.shape and all(old):
        for index in range(max(map(len, old))):
            yield tuple(dims[min(index, len(dims) - 1)] for dims in old)


def learned_channels(spec: NetSpec, blobs: Weights) -> LearnedChannels:
    """By blob of a layer without bottoms, its channels for which the first convolution on its way has a fitting weight.

    The weight is (O, I/group, kh, kw). What the layers before it make of the channels, they say (`Layer.channels`);
    one that does not say, or that has bottoms from several such blobs, ends the way. One pass for all blobs; without
    weights only the shapes are told.
    """
    counts: dict[str, tuple[str, int, int]] = {}  # whose way the blob is on; its channels where that one has 1, or 2
    found: dict[str, int | None] = {}
    ends: dict[str, LayerSpec] = {}
    for layer in spec.layers:
        if not layer.bottoms:
            counts.update((top, (top, 1, 2)) for top in layer.tops)
            continue
        reached = [counts[bottom] for bottom in layer.bottoms if bottom in counts]
        weight = next(iter(blobs.get(layer.name, ())), None)
        if layer.type == "Convolution" and weight is not None and weight.ndim == 4:
            wanted = int(weight.shape[1]) * layer.message.convolution_param.group
            for source, one, two in reached:
                found.setdefault(source, _solve(one, two, wanted))
        elif len(reached) == len(layer.bottoms) and len({source for source, _, _ in reached}) == 1:
            source = reached[0][0]
            ones = _top_channels(layer, [one for _, one, _ in reached])
            twos = _top_channels(layer, [two for _, _, two in reached])
            for top, one, two in zip(layer.tops, ones, twos, strict=False):
                counts[top] = source, one, two
            if not ones and layer.tops:
                ends.setdefault(source, layer)
    return LearnedChannels(found, ends if blobs else {}, _shapes_by_reader(spec))


def _shapes_by_reader(spec: NetSpec) -> dict[str, Shape]:
    """The shape of each blob that some layer must have in it (`Layer.bottom_shapes`)."""
    shapes: dict[str, Shape] = {}
    for layer in spec.layers:
        params = params_if_valid(layer)
        for position, shape in (params.bottom_shapes() if params is not None else {}).items():
            if position < len(layer.bottoms):
                shapes.setdefault(layer.bottoms[position], tuple(size or 1 for size in shape))
    return shapes


def _top_channels(layer: LayerSpec, bottoms: Sequence[int]) -> tuple[int, ...]:
    """The channels that the layer says its tops have, () where it does not."""
    params = params_if_valid(layer)
    try:
        return (params.channels(bottoms) or ()) if params is not None else ()
    except (ValueError, IndexError):  # settings or bottoms that do not fit: whoever runs the net says so
        return ()


def _solve(for_one: int, for_two: int, wanted: int) -> int | None:
    """The channels for which a count that is `for_one` with one of them and `for_two` with two is the wanted one."""
    each = for_two - for_one
    if not each or (wanted - for_one) % each or wanted < for_one:
        return None
    return 1 + (wanted - for_one) // each


def _size(layer: LayerSpec) -> tuple[tuple[int, int], str]:
    """(h, w) of a data layer's images, and why, in words; the reason is empty where nothing tells."""
    size = image_size(layer) if layer.type != "Input" else None
    if size is not None:
        return size, f", for its layer says {size[0]}x{size[1]}"
    known = data_set(layer)
    if known is not None:
        return (known[2], known[2]), f", as for the images of {known[0]}, after which its files are called"
    return ASSUMED_SIZE, ""
