"""The shape of every blob of a net, worked out without computing anything and without torch (net.cpp, Init)."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from math import prod

from ..errors import ChoiceError, NetError, UnknownLayerError
from ..safety.limits import check_limit
from ..wording import shape_text
from .layer import Layer, LayerSpec, Shape, known_types
from .spec import NetSpec, refuse_no_spec
from .spelling import similar_type

MOST_ELEMENTS = 2**63 - 1
"""The most elements that an index into a blob can count."""

MOST_AXES = 32
"""Caffe's own limit for a blob (blob.hpp, kMaxBlobAxes)."""

MOST_ALONG = 2**31 - 1
"""Caffe's own limit for one axis (blob.cpp, Reshape)."""

MOST_LEARNABLE = 2**31 - 1
"""Caffe's own limit for any blob (blob.cpp, Reshape): a net that wants more weights in one blob is damaged."""

MOST_WEIGHTS = 4 << 30
"""Bytes of weights that a definition alone may ask for; a .caffemodel, which protobuf writes, holds 2 GiB at most."""


@dataclass(frozen=True)
class LayerShapes:
    """One layer with the shapes of its bottoms, tops and learnable blobs, and its multiply-accumulates."""

    layer: LayerSpec
    bottoms: tuple[Shape, ...]
    tops: tuple[Shape, ...]
    blobs: tuple[Shape, ...]
    macs: int


def infer_shapes(spec: NetSpec, input_shapes: Mapping[str, Shape] | None = None) -> dict[str, Shape]:
    """The shape of every blob, in the order in which Caffe makes them; a blob changed in place is there once.

    `input_shapes` replaces the shapes that the net gives its inputs. Raises NetError, naming layer, line and bottoms,
    where Caffe would refuse the net, and UnknownLayerError for an unsupported layer type.
    """
    return {
        top: shape
        for row in iter_layer_shapes(spec, input_shapes)
        for top, shape in zip(row.layer.tops, row.tops, strict=True)
    }


def infer_blobs(spec: NetSpec, input_shapes: Mapping[str, Shape] | None = None) -> dict[str, tuple[Shape, ...]]:
    """The shapes of the learnable blobs of every layer that has any, by layer; raises as `infer_shapes` does."""
    return {row.layer.name: row.blobs for row in iter_layer_shapes(spec, input_shapes) if row.blobs}


def shapes_text(shapes: Mapping[str, Shape]) -> str:
    """Blobs with their shapes in words: data 1x3x100x100, label 1."""
    return ", ".join(f"{name} {shape_text(shape)}" for name, shape in shapes.items())


def images_of(inputs: Mapping[str, Shape]) -> frozenset[str]:
    """The inputs that are images: those of four axes, but none of one place only where another one has more.

    12 x 5 x 1 x 1 are the regions of Fast R-CNN's published nets.
    """
    places = {name: prod(shape[2:]) for name, shape in inputs.items() if len(shape) == 4}
    several = frozenset(name for name, count in places.items() if count != 1)
    return several or frozenset(places)


def images_at(inputs: Mapping[str, Shape], size: Sequence[int], *, batch: int | None = None) -> dict[str, Shape]:
    """The shapes of a net's inputs, images at `size` (h, w) and as many as `batch` says, the others as given.

    ChoiceError for what is no size.
    """
    images, size = images_of(inputs), checked_size(size)
    return {name: (batch or shape[0], shape[1], *size) if name in images else shape for name, shape in inputs.items()}


def checked_size(size: object) -> tuple[int, int]:
    """A size (h, w) as two ints; ChoiceError for what is none."""
    with suppress(TypeError, ValueError):
        h, w = (operator.index(side) for side in size)  # type: ignore[attr-defined]
        if min(h, w) > 0:
            return h, w
    raise ChoiceError(f"expected a size (h, w) of two whole numbers above 0; found {size!r:.60}")


def images_at_asked(inputs: Mapping[str, Shape], size: Sequence[int], *, batch: int | None = None) -> dict[str, Shape]:
    """The shapes as `images_at` gives them, for a size that somebody asks for; NetError where no input is an image."""
    if not images_of(inputs):
        h, w = size
        problem = f"no input of the net is an image, which a size of {h}x{w} would be for"
        there = shapes_text(inputs) or "none"
        raise NetError(problem, hint=f"its inputs: {there}; --input NAME=SHAPE gives one another shape")
    return images_at(inputs, size, batch=batch)


def check_weights_fit(
    spec: NetSpec, input_shapes: Mapping[str, Shape], *, own: Mapping[str, tuple[Shape, ...]] | None = None
) -> None:
    """NetError where a net with these inputs has blobs of other shapes, so that its weights are not for them.

    `own` are the blobs of the net's own size, where they are known.
    """
    own = infer_blobs(spec) if own is None else own
    for name, shapes in infer_blobs(spec, input_shapes).items():
        if own.get(name) != shapes:
            given, wanted = (shape_text(each[0]) if each else "none" for each in (own.get(name, ()), shapes))
            problem = f"layer '{name}' has weights {given}, and at this size they would be {wanted}"
            raise NetError(problem, path=spec.path, hint=f"the net's own size is {shapes_text(spec.inputs)}")


def check_weights_made(spec: NetSpec, blobs: Mapping[str, Sequence[Shape]]) -> None:
    """LimitError where weights of these shapes by layer that are to be made would take more than MOST_WEIGHTS."""
    total = 0
    for layer in spec.layers:
        total += 4 * sum(prod(shape) for shape in blobs.get(layer.name, ()))
        check_limit(total, MOST_WEIGHTS, what="the weights of the net up to here would take", where=layer.place)


def iter_layer_shapes(
    spec: NetSpec, input_shapes: Mapping[str, Shape] | None = None, *, open_size: int | None = None
) -> Iterator[LayerShapes]:
    """Every layer of the net with its shapes, in order; raises as `infer_shapes` does, where it gets that far.

    `open_size` is taken for every size that depends on numbers (`Layer.open_sizes`), such as how many boxes are found.
    """
    refuse_no_spec(spec)
    wanted = {name: tuple(shape) for name, shape in (input_shapes or {}).items()}
    shapes: dict[str, Shape] = {}
    try:
        inputs = dict.fromkeys(top for layer in spec.layers if layer.type == "Input" for top in layer.tops)
        strangers = [name for name in wanted if name not in inputs]
        if strangers:
            raise NetError(f"the net has no input '{strangers[0]}'", hint=f"its inputs: {', '.join(inputs) or 'none'}")
        for layer in spec.layers:
            row = _layer_shapes(layer, shapes, wanted, open_size)
            shapes.update(zip(layer.tops, row.tops, strict=True))
            yield row
    except NetError as error:
        if spec.path:
            error.in_file(spec.path)
        raise


def _layer_shapes(
    layer: LayerSpec, shapes: Mapping[str, Shape], wanted: Mapping[str, Shape], open_size: int | None
) -> LayerShapes:
    params = known_params(layer)
    bottoms = _bottoms(layer, params, shapes)
    try:
        tops = _tops(layer, params, bottoms, wanted)
        if len(tops) != len(layer.tops):
            raise ValueError(f"{len(layer.tops)} tops; {layer.type} makes {len(tops)} here")
        for top, shape in zip(layer.tops, tops, strict=True):
            _check_top(top, shape)
        if open_size is not None:
            tops = _opened(tops, params.open_sizes(), open_size)
        blobs = params.blob_shapes(bottoms)
        for position, shape in enumerate(blobs):
            if min(shape, default=1) < 1 or prod(shape) > MOST_LEARNABLE:
                raise ValueError(f"learnable blob {position} would be {shape}")
        return LayerShapes(layer, bottoms, tops, blobs, params.macs(bottoms, tops))
    except NotImplementedError as error:
        hint = f"give its class a method top_shapes; converters/net/layer.py shows how to write {layer.type}"
        raise NetError(str(error), where=layer.place, hint=hint) from None
    except ValueError as error:
        if isinstance(error, NetError):
            raise
        raise NetError(_with_bottoms(str(error), layer, bottoms), where=layer.place, hint=_hint(error, layer)) from None


def _opened(tops: tuple[Shape, ...], places: Sequence[tuple[int, int]], size: int) -> tuple[Shape, ...]:
    return tuple(
        tuple(size if (top, axis) in places else own for axis, own in enumerate(shape))
        for top, shape in enumerate(tops)
    )


def known_params(layer: LayerSpec) -> Layer:
    """The parameters of a layer; UnknownLayerError where its type is not supported."""
    params = layer.params
    if params is not None:
        return params
    kind, name = f"'{layer.type}'", layer.type
    if layer.type == "Python":
        python = layer.message.python_param
        if not python.layer:
            hint = 'its class: python_param { module: "..." layer: "..." }'
            raise UnknownLayerError("python_param does not name a layer", where=layer.place, hint=hint)
        kind += f" ({python.module}.{python.layer})"
        name = f"Python:{python.layer}"
    near = similar_type(name, known_types())
    meant = f"did you mean '{near}'? Else " if near else ""
    raise UnknownLayerError(
        f"unsupported layer type {kind}",
        where=layer.place,
        hint=f'{meant}add it with @register_layer("{name}"), on the command line by --register FILE.py '
        "(converters/net/layer.py shows how), or compute only what does not need it: CaffeNet(spec, outputs=[BLOB])",
    )


def _bottoms(layer: LayerSpec, params: Layer, shapes: Mapping[str, Shape]) -> tuple[Shape, ...]:
    for kind, names, (least, most) in (
        ("bottom", layer.bottoms, params.bottom_count),
        ("top", layer.tops, params.top_count),
    ):
        if not least <= len(names) <= most:
            expected = f"{least}" if least == most else f"{least} to {most}" if most < 2**31 else f"at least {least}"
            raise NetError(f"{len(names)} {kind}s; {layer.type} takes {expected}", where=layer.place)
    for bottom in layer.bottoms:
        if bottom not in shapes:
            raise NetError(f"no layer before makes bottom '{bottom}'", where=layer.place)
    for top, bottom in zip_longest(layer.tops, layer.bottoms[: len(layer.tops)]):
        if top in shapes and top != bottom:
            raise NetError(f"a layer before makes top '{top}' too", where=layer.place)
    return tuple(shapes[bottom] for bottom in layer.bottoms)


def _tops(
    layer: LayerSpec, params: Layer, bottoms: tuple[Shape, ...], wanted: Mapping[str, Shape]
) -> tuple[Shape, ...]:
    if layer.type != "Input":
        return params.top_shapes(bottoms)
    if all(top in wanted for top in layer.tops):
        return tuple(wanted[top] for top in layer.tops)
    given = zip(layer.tops, params.top_shapes(bottoms), strict=True)
    return tuple(wanted.get(top, shape) for top, shape in given)


def _check_top(top: str, shape: Shape) -> None:
    """Refuse a top of nothing, as Caffe does but for one: of a kernel of 5 over 4 rows by a stride of 2 it makes a row.

    C++ takes (4 - 5) / 2 for 0 (conv_layer.cpp, compute_output_shape), and im2col_cpu takes zeros beyond the end.
    """
    if min(shape, default=1) < 1:
        raise _TooSmallError(f"top '{top}' would be {shape}; nothing is left of it")
    if max(shape, default=1) > MOST_ALONG:
        raise ValueError(f"top '{top}' would be {shape}: Caffe counts to 2^31 - 1 along an axis")
    if prod(shape) > MOST_ELEMENTS:
        raise ValueError(f"top '{top}' would be {shape}: more than 2^63 elements")


class _TooSmallError(ValueError):
    """A top without elements."""


def _hint(error: ValueError, layer: LayerSpec) -> str | None:
    if not isinstance(error, _TooSmallError):
        return None
    if layer.type == "Input":
        return f"give the input a shape, such as --input {layer.tops[0]}=1x3x300x300"
    return "the input is too small for this net: feed a larger one"


def _with_bottoms(problem: str, layer: LayerSpec, bottoms: tuple[Shape, ...]) -> str:
    found = ", ".join(f"'{name}' {shape}" for name, shape in zip(layer.bottoms, bottoms, strict=True))
    return f"{problem} (bottoms: {found})" if found else problem
