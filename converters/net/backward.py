"""The words of a net on the way back, where gradients go: propagate_down of its layers, and force_backward."""

from __future__ import annotations

from ..schema import NetParameter
from .layer import LayerSpec
from .spec import NetSpec


def stopped_bottoms(spec: NetSpec, layer: LayerSpec) -> frozenset[int]:
    """The places of a layer's bottoms that get no gradient from it: those whose propagate_down is false.

    With force_backward of the net they get it all the same. Source: net.cpp, AppendBottom and Init.
    """
    down = layer.message.propagate_down
    if all(down) or NetParameter.FromString(spec.definition).force_backward:
        return frozenset()
    return frozenset(place for place, said in enumerate(down) if not said)
