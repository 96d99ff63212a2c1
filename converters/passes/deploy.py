"""The net that people run, of the net that was trained: no data, loss or accuracy layers, Inputs instead.

Needs a net as it was read. Ensures that every layer is one of the phase, without rules, that all bottoms are made, and
that what brings data in is an Input layer with shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..layers import find_layer
from ..net.layer import LayerSpec, Shape, params_if_valid
from ..net.spec import NetSpec
from .filter_phase import Phase, filter_phase
from .input_size import fit_size
from .inputs import Weights, constant_notes, input_of, is_data, learned_channels, with_input_shapes


def to_deploy(
    spec: NetSpec,
    *,
    input_shapes: Mapping[str, Shape] | None = None,
    blobs: Weights | None = None,
    phase: Phase = "TEST",
    level: int = 0,
    stages: Sequence[str] = (),
) -> NetSpec:
    """The net that people run, of the net that was trained; one that is deployable already comes back equal.

    Filters by phase and drops the rules; a net that was saved while it was trained, and has no data for another phase,
    is taken as it was trained. Takes out losses, accuracies, Silence and HDF5Output, what follows them, and what feeds
    nothing else, such as labels; the predictions that they judge become outputs. Layers without bottoms, but for Input
    and Parameter, become Input layers of the same name, with those of their tops that are still needed. Names of blobs
    stay.

    `input_shapes`, by blob, are the shapes of the inputs. For one that is not given, and that neither an Input nor a
    MemoryData or DummyData layer fixes, the batch is 1; the channels are those of the first convolution on its way, if
    `blobs` (weights by layer) has it, else 1 for grey images, else those of `assume_channels`, else 3; the size is
    crop_size, else new_height x new_width, else what the weights of InnerProducts fit (`fit_size`), else 500x500.
    Notes say what was assumed.
    """
    spec = _open(spec, phase, level, stages)
    layers: list[LayerSpec] = []
    assumed: dict[str, str] = {}
    constants: list[str] = []
    learned = learned_channels(spec, blobs or {})
    for layer, tops in _needed(spec):
        if _is_source(layer):
            constants.extend(constant_notes(layer, tops))
            layer, notes = input_of(layer, tops, learned)
            assumed.update(notes)
        layers.append(_without_rules(layer))
    deploy = replace(spec, layers=tuple(layers))
    if input_shapes:
        deploy = with_input_shapes(deploy, input_shapes)
    elif assumed and blobs:
        deploy, fitted = fit_size(deploy, list(assumed), blobs)
        if fitted is not None:
            assumed = {"": fitted}
    return replace(deploy, notes=(*spec.notes, *assumed.values(), *constants))


def _open(spec: NetSpec, phase: Phase, level: int, stages: Sequence[str]) -> NetSpec:
    """The layers of the phase, or those of training where only they are whole: what Caffe saves is filtered already."""
    found = filter_phase(spec, phase=phase, level=level, stages=stages)
    if _is_whole(found):
        return found
    trained = filter_phase(spec, phase="TRAIN", level=level, stages=stages)
    return trained if _is_whole(trained) else found


def _is_whole(spec: NetSpec) -> bool:
    """True where every bottom is made by a layer before."""
    made: set[str] = set()
    for layer in spec.layers:
        if not made.issuperset(layer.bottoms):
            return False
        made.update(layer.tops)
    return True


_RECURRENT = ("LSTM", "RNN")
"""Types of BVLC Caffe with weights for which this project has no Layer."""


def _is_source(layer: LayerSpec) -> bool:
    return is_data(layer) or layer.type == "Input"


def _needed(spec: NetSpec) -> list[tuple[LayerSpec, Sequence[str]]]:
    """The layers that the net's predictions and outputs need, each with those of its tops that they need."""
    outputs = set(spec.outputs)
    sinks, lost = _sinks(spec, outputs)
    wanted = _predictions([spec.layers[index] for index in sinks], lost, _learned(spec))
    needed: dict[int, tuple[LayerSpec, Sequence[str]]] = {}
    for index in reversed(range(len(spec.layers))):
        layer = spec.layers[index]
        tops = [top for top in layer.tops if top in wanted or (top in outputs and not is_data(layer))]
        if tops and index not in sinks:
            needed[index] = layer, tops
            wanted.update(layer.bottoms)
    # A top that nobody needs of a layer that is needed: without its Silence it would become an output of the net.
    loose = {top for layer, _ in needed.values() if not _is_source(layer) for top in layer.tops} - wanted - outputs
    for index in sinks:
        layer = spec.layers[index]
        silenced = tuple(bottom for bottom in layer.bottoms if bottom in loose)
        if layer.type == "Silence" and silenced:
            needed[index] = replace(layer, bottoms=silenced), ()
    return [needed[index] for index in sorted(needed)]


def _sinks(spec: NetSpec, outputs: set[str]) -> tuple[list[int], set[str]]:
    """The indices of the layers that judge or swallow blobs and of those that need what these make; what they make."""
    sinks: list[int] = []
    lost: set[str] = set()
    for index, layer in enumerate(spec.layers):
        judges = "Loss" in layer.type or "Accuracy" in layer.type or not layer.tops
        weighted = outputs.issuperset(layer.tops) and any(layer.message.loss_weight)
        if judges or weighted or lost.intersection(layer.bottoms):
            sinks.append(index)
            lost.update(set(layer.tops) - set(layer.bottoms))
    return sinks, lost


def _learned(spec: NetSpec) -> set[str]:
    """The blobs that depend on the net's weights."""
    learned: set[str] = set()
    for layer in spec.layers:
        if _has_weights(layer) or learned.intersection(layer.bottoms):
            learned.update(layer.tops)
    return learned


def _has_weights(layer: LayerSpec) -> bool:
    """True for a layer that learns; one of an unsupported type does where the net says how its blobs learn."""
    if layer.param_specs or layer.type in _RECURRENT:
        return True
    params, layer_class = params_if_valid(layer), find_layer(layer.type)
    if params is None:
        return layer_class is not None and layer_class.has_blobs()
    return params.learns


def _predictions(sinks: Sequence[LayerSpec], lost: set[str], learned: set[str]) -> set[str]:
    """The learned blobs that losses and accuracies are given; the rest is labels. Without weights, the first bottom."""
    found: set[str] = set()
    for layer in sinks:
        judged = [bottom for bottom in layer.bottoms if bottom not in lost] if layer.type != "Silence" else []
        found.update(learned.intersection(judged) if learned else judged[:1])
    return found


def _without_rules(layer: LayerSpec) -> LayerSpec:
    if not layer.message.include and not layer.message.exclude:
        return layer
    message = layer.to_message()
    message.ClearField("include")
    message.ClearField("exclude")
    extra = tuple(field for field in layer.extra if not field.name.startswith(("include[", "exclude[")))
    return LayerSpec.from_message(message, extra=extra, line=layer.line)
