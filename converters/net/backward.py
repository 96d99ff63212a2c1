"""The words of a net on the way back: where gradients go, by propagate_down and force_backward, and forks' fields."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from ..schema import NetParameter
from .layer import LayerSpec, find_layer
from .reading import watch_reads
from .spec import NetSpec
from .unread import refuse_unread

DEAF = frozenset({"BatchNorm", "Flatten", "Im2col", "MVN", "Reshape", "Softmax"})
"""The types of one bottom whose way back does not ask for propagate_down (Backward_cpu and Backward_gpu of each)."""


def stopped_bottoms(spec: NetSpec, layer: LayerSpec) -> frozenset[int]:
    """The places of a layer's bottoms that get no gradient from it: those whose propagate_down is false.

    With force_backward of the net they get it all the same. Source: net.cpp, AppendBottom and Init.
    """
    down = layer.message.propagate_down
    if all(down) or forces_backward(spec):
        return frozenset()
    return frozenset(place for place, said in enumerate(down) if not said)


def without_unheard_stops(spec: NetSpec) -> NetSpec:
    """The net to train, losses included, without each `propagate_down: false` that Caffe does not obey.

    It is the net that obeys for a layer that is `DEAF`: what makes the blob is skipped. Where the blob has another
    reader that gives it a gradient, nothing is skipped, and the Split between them adds both (net.cpp, Init, and
    split_layer.cpp, Backward_cpu); nor where the layer that makes it has another top that nobody stops.
    """
    unheard = _unheard_stops(spec)
    return spec.replace_layers(
        tuple(_without_stop(layer) if index in unheard else layer for index, layer in enumerate(spec.layers))
    )


def _without_stop(layer: LayerSpec) -> LayerSpec:
    message = layer.to_message()
    message.ClearField("propagate_down")
    return LayerSpec.from_message(message, extra=layer.extra, line=layer.line)


@dataclass(eq=False)
class _Made:
    """A blob as one layer makes it: whether somebody reads it, a loss hangs on it, and a gradient comes back to it."""

    read: bool = False
    judged: bool = False
    told: bool = False
    beside: list[_Made] = field(default_factory=list)
    """All tops of the layer."""
    learns: bool = False
    """True for a Parameter's top, whose gradient is the parameter's own (parameter_layer.hpp)."""

    @property
    def is_followed(self) -> bool:
        """True where the layer that makes it is not skipped on the way back, or need not go there."""
        return self.learns or any(each.told or not each.read for each in self.beside)


def _made(spec: NetSpec) -> list[tuple[list[_Made], list[_Made]]]:
    """The bottoms and the tops of each layer; one that works in place makes its blob anew."""
    made: dict[str, _Made] = {}
    found = []
    for layer in spec.layers:
        bottoms = [made.setdefault(bottom, _Made()) for bottom in layer.bottoms]
        tops = [_Made(learns=layer.type == "Parameter") for _ in layer.tops]
        for top in tops:
            top.beside = tops
        made.update(zip(layer.tops, tops, strict=True))
        found.append((bottoms, tops))
    return found


def _unheard_stops(spec: NetSpec) -> set[int]:
    """The layers whose propagate_down says something that is not done, as net.cpp's Init goes through them."""
    deaf: dict[int, _Made] = {}
    for index, (layer, (bottoms, tops)) in reversed(list(enumerate(zip(spec.layers, _made(spec), strict=True)))):
        judged = _is_loss(layer) or any(top.judged for top in tops)
        skipped = bool(tops) and all(top.read and not top.told for top in tops)
        stopped = stopped_bottoms(spec, layer)
        for place, bottom in enumerate(bottoms):
            bottom.read = True
            bottom.judged |= judged
            bottom.told |= judged and not skipped and place not in stopped
        if stopped and judged and not skipped and layer.type in DEAF:
            deaf[index] = bottoms[0]
    return {index for index, bottom in deaf.items() if bottom.is_followed}


def _is_loss(layer: LayerSpec) -> bool:
    weights = layer.message.loss_weight
    return any(weights) or (not weights and "Loss" in layer.type)


def forces_backward(spec: NetSpec) -> bool:
    """True where every layer computes all its gradients (force_backward)."""
    return bool(NetParameter.FromString(spec.definition).force_backward)


def check_training(layer: LayerSpec, *, reads: Collection[str] = ()) -> None:
    """Raise NetError for a field of a fork that changes what a net learns and that is not read here (unread.py).

    `reads` are the paths of those that whoever trains the layer reads, beside what the class of its type does.
    """
    layer_class = find_layer(layer.type)
    with watch_reads() as own:
        if layer_class is not None:
            layer_class.parse(layer)
    refuse_unread(layer.fork_fields(), {*own, *reads}, where=layer.place, kind=layer.type, training=True)
