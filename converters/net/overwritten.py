"""Layers whose way back reads numbers that a layer in place has overwritten since: Caffe's gradient is another there.

Their Backward_cpu says which numbers they read (relu_layer.cpp, tanh_layer.cpp, ...). Caffe does not notice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import NetError
from .layer import LayerSpec, find_layer
from .spec import NetSpec


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
    "TanH": lambda message: True,
}
_SPOILS: Mapping[str, Callable[[Any], bool]] = {
    "AbsVal": lambda message: True,
    "BNLL": lambda message: True,
    "ELU": lambda message: message.elu_param.alpha < 0,
    "LRN": lambda message: True,
    "Log": lambda message: True,
    "MVN": lambda message: True,
    "Power": lambda message: message.power_param.power * message.power_param.scale != 0,
    "ReLU": lambda message: message.relu_param.negative_slope < 0,
}
"""The types that in place overwrite what they read themselves: their bottom, or as Power does the top's gradient."""
_CHANGES = frozenset(
    {"AbsVal", "BatchNorm", "Bias", "BNLL", "Dropout", "ELU", "Eltwise", "Exp", "Log", "MVN", "Power", "PReLU", "ReLU"}
    | {"Scale", "Sigmoid", "Softmax", "TanH"}
)
"""The types of BVLC Caffe that change numbers in place."""


def refuse_overwritten(spec: NetSpec) -> None:
    """Raise NetError for a layer of a net to train whose gradient Caffe would compute from numbers of another layer."""
    judged, learned = _judged(spec), set[str]()
    for index, layer in enumerate(spec.layers):
        kind = find_layer(layer.type)
        told = bool(learned.intersection(layer.bottoms)) or layer.type == "Parameter"
        changer = _changer(spec, index) if told and judged.intersection(layer.tops) else None
        if changer is not None:
            raise NetError(
                f"{changer.place} overwrites in place what its gradient is computed of, which is wrong in Caffe then, "
                "and is not done here",
                path=spec.path,
                where=layer.place,
                hint="give the top of the layer in place a name of its own",
            )
        if told or (kind is not None and kind.has_blobs()):
            learned.update(layer.tops)


def _judged(spec: NetSpec) -> set[str]:
    """The blobs on which a loss hangs."""
    found: set[str] = set()
    for layer in reversed(spec.layers):
        if "Loss" in layer.type or any(layer.message.loss_weight) or found.intersection(layer.tops):
            found.update(layer.bottoms)
    return found


def _changer(spec: NetSpec, index: int) -> LayerSpec | None:
    """The layer that overwrites what the way back of layer `index` reads; None where nothing is lost."""
    layer = spec.layers[index]
    if layer.type in _SPOILS and _in_place(layer.message) and _SPOILS[layer.type](layer.message):
        return layer
    if layer.type not in _READS_TOP or not _READS_TOP[layer.type](layer.message):
        return None
    for other in spec.layers[index + 1 :]:
        if layer.tops[0] in other.tops and layer.tops[0] in other.bottoms and _loses(layer, other):
            return other
    return None


def _loses(layer: LayerSpec, other: LayerSpec) -> bool:
    """True where `other`, in place, makes the gradient of `layer` another.

    A ReLU sets numbers to 0 that have no gradient then, and a Dropout those whose sign nobody asks for any more.
    """
    if other.type == "ReLU" and layer.type != "Parameter":
        return bool(other.message.relu_param.negative_slope) or layer.type in ("MVN", "Softmax")
    if other.type == "Dropout" and layer.type == "ReLU":
        return False
    return other.type in _CHANGES
