"""Layers that are read as a fork's where Caffe's own or the usual reading of them does not fit the net.

interp      zoom_factor multiplies the size in Intel's fork (openvinotoolkit/training_toolbox_caffe, interp_layer.cpp),
            and size - 1 in DeepLab's, which is the usual one
eltwise     a second bottom of fewer axes is spread over the first one's from `axis` on in Synopsys' fork
            (synopsys-caffe, eltwise_layer.cpp), as in a Bias or a Scale of two bottoms
embed       the rows take the place of a last axis of size 1 in bottom-up-attention's fork (embed_layer.cpp)
prior boxes each box is there twice in TextBoxes' fork (MhLiao/TextBoxes, prior_box_layer.cpp); those of 32 and 64
            pixels stand densely in FaceBoxes' (sfzhang15/FaceBoxes, prior_box_layer.cpp)

Needs a net of one phase with Inputs. Ensures the same net, where its shapes fit; else one that comes further, with a
note for each layer that is read so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..layers.fork import READ_AS, fork_fields
from ..net.layer import LayerSpec, Shape, UnknownField
from ..net.spec import NetSpec
from ..schema import LayerParameter
from .work_out import Attempt, attempt

MOST = 40
"""Layers of a net that are read anew, at most."""

Reading = tuple[tuple[LayerSpec, ...], str]
"""The layers of a net with some of them read as a fork's, and the note that says so."""


def with_fork_readings(spec: NetSpec) -> NetSpec:
    """The net with the layers read as the fork's with which it fits; a net that fits comes back as it is."""
    if not any(_is_suspect(layer) for layer in spec.layers):
        return spec
    best, notes = attempt(spec, {}), tuple[str, ...]()
    for _ in range(MOST):
        if best.fits:
            break
        tries = ((reading, attempt(spec.replace_layers(reading[0]), {})) for reading in _readings(spec, best))
        better = next(((reading, trial) for reading, trial in tries if _comes_further(trial, best)), None)
        if better is None:
            break
        (layers, note), best = better
        spec, notes = spec.replace_layers(layers), (*notes, note)
    return replace(spec, notes=(*spec.notes, *notes)) if notes else spec


def _comes_further(trial: Attempt, best: Attempt) -> bool:
    return trial.fits or len(trial.rows) > len(best.rows)


def _is_suspect(layer: LayerSpec) -> bool:
    """True for a layer that some fork reads in another way, and where that is likely."""
    if layer.type in ("Parameter", "Embed"):
        return True
    return layer.type == "PriorBox" or (layer.type == "Interp" and _zoom(layer) > 1)


def _readings(spec: NetSpec, stopped: Attempt) -> Iterator[Reading]:
    """The readings that may let a net go on whose shapes stopped fitting."""
    shapes = {top: shape for row in stopped.rows for top, shape in zip(row.layer.tops, row.tops, strict=True)}
    layer = stopped.stopped
    if layer is None:
        return
    if layer.type == "Eltwise":
        yield from _spread(spec, layer, shapes)
    if layer.type == "DetectionOutput":
        for fork, how in _PRIORS.items():
            yield from _prior_boxes(spec, fork, how)
    yield from _embedded(spec, shapes)
    yield from _zoomed(spec, shapes)


def _embedded(spec: NetSpec, shapes: dict[str, Shape]) -> Iterator[Reading]:
    """Each Embed of a bottom whose last axis is of size 1, as bottom-up-attention's."""
    field = UnknownField(READ_AS, "bottom-up-attention")
    for layer in spec.layers:
        if layer.type == "Embed" and field not in layer.extra and shapes.get(layer.bottoms[0], ())[-1:] == (1,):
            made = replace(layer, extra=(*layer.extra, field))
            note = f"{layer.place} has its rows in place of an axis of size 1, as in bottom-up-attention's fork"
            yield _replaced(spec.layers, {layer.name: made}), note


def _spread(spec: NetSpec, layer: LayerSpec, shapes: dict[str, Shape]) -> Iterator[Reading]:
    """An Eltwise of two bottoms, the second of fewer axes, as the Bias or Scale that it is."""
    param = layer.message.eltwise_param
    if (
        len(layer.bottoms) != 2
        or set(param.coeff) - {1.0}
        or param.operation == param.MAX
        or fork_fields(layer, "eltwise_param").word("operation", "")
    ):
        return
    first, second = (shapes.get(bottom, ()) for bottom in layer.bottoms)
    for axis in (0, *range(1, len(first) - len(second) + 1)):
        if len(second) < len(first) and first[axis : axis + len(second)] == second:
            message = LayerParameter(name=layer.name, bottom=layer.bottoms, top=layer.tops)
            if param.operation == param.SUM:
                message.type, message.bias_param.axis = "Bias", axis
            else:
                message.type, message.scale_param.axis = "Scale", axis
            made = LayerSpec.from_message(message, line=layer.line)
            note = f"{layer.place} spreads its second bottom, as in Synopsys' fork: read as a {made.type}"
            yield _replaced(spec.layers, {layer.name: made}), note


_PRIORS = {
    "TextBoxes": "make each box twice, half a cell apart",
    "FaceBoxes": "make sixteen boxes of min_size 32 and four of 64",
}
"""Forks whose PriorBox gives other numbers of boxes."""


def _prior_boxes(spec: NetSpec, fork: str, how: str) -> Iterator[Reading]:
    field = UnknownField(READ_AS, fork)
    made = {
        layer.name: replace(layer, extra=(*layer.extra, field)) for layer in spec.layers if layer.type == "PriorBox"
    }
    if made:
        note = f"its PriorBox layers {how}, as in {fork}' fork, for so they fit"
        yield _replaced(spec.layers, made), note


def _zoomed(spec: NetSpec, shapes: dict[str, Shape]) -> Iterator[Reading]:
    """All that zoom, with the size that Intel's fork gives each; written as height and width, which all forks read."""
    fixed: dict[str, LayerSpec] = {}
    layers: Sequence[LayerSpec] = spec.layers
    for layer in spec.layers:
        if layer.type != "Interp" or _zoom(layer) < 2:
            continue
        made = {top: shape for row in attempt(spec.replace_layers(tuple(layers)), {}).rows
                for top, shape in zip(row.layer.tops, row.tops, strict=True)}  # fmt: skip
        bottom = made.get(layer.bottoms[0], ())
        if len(bottom) != 4:
            break
        crop = sum(_number(layer, part) for part in ("pad_beg", "pad_end"))
        size = [(side + crop) * _zoom(layer) for side in bottom[2:]]
        fixed[layer.name] = _sized(layer, size)
        layers = _replaced(spec.layers, fixed)
    if fixed:
        names = ", ".join(f"'{name}'" for name in [*fixed][:3])
        note = f"zoom_factor multiplies the size in Interp {names}, as in Intel's fork, for so it fits"
        yield tuple(layers), note


def _sized(layer: LayerSpec, size: Sequence[int]) -> LayerSpec:
    """An Interp with its zoom_factor replaced by the size."""
    extra = []
    for field in layer.extra:
        if field.name == "interp_param" and isinstance(field.value, tuple):
            rest = tuple(child for child in field.value if child.name != "zoom_factor")
            sides = zip(("height", "width"), size, strict=True)
            field = replace(field, value=(*rest, *(UnknownField(name, side) for name, side in sides)))
        extra.append(field)
    return replace(layer, extra=tuple(extra))


def _zoom(layer: LayerSpec) -> int:
    """The zoom_factor of an Interp that gives no size but by that."""
    given = {name for field in layer.extra if field.name == "interp_param" for name in field.children()}
    return _number(layer, "zoom_factor") if "zoom_factor" in given and "shrink_factor" not in given else 0


def _number(layer: LayerSpec, name: str) -> int:
    found = [field.children().get(name, [0])[-1] for field in layer.extra if field.name == "interp_param"]
    return found[-1] if found and isinstance(found[-1], int) else 0


def _replaced(layers: Sequence[LayerSpec], made: dict[str, LayerSpec]) -> tuple[LayerSpec, ...]:
    return tuple(made.get(layer.name, layer) for layer in layers)
