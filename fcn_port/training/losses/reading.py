"""The losses of a net to train, as its prototxt defines them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from converters.errors import NetError
from converters.net import NetSpec, stopped_bottoms

from .base import Loss
from .infogain import InfogainLoss
from .sigmoid import SigmoidCrossEntropyLoss
from .softmax import SoftmaxWithLoss

KNOWN = ("SoftmaxWithLoss", "InfogainLoss", "SigmoidCrossEntropyLoss")
"""The types of losses that can be trained."""


def losses_of(spec: NetSpec) -> tuple[Loss, ...]:
    """The losses of a net to train. Raises NetError where it has none, or one of another type than KNOWN."""
    beside = Path(spec.path).parent if spec.path else Path()
    found: list[Loss] = []
    for layer in spec.layers:
        if layer.type == "SoftmaxWithLoss":
            found.append(SoftmaxWithLoss.of_layer(layer))
        elif layer.type == "InfogainLoss":
            found.append(InfogainLoss.of_layer(layer, beside=beside))
        elif layer.type == "SigmoidCrossEntropyLoss":
            found.append(SigmoidCrossEntropyLoss.of_layer(layer))
        elif "Loss" in layer.type or any(layer.message.loss_weight):
            raise NetError(f"only {', '.join(KNOWN)} can be trained", path=spec.path, where=layer.place)
        if layer.type in KNOWN and 0 in stopped_bottoms(spec, layer):
            found[-1] = replace(found[-1], propagate=False)
    if not found:
        raise NetError("the net has no loss", path=spec.path, hint="give the prototxt for training")
    return tuple(found)
