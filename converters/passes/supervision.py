"""The layers of a net that only train or judge it, known to this project or not, by what they do in the graph.

judges       losses, accuracies, writers: what is called so, or has no tops; and what follows them
supervised   layers of unknown types without weights that read labels and lead to losses or to nothing, such as
             py-faster-rcnn's AnchorTargetLayer and R-FCN's BoxAnnotatorOHEM; and the classifiers of labels, such as
             SphereFace's MarginInnerProduct, whose weights no trained net needs
samplers     the same that lead on to layers that are needed, such as ProposalTargetLayer: at test the proposals
             themselves go on
margins      the same of face recognition, such as LabelSpecificAdd, and AssistedExcitation: at test what they change
             for the label's sake goes on as it is
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..layers import find_layer
from ..net.layer import LayerSpec, params_if_valid
from ..net.spec import NetSpec
from .inputs import is_data

RECURRENT = ("LSTM", "RNN")
"""Types of BVLC Caffe with weights, for which this project may have no Layer."""


@dataclass(frozen=True)
class Supervision:
    """The training-only layers of a net.

    `sinks` are their indices, `lost` the blobs that they make, `renamed` the blobs of samplers with the ones that go on
    instead. `notes` tell of the layers that were left out though nobody knows them.
    """

    sinks: tuple[int, ...]
    lost: frozenset[str]
    renamed: Mapping[str, str]
    notes: tuple[str, ...]


def find_supervision(spec: NetSpec, outputs: set[str]) -> Supervision:
    """The training-only layers; `outputs` are the blobs that no layer reads."""
    ends = _leads_to_losses(spec, outputs)
    labels = _labels(spec)
    sinks: list[int] = []
    lost: set[str] = set()
    renamed: dict[str, str] = {}
    left_out: list[str] = []
    for index, layer in enumerate(spec.layers):
        weighted = outputs.issuperset(layer.tops) and any(layer.message.loss_weight)
        reads_labels = bool(layer.bottoms) and bool(labels.intersection(layer.bottoms))
        stranger = reads_labels and is_stranger(layer)
        if judges(layer) or weighted or lost.intersection(layer.bottoms) or _compares(layer, labels):
            pass
        elif stranger and ends[index]:
            left_out.append(f"{layer.place} is left out: it has no weights and reads labels")
        elif reads_labels and _is_classifier_of_labels(layer) and _only_judged(spec, index, ends):
            left_out.append(f"{layer.place} is left out: its scores are of features and their labels")
        elif stranger and (_is_sampler(layer) or _is_margin(layer)) and layer.bottoms[0] not in labels:
            instead = f"for whose '{layer.tops[0]}' '{layer.bottoms[0]}' goes on, is left out"
            left_out.append(f"{layer.place}, {instead}: it has no weights and reads labels")
            renamed[layer.tops[0]] = renamed.get(layer.bottoms[0], layer.bottoms[0])
        else:
            if layer.bottoms and labels.issuperset(layer.bottoms):
                labels.update(layer.tops)
            continue
        sinks.append(index)
        gone = set(layer.tops) - set(layer.bottoms) - renamed.keys()
        lost.update(gone)
        labels.update(gone)
    return Supervision(tuple(sinks), frozenset(lost), renamed, tuple(map(_note, left_out)))


def _note(said: str) -> str:
    return f"{said}, so that only training needs it"


def judges(layer: LayerSpec) -> bool:
    """True for a layer that judges or swallows blobs: a loss or an accuracy by its name, or one without tops."""
    name = f"{layer.type} {layer.message.python_param.layer}"
    return "Loss" in name or "Accuracy" in name or not layer.tops


def _compares(layer: LayerSpec, labels: set[str]) -> bool:
    """True for a CTCGreedyDecoder whose second bottom is the label: in senlinuc/caffe_ocr it makes the accuracy."""
    return layer.type == "CTCGreedyDecoder" and not labels.isdisjoint(layer.bottoms[1:2])


def has_weights(layer: LayerSpec) -> bool:
    """True for a layer that learns; one of an unsupported type does where the net says how its blobs learn."""
    if layer.param_specs or layer.type in RECURRENT:
        return True
    params = params_if_valid(layer)
    return layer.may_learn if params is None else params.learns


def is_stranger(layer: LayerSpec) -> bool:
    """True for a layer of a type that nobody has registered, and without weights as far as the net tells."""
    return params_if_valid(layer) is None and not has_weights(layer) and bool(layer.bottoms)


def _is_margin(layer: LayerSpec) -> bool:
    """True for a layer that changes scores or features for the label's sake, in training alone.

    Sources: happynear/caffe-windows (branch ms), src/caffe/layers/label_specific_add_layer.cpp, which returns in the
    TEST phase unless transform_test says otherwise; eric612/MobileNet-YOLO, assisted_excitation_layer.cpp, whose factor
    falls from 1 to 0 in the course of the training.
    """
    return layer.type.startswith("LabelSpecific") or layer.type.endswith("Margin") or layer.type == "AssistedExcitation"


def _is_classifier_of_labels(layer: LayerSpec) -> bool:
    """True for a classifier with weights whose scores depend on the label, so that a trained net ends before it.

    Sources: wy1iu/sphereface, margin_inner_product_layer.cpp; wy1iu/LargeMargin_Softmax_Loss,
    largemargin_inner_product_layer.cpp: ExactNumBottomBlobs is 2 in both, of which the second is the label.
    """
    return layer.type.endswith("MarginInnerProduct") and len(layer.bottoms) == 2 and find_layer(layer.type) is None


def _only_judged(spec: NetSpec, index: int, ends: Sequence[bool]) -> bool:
    """True where all that reads a layer's tops leads to losses."""
    tops = spec.layers[index].tops
    return all(ends[i] for i, other in enumerate(spec.layers[index + 1 :], index + 1) if {*tops} & {*other.bottoms})


def _is_sampler(layer: LayerSpec) -> bool:
    return "target" in f"{layer.type} {layer.message.python_param.layer}".lower() and bool(layer.tops)


def _labels(spec: NetSpec) -> set[str]:
    """The blobs of data layers that no layer with weights needs, unless through a layer that nobody knows."""
    needed: set[str] = set()
    for layer in reversed(spec.layers):
        if has_weights(layer) or (needed.intersection(layer.tops) and not is_stranger(layer)):
            needed.update(layer.bottoms[:1] if _is_classifier_of_labels(layer) else layer.bottoms)
    if not needed:
        return set()
    return {top for layer in spec.layers if is_data(layer) for top in layer.tops if top not in needed}


def _leads_to_losses(spec: NetSpec, outputs: set[str]) -> Sequence[bool]:
    """By layer: True where it has no weights and all that reads its tops leads to losses, or, unknown, to nothing."""
    found = [False] * len(spec.layers)
    goes_on: set[str] = set()  # blobs that somebody needs for more than a loss
    for index in reversed(range(len(spec.layers))):
        layer = spec.layers[index]
        open_end = any(top in outputs for top in layer.tops) and not is_stranger(layer)
        found[index] = judges(layer) or not (
            has_weights(layer) or not layer.bottoms or open_end or goes_on.intersection(layer.tops)
        )
        if not found[index]:
            goes_on.update(layer.bottoms)
    return found
