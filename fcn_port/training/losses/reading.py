"""The losses of a net to train, as its prototxt defines them, and the labels that a data layer gives them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from converters.errors import NetError
from converters.net import LayerSpec, NetSpec, check_training, stopped_bottoms

from .base import Loss
from .by_images import ContrastiveLoss, EuclideanLoss, HingeLoss, MultinomialLogisticLoss
from .infogain import InfogainLoss
from .sigmoid import SigmoidCrossEntropyLoss
from .softmax import FORK_FIELDS, SoftmaxWithLoss

KNOWN = (
    "SoftmaxWithLoss",
    "InfogainLoss",
    "SigmoidCrossEntropyLoss",
    "EuclideanLoss",
    "HingeLoss",
    "MultinomialLogisticLoss",
    "ContrastiveLoss",
)
"""The types of losses that can be trained."""
OF_TWO = ("EuclideanLoss", "ContrastiveLoss")
"""Those that compare two blobs of the net, with a gradient for each."""
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
    blobs = _Origins.of(spec)
    for layer in spec.layers:
        if layer.type in KNOWN:
            loss = _loss(layer, spec, blobs)
            found.append((layer, replace(loss, name=_free(loss.name, {other.name for _, other in found}))))
        elif "Loss" in layer.type or any(layer.message.loss_weight):
            raise NetError(
                f"only {', '.join(KNOWN)} can be trained",
                path=spec.path,
                where=layer.place,
                hint="another loss has targets that no data set here has, or is a fork's; take it out if the rest is "
                "to be trained, or compute it in a loop of your own",
            )
    return found


def without_pairs(spec: NetSpec, computed: Collection[str]) -> NetSpec:
    """The net without its losses `OF_TWO` and those of no weights, what reads them, and inputs that nothing else reads.

    `to_deploy` would take a bottom of theirs without weights for labels: each of the blobs `computed` is read by a
    layer of its own, whose top is an output.
    """
    gone: set[str] = set()
    kept = []
    learned = _Origins.of(spec).learned
    for layer in spec.layers:
        unlearned = layer.type in KNOWN and layer.bottoms[0] not in learned
        if layer.type in OF_TWO or unlearned or gone.intersection(layer.bottoms):
            gone.update(layer.tops)
        else:
            kept.append(layer)
    if gone:
        taken = {name for layer in spec.layers for name in (layer.name, *layer.tops)}
        for name in computed:
            own = _free(f"{name}_judged", taken)
            taken.add(own)
            kept.append(LayerSpec(name=own, type="Power", bottoms=(name,), tops=(own,)))
    read = {bottom for layer in kept for bottom in layer.bottoms}
    whole = (layer if layer.type != "Input" else _narrowed(layer, read) for layer in kept)
    return spec.replace_layers(tuple(layer for layer in whole if layer is not None))


def _narrowed(layer: LayerSpec, tops: Collection[str]) -> LayerSpec | None:
    """An Input layer with those of its tops alone, and their shapes; None for none of them."""
    wanted = [place for place, top in enumerate(layer.tops) if top in tops]
    if not wanted or len(wanted) == len(layer.tops):
        return layer if wanted else None
    message = layer.to_message()
    shapes = list(message.input_param.shape)
    del message.top[:], message.input_param.shape[:]
    message.top.extend(layer.tops[place] for place in wanted)
    message.input_param.shape.extend(shapes if len(shapes) == 1 else [shapes[place] for place in wanted])
    return LayerSpec.from_message(message, extra=layer.extra, line=layer.line)


def labels_in(spec: NetSpec) -> Mapping[str, str]:
    """By blob, the blob of a data layer whose numbers it holds, in a net of one phase."""
    found: dict[str, str] = {}
    for layer in spec.layers:
        source = found.get(layer.bottoms[0]) if layer.bottoms and layer.type in SAME_NUMBERS else None
        for top in layer.tops:
            if not layer.bottoms and not layer.may_learn:
                found[top] = top
            elif source is not None:
                found[top] = source
            else:
                found.pop(top, None)  # one that was changed in place
    return found


def label_of(layer: LayerSpec, labels: Mapping[str, str], spec: NetSpec) -> str:
    """The data layer's blob that a loss or an accuracy compares with. Raises NetError where there is none."""
    label = layer.bottoms[1 if layer.type == "InfogainLoss" else -1]
    if label not in labels:
        raise _computed(layer, label, spec)
    return labels[label]


@dataclass(frozen=True)
class _Origins:
    """The blobs of a net by what they are made of.

    `labels` as `labels_in` gives them, `images` the data layers' blobs that layers with weights need, `learned` the
    blobs that depend on weights, `origins` the data layers' blobs that each depends on.
    """

    labels: Mapping[str, str]
    images: frozenset[str]
    learned: frozenset[str]
    origins: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, spec: NetSpec) -> _Origins:
        needed: set[str] = set()
        for layer in reversed(spec.layers):
            if layer.may_learn or needed.intersection(layer.tops):
                needed.update(layer.bottoms)
        learned: set[str] = set()
        origins: dict[str, frozenset[str]] = {}
        for layer in spec.layers:
            made_of = frozenset[str]().union(*(origins.get(bottom, frozenset()) for bottom in layer.bottoms))
            for top in layer.tops:
                origins[top] = made_of if layer.bottoms or layer.may_learn else frozenset({top})
            if layer.may_learn or learned.intersection(layer.bottoms):
                learned.update(layer.tops)
        data = frozenset[str]().union(*origins.values())
        return cls(labels_in(spec), data & needed, frozenset(learned), origins)

    def of_net(self, name: str) -> bool:
        """True for a blob that the net computes of its images and weights, or an image itself."""
        return name in self.learned or self.origins.get(name, frozenset()) <= self.images


def _computed(layer: LayerSpec, label: str, spec: NetSpec) -> NetError:
    return NetError(
        f"its labels '{label}' must be data, not computed",
        path=spec.path,
        where=layer.place,
        hint=f"only {', '.join(SAME_NUMBERS)} may come between them and a data layer",
    )


def _loss(layer: LayerSpec, spec: NetSpec, blobs: _Origins) -> Loss:
    """The loss that one layer of a known type defines."""
    stopped = stopped_bottoms(spec, layer)
    loss: Loss
    if layer.type == "EuclideanLoss":
        loss = _euclidean(layer, spec, blobs, stopped)
    elif layer.type == "ContrastiveLoss":
        loss = ContrastiveLoss.of_layer(layer, stopped=stopped)
    else:
        loss = replace(_of_layer(layer, spec), propagate=0 not in stopped)
    check_training(layer, reads=FORK_FIELDS if layer.type == "SoftmaxWithLoss" else ())
    if layer.type == "EuclideanLoss":
        return loss
    if isinstance(loss, InfogainLoss) and loss.matrix_blob is not None:
        if loss.matrix_blob not in blobs.labels:
            raise _computed(layer, loss.matrix_blob, spec)
        loss = replace(loss, matrix_blob=blobs.labels[loss.matrix_blob])
    label = label_of(layer, blobs.labels, spec)
    of_image = layer.type == "SigmoidCrossEntropyLoss" and label in blobs.images
    return replace(loss, label=label, labelled=not of_image)


def _euclidean(layer: LayerSpec, spec: NetSpec, blobs: _Origins, stopped: frozenset[int]) -> Loss:
    """A EuclideanLoss, of which one bottom is labels as a data layer has them, or both are blobs of the net.

    What the net computes of data, and what nothing learns of, is its blob as well.
    """
    outside = [place for place, name in enumerate(layer.bottoms) if not blobs.of_net(name)]
    is_pair = len(outside) == 2 or any(layer.bottoms[place] not in blobs.labels for place in outside)
    loss = EuclideanLoss.of_layer(layer, labels=[] if is_pair else outside, stopped=stopped)
    if loss.labelled:
        return replace(loss, label=blobs.labels[loss.label])
    origins = frozenset[str]().union(*(blobs.origins[layer.bottoms[place]] for place in outside))
    return replace(loss, of_data=tuple(sorted(origins - blobs.images)))


def _of_layer(layer: LayerSpec, spec: NetSpec) -> Loss:
    """The loss of a layer that has scores and labels."""
    if layer.type == "InfogainLoss":
        return InfogainLoss.of_layer(layer, beside=Path(spec.path).parent if spec.path else Path())
    if layer.type == "SoftmaxWithLoss":
        return SoftmaxWithLoss.of_layer(layer)
    if layer.type == "HingeLoss":
        return HingeLoss.of_layer(layer)
    if layer.type == "MultinomialLogisticLoss":
        return MultinomialLogisticLoss.of_layer(layer)
    return SigmoidCrossEntropyLoss.of_layer(layer)


def _free(name: str, taken: set[str]) -> str:
    return next(each for each in (name, *(f"{name}_{i}" for i in range(2, len(taken) + 3))) if each not in taken)
