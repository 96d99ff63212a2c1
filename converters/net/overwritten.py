"""Layers whose way back reads numbers that a layer in place has overwritten since: Caffe's gradient is another there.

Their Backward_cpu says which numbers they read (relu_layer.cpp, tanh_layer.cpp, ...). Caffe does not notice, nor
does it where a blob has several names (Split, Reshape, ...) and a layer works in place under one of them: what reads
another reads what that layer wrote, and its gradient goes past it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..errors import NetError
from .layer import LayerSpec
from .spec import NetSpec
from .versions import BlobVersion, Versions, is_another_name, versions


def _in_place(message: Any) -> bool:
    return bool(message.top[:1] == message.bottom[:1])


def _bends(message: Any) -> bool:
    return bool(message.power_param.power not in (0, 1) and message.power_param.scale != 0)


_READS_TOP: Mapping[str, Callable[[Any], bool]] = {
    "ELU": lambda message: True,
    "Eltwise": lambda message: message.eltwise_param.operation == 0 and not message.eltwise_param.stable_prod_grad,
    "Exp": lambda message: True,
    "LRN": lambda message: message.lrn_param.norm_region == 0,
    "MVN": lambda message: bool(message.mvn_param.normalize_variance),
    "Parameter": lambda message: True,  # its blob is its top
    "Power": _bends,
    "ReLU": _in_place,  # its bottom, whose sign it asks for
    "Sigmoid": lambda message: True,
    "Softmax": lambda message: True,
    "Swish": lambda message: True,
    "TanH": lambda message: True,
}
_SPOILS: Mapping[str, Callable[[Any], bool]] = {
    "AbsVal": lambda message: True,
    "BNLL": lambda message: True,
    "Clip": lambda message: True,
    "ELU": lambda message: message.elu_param.alpha < 0,
    "Eltwise": lambda message: message.eltwise_param.operation == 0,
    "LRN": lambda message: True,
    "Log": lambda message: True,
    "MVN": lambda message: True,
    "Power": lambda message: message.power_param.power * message.power_param.scale != 0,
    "ReLU": lambda message: message.relu_param.negative_slope < 0,
}
"""The types that in place overwrite what they read themselves: their bottom, or as Power does the top's gradient."""
_CHANGES = frozenset(
    {"AbsVal", "BatchNorm", "Bias", "BNLL", "Clip", "Dropout", "ELU", "Eltwise", "Exp", "Log", "MVN", "Power", "PReLU"}
    | {"ReLU", "Scale", "Sigmoid", "Softmax", "Swish", "TanH", "Threshold"}
)
"""The types of BVLC Caffe that change numbers in place."""


def refuse_overwritten(spec: NetSpec) -> None:
    """Raise NetError for a layer of a net to train whose gradient Caffe would compute from numbers of another layer."""
    judged, made, learned = _judged(spec), versions(spec), set[str]()
    ever_learned = _learned(spec)
    for index, layer in enumerate(spec.layers):
        told = bool(learned.intersection(layer.bottoms)) or layer.type == "Parameter"
        if told or layer.may_learn:
            learned.update(layer.tops)
        if layer.type != "Parameter" and not judged.intersection(layer.tops) and not _is_loss(layer):
            continue
        changer = _changer(spec, made, index) if told else None
        if changer is not None:
            raise _refusal(spec, layer, f"{changer.place} overwrites in place what its gradient is computed of")
        beside = _changer_beside(spec, made, index)
        if beside is not None and (told or layer.may_learn or ever_learned.intersection(beside[0].tops)):
            raise _refusal(spec, layer, f"{beside[0].place} overwrites in place what it reads, as '{beside[1]}'")


def _learned(spec: NetSpec) -> set[str]:
    """The blobs that depend on weights."""
    found: set[str] = set()
    for layer in spec.layers:
        if found.intersection(layer.bottoms) or layer.may_learn:
            found.update(layer.tops)
    return found


def _refusal(spec: NetSpec, layer: LayerSpec, what: str) -> NetError:
    return NetError(
        f"{what}, which is wrong in Caffe then, and is not done here",
        path=spec.path,
        where=layer.place,
        hint="give the top of the layer in place a name of its own",
    )


def _is_loss(layer: LayerSpec) -> bool:
    return "Loss" in layer.type or any(layer.message.loss_weight)


def _judged(spec: NetSpec) -> set[str]:
    """The blobs on which a loss hangs."""
    found: set[str] = set()
    for layer in reversed(spec.layers):
        if _is_loss(layer) or found.intersection(layer.tops):
            found.update(layer.bottoms)
    return found


def _changer(spec: NetSpec, made: Versions, index: int) -> LayerSpec | None:
    """The layer that overwrites what the way back of layer `index` reads; None where nothing is lost."""
    layer = spec.layers[index]
    if layer.type in _SPOILS and _in_place(layer.message) and _SPOILS[layer.type](layer.message):
        return layer
    if layer.type not in _READS_TOP or not _READS_TOP[layer.type](layer.message):
        return None
    for other, top in _changes(spec, made):
        if top.comes_from(made[index][1][0]) and top not in made[index][1] and _loses(layer, other):
            return other
    return None


def _changer_beside(spec: NetSpec, made: Versions, index: int) -> tuple[LayerSpec, str] | None:
    """A layer that works in place in a memory of which layer `index` reads another name, and its blob; else None."""
    bottoms, tops = made[index]
    if is_another_name(spec.layers[index]):
        return None
    for other, changed in _changes(spec, made):
        if changed in tops or any(changed.comes_from(top) for top in tops):
            continue  # itself, or one before it in the same row
        if any(bottom.memory is changed.memory and not bottom.comes_from(changed) for bottom in bottoms):
            return other, changed.name
    return None


def _changes(spec: NetSpec, made: Versions) -> Iterator[tuple[LayerSpec, BlobVersion]]:
    """The layers that change numbers in place, each with the blob that it makes so."""
    for layer, (_, tops) in zip(spec.layers, made, strict=True):
        if layer.type in _CHANGES:
            yield from ((layer, top) for top in tops if top.before is not None and not is_another_name(layer))


def _loses(layer: LayerSpec, other: LayerSpec) -> bool:
    """True where `other`, in place, makes the gradient of `layer` another.

    A ReLU sets numbers to 0 that have no gradient then, and a Dropout those whose sign nobody asks for any more.
    """
    if other.type == "ReLU" and layer.type != "Parameter":
        return bool(other.message.relu_param.negative_slope) or layer.type in ("MVN", "Softmax")
    if other.type == "Dropout" and layer.type == "ReLU":
        return False
    return other.type in _CHANGES
