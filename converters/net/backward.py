"""The words of a net on the way back: where gradients go, by propagate_down and force_backward, and forks' fields."""

from __future__ import annotations

from collections.abc import Collection

from ..schema import NetParameter
from .layer import LayerSpec, find_layer
from .reading import watch_reads
from .spec import NetSpec
from .unread import refuse_unread


def stopped_bottoms(spec: NetSpec, layer: LayerSpec) -> frozenset[int]:
    """The places of a layer's bottoms that get no gradient from it: those whose propagate_down is false.

    With force_backward of the net they get it all the same. Source: net.cpp, AppendBottom and Init.
    """
    down = layer.message.propagate_down
    if all(down) or forces_backward(spec):
        return frozenset()
    return frozenset(place for place, said in enumerate(down) if not said)


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
