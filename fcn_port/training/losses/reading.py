"""The losses of a net to train, as its prototxt defines them, and the labels that a data layer gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from converters.errors import NetError
from converters.net import LayerSpec, NetSpec, check_training, stopped_bottoms

from .base import Loss
from .infogain import InfogainLoss
from .sigmoid import SigmoidCrossEntropyLoss
from .softmax import FORK_FIELDS, SoftmaxWithLoss

KNOWN = ("SoftmaxWithLoss", "InfogainLoss", "SigmoidCrossEntropyLoss")
"""The types of losses that can be trained."""
SAME_NUMBERS = ("Split", "Reshape", "Flatten")
"""The types of layers that pass labels on as they are; a loss counts places and does not look at axes."""


def losses_of(spec: NetSpec) -> tuple[Loss, ...]:
    """The losses of a net to train, each with a name of its own; of two layers of one name the second has NAME_2.

    Raises NetError where it has none, one of another type than KNOWN, or one whose labels no data layer gives.
    """
    found = tuple(loss for _, loss in losses_by_layer(spec))
    if not found:
        raise NetError("the net has no loss", path=spec.path, hint="give the prototxt for training")
    return found


def losses_by_layer(spec: NetSpec) -> list[tuple[LayerSpec, Loss]]:
    """The losses of `losses_of`, each after its layer; [] for a net without any."""
    found: list[tuple[LayerSpec, Loss]] = []
    labels = labels_in(spec)
    for layer in spec.layers:
        if layer.type in KNOWN:
            loss = _loss(layer, spec)
            name = _free(loss.name, {other.name for _, other in found})
            found.append((layer, replace(loss, name=name, label=label_of(layer, labels, spec))))
        elif "Loss" in layer.type or any(layer.message.loss_weight):
            raise NetError(f"only {', '.join(KNOWN)} can be trained", path=spec.path, where=layer.place)
    return found


def labels_in(spec: NetSpec) -> Mapping[str, str]:
    """By blob, the blob of a data layer whose numbers it holds, in a net of one phase."""
    found: dict[str, str] = {}
    for layer in spec.layers:
        source = found.get(layer.bottoms[0]) if layer.bottoms and layer.type in SAME_NUMBERS else None
        for top in layer.tops:
            if not layer.bottoms:
                found[top] = top
            elif source is not None:
                found[top] = source
            else:
                found.pop(top, None)  # one that was changed in place
    return found


def label_of(layer: LayerSpec, labels: Mapping[str, str], spec: NetSpec) -> str:
    """The data layer's blob that a loss or an accuracy compares with. Raises NetError where there is none."""
    label = layer.bottoms[1]
    if label not in labels:
        raise NetError(
            f"its labels '{label}' must be data, not computed",
            path=spec.path,
            where=layer.place,
            hint=f"only {', '.join(SAME_NUMBERS)} may come between them and a data layer",
        )
    return labels[label]


def _loss(layer: LayerSpec, spec: NetSpec) -> Loss:
    """The loss that one layer of a known type defines."""
    loss: Loss
    if layer.type == "SoftmaxWithLoss":
        loss = SoftmaxWithLoss.of_layer(layer)
    elif layer.type == "InfogainLoss":
        loss = InfogainLoss.of_layer(layer, beside=Path(spec.path).parent if spec.path else Path())
    else:
        loss = SigmoidCrossEntropyLoss.of_layer(layer)
    check_training(layer, reads=FORK_FIELDS if layer.type == "SoftmaxWithLoss" else ())
    return replace(loss, propagate=False) if 0 in stopped_bottoms(spec, layer) else loss


def _free(name: str, taken: set[str]) -> str:
    return next(each for each in (name, *(f"{name}_{i}" for i in range(2, len(taken) + 3))) if each not in taken)
