"""Losses beside SoftmaxWithLoss, trained in Caffe and here, on a layer or two each (golden/solver/losses.npz)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from converters import parse_prototxt
from converters.formats.solver import parse_solver
from converters.schema import BlobProto
from fcn_port.training import TrainingTask, task_of
from parity_tests import solving
from parity_tests.fill import fill_state, rs, zoo_blob
from parity_tests.goldens import GOLDEN

STEPS = 4
SOLVER = 'base_lr: 0.05 momentum: 0.9 weight_decay: 0.01 lr_policy: "fixed"'
MATRIX = "H.binaryproto"
SHAPE = (2, 3, 6, 7)
SMALL = (7, 3, 2, 3)
CLASSES = 4


@dataclass(frozen=True)
class LossCase:
    """A loss layer's type and settings; `ignored` of its labels; how wide scores are spread by the data.

    `shape` says what is compared: "map" a convolution with labels of pixels, "image" one with the image itself,
    "swapped" labels with it, "pair" two of them, "rows" an InnerProduct with a label for each image, "softmax" its
    probabilities, "flat" one with the flattened image, "siamese" two with each other, pair by pair, "classes" one with
    a label for each channel, "made" what the layers `beside` make of a convolution's, which may have losses, too,
    "sequence" what they make of the data with the data.
    `solver` is added to SOLVER; `filling` is the rule by which weights begin (parity_tests/fill.py).
    """

    type: str
    settings: str = ""
    ignored: int | None = None
    spread: float = 1.0
    shape: str = "map"
    beside: str = ""
    solver: str = ""

    @property
    def filling(self) -> str:
        """The rule for weights: that of all types of layers where there are any `beside`."""
        return "zoo" if self.beside else "random"

    @property
    def classes(self) -> int:
        """The channels of the scores."""
        if self.shape == "flat":
            return math.prod(SMALL[1:])
        if self.shape in ("image", "pair"):
            return SHAPE[1]
        return 1 if self.type in ("SigmoidCrossEntropyLoss", "EuclideanLoss") and self.shape != "classes" else CLASSES

    @property
    def of_maps(self) -> bool:
        """True where labels are of pixels."""
        return self.shape in ("map", "swapped", "image", "pair", "classes", "made", "sequence")


def _stopped(kind: str, settings: str = "") -> str:
    """A second loss of the scores, through a layer that is to tell them nothing (propagate_down)."""
    return (
        f'layer {{ name: "stopped" type: "{kind}" bottom: "score" top: "stopped" propagate_down: false {settings} }} '
        'layer { name: "beside" type: "SoftmaxWithLoss" bottom: "stopped" bottom: "label" top: "other" loss_weight: 3 }'
    )


def _dims(classes: int) -> str:
    n, _, h, w = SHAPE
    return f"dim: [{n}, {classes}, {h}, {w}]"


def _made(kind: str, settings: str) -> str:
    return f'layer {{ name: "made" type: "{kind}" bottom: "score" top: "made" {settings} }}'


def _sequence(kind: str) -> str:
    """A recurrent layer over the data, whose sums say where its streams go on, in the first row too."""
    return f"""
layer {{ name: "sum" type: "Reduction" bottom: "data" top: "sum" reduction_param {{ axis: 2 }} }}
layer {{ name: "cont" type: "Threshold" bottom: "sum" top: "cont" threshold_param {{ threshold: -3 }} }}
layer {{ name: "made" type: "{kind}" bottom: "data" bottom: "cont" top: "made" param {{ lr_mult: 0 }}
  recurrent_param {{ num_output: {math.prod(SHAPE[2:])} weight_filler {{ type: "constant" }} }} }}
"""


CASES: Mapping[str, LossCase] = {
    "infogain": LossCase("InfogainLoss"),
    "infogain-ignored": LossCase("InfogainLoss", "loss_param { ignore_label: 255 }", 255),
    "infogain-sum": LossCase("InfogainLoss", "loss_param { ignore_label: 255 normalization: BATCH_SIZE }", 255),
    "infogain-far": LossCase("InfogainLoss", "", None, 200.0),
    "sigmoid": LossCase("SigmoidCrossEntropyLoss"),
    "sigmoid-valid": LossCase("SigmoidCrossEntropyLoss", "loss_param { ignore_label: 2 normalization: VALID }", 2),
    "sigmoid-ignored": LossCase("SigmoidCrossEntropyLoss", "loss_param { ignore_label: 2 }", 2),
    "sigmoid-full": LossCase("SigmoidCrossEntropyLoss", "loss_param { ignore_label: 2 normalization: FULL }", 2),
    "sigmoid-weighed": LossCase("SigmoidCrossEntropyLoss", "loss_weight: 0.3 loss_param { normalize: true }"),
    "sigmoid-classes": LossCase(
        "SigmoidCrossEntropyLoss", "loss_param { ignore_label: 1 normalization: VALID }", 1, shape="classes"
    ),
    "sigmoid-image": LossCase("SigmoidCrossEntropyLoss", shape="flat"),
    "euclidean": LossCase("EuclideanLoss"),
    "euclidean-swapped": LossCase("EuclideanLoss", "loss_weight: 0.3", shape="swapped"),
    "euclidean-image": LossCase("EuclideanLoss", shape="image"),
    "euclidean-pair": LossCase("EuclideanLoss", shape="pair"),
    "euclidean-first": LossCase("EuclideanLoss", "propagate_down: true propagate_down: false", shape="pair"),
    "euclidean-second": LossCase("EuclideanLoss", "propagate_down: false propagate_down: true", shape="pair"),
    "hinge": LossCase("HingeLoss", shape="rows"),
    "hinge-l2": LossCase("HingeLoss", "loss_weight: 0.3 hinge_loss_param { norm: L2 }", shape="rows"),
    "multinomial": LossCase("MultinomialLogisticLoss", shape="softmax"),
    "multinomial-far": LossCase("MultinomialLogisticLoss", "", None, 60.0, shape="softmax"),
    "contrastive": LossCase("ContrastiveLoss", "contrastive_loss_param { margin: 6 }", shape="siamese"),
    "contrastive-legacy": LossCase(
        "ContrastiveLoss", "contrastive_loss_param { margin: 30 legacy_version: true }", shape="siamese"
    ),
    "contrastive-first": LossCase(
        "ContrastiveLoss",
        "contrastive_loss_param { margin: 6 } loss_weight: 0.3 "
        "propagate_down: true propagate_down: false propagate_down: false",
        shape="siamese",
    ),
    **{
        f"stopped-{kind.lower()}": LossCase("SoftmaxWithLoss", beside=_stopped(kind, settings))
        for kind, settings in {
            "BatchNorm": "",
            "Concat": "",
            "Flatten": "flatten_param { axis: 2 }",
            "Im2col": "convolution_param { kernel_size: 1 }",
            "LRN": "lrn_param { alpha: 2 }",
            "MVN": "",
            "Reshape": "reshape_param { shape { dim: [0, 0, -1] } }",
            "Slice": "",
            "Softmax": "",
            "Sigmoid": "",
        }.items()
    },
    "stopped-alone": LossCase(
        "SoftmaxWithLoss",
        shape="made",
        beside='layer { name: "stopped" type: "Softmax" bottom: "score" top: "stopped" propagate_down: false } '
        + _made("Convolution", f"convolution_param {{ num_output: {CLASSES} kernel_size: 1 }}").replace(
            'bottom: "score"', 'bottom: "stopped"'
        ),
    ),
    "stopped-beside": LossCase(
        "SoftmaxWithLoss",
        shape="made",
        beside='layer { name: "two" type: "Split" bottom: "score" top: "one" top: "unread" } '
        + _made("Softmax", "propagate_down: false").replace('bottom: "score"', 'bottom: "one"'),
    ),
    "stopped-parameter": LossCase(
        "SoftmaxWithLoss",
        shape="made",
        beside=f'layer {{ name: "p" type: "Parameter" top: "p" parameter_param {{ shape {{ {_dims(CLASSES)} }} }} }} '
        + _made("Softmax", "propagate_down: false").replace('bottom: "score"', 'bottom: "p"'),
    ),
    **{
        f"{kind.lower()}-goes-on": LossCase(
            "EuclideanLoss", shape="sequence", beside=_sequence(kind), solver="clip_gradients: 0.1 iter_size: 2"
        )
        for kind in ("LSTM", "RNN")
    },
    "scale-accumulated": LossCase(
        "SoftmaxWithLoss",
        shape="made",
        beside=_made("Scale", f"scale_param {{ axis: 0 num_axes: {len(SHAPE) - 2} bias_term: true }}"),
        solver="iter_size: 3",
    ),
    "channels-accumulated": LossCase(
        "SoftmaxWithLoss", shape="made", beside=_made("Scale", "scale_param { axis: 1 }"), solver="iter_size: 3"
    ),
    "parameter-accumulated": LossCase(
        "SoftmaxWithLoss",
        shape="made",
        beside=f'layer {{ name: "p" type: "Parameter" top: "p" parameter_param {{ shape {{ dim: {CLASSES} }} }} }} '
        + _made("Scale", 'bottom: "p" scale_param { axis: 1 }'),
        solver="iter_size: 3",
    ),
}
BODIES = {
    "map": "{score}",
    "swapped": "{score}",
    "image": "{score}",
    "classes": "{score}",
    "made": "{score}",
    "sequence": "{score}",
    "pair": "{score} {other}",
    "rows": "{row}",
    "softmax": '{row} layer {{ name: "p" type: "Softmax" bottom: "score" top: "p" }}',
    "flat": '{row} layer {{ name: "flat" type: "Flatten" bottom: "data" top: "flat" }}',
    "siamese": "{row} {row2}",
}
BOTTOMS = {
    "swapped": ("label", "score"),
    "image": ("score", "data"),
    "pair": ("score", "other"),
    "softmax": ("p", "label"),
    "flat": ("score", "flat"),
    "siamese": ("score", "other", "label"),
    "made": ("made", "label"),
    "sequence": ("made", "data"),
}


def net_of(case: LossCase, *, matrix: str = MATRIX) -> str:
    """The net of a case."""
    n, c, h, w = shape_of(case)
    infogain = f'infogain_loss_param {{ source: "{matrix}" }}' if case.type == "InfogainLoss" else ""
    labels = " ".join(f"dim: {size}" for size in labels_of(case))
    layers = {
        name: f'layer {{ name: "{top}" type: "{kind}" bottom: "data" top: "{top}" {settings} }}'
        for name, top, kind, settings in (
            (
                "score",
                "score",
                "Convolution",
                f"convolution_param {{ num_output: {case.classes} kernel_size: 3 pad: 1 }}",
            ),
            ("other", "other", "Convolution", f"convolution_param {{ num_output: {case.classes} kernel_size: 1 }}"),
            ("row", "score", "InnerProduct", f"inner_product_param {{ num_output: {case.classes} }}"),
            ("row2", "other", "InnerProduct", f"inner_product_param {{ num_output: {case.classes} }}"),
        )
    }
    bottoms = " ".join(f'bottom: "{name}"' for name in BOTTOMS.get(case.shape, ("score", "label")))
    return f"""
name: "losses"
layer {{ name: "data" type: "Input" top: "data" top: "label" input_param {{
    shape {{ dim: {n} dim: {c} dim: {h} dim: {w} }} shape {{ {labels} }} }} }}
{BODIES[case.shape].format(**layers)} {case.beside}
layer {{ name: "loss" type: "{case.type}" {bottoms} top: "loss" {case.settings} {infogain} }}
"""


def shape_of(case: LossCase) -> tuple[int, int, int, int]:
    """The shape of a case's data: more images, and smaller ones, where each has one label."""
    return SHAPE if case.of_maps else SMALL


def labels_of(case: LossCase) -> tuple[int, ...]:
    """The shape of a case's labels."""
    n, _, h, w = shape_of(case)
    return (n, case.classes if case.shape == "classes" else 1, h, w) if case.of_maps else (n,)


def matrix() -> bytes:
    """An infogain matrix of CLASSES classes, not symmetric, as Caffe reads it."""
    values = np.eye(CLASSES) + 0.3 * rs("infogain").random_sample((CLASSES, CLASSES))
    blob = BlobProto(num=1, channels=1, height=CLASSES, width=CLASSES, data=values.ravel().tolist())
    return bytes(blob.SerializeToString())


def batches(case: LossCase) -> solving.Batches:
    """Noise, and labels of which some are ignored."""
    shape = shape_of(case)
    highest = 2 if case.shape == "siamese" else max(2, min(case.classes, CLASSES))
    found = []
    for step in range(STEPS):
        r = rs(f"losses/{step}")
        data = (r.standard_normal(shape) * case.spread).astype(np.float32)
        label = r.randint(0, highest, labels_of(case)).astype(np.float32)
        if case.ignored is not None:
            label[0, :, :2, 1:] = case.ignored
        found.append({"data": data, "label": label})
    return found


def first(case: LossCase, made: TrainingTask) -> Mapping[str, tuple[np.ndarray, ...]]:
    """The weights that a case begins with."""
    state = {key: blob.numpy() for key, blob in made.net.state_dict().items()}
    if case.filling == "zoo":
        types = {layer.name: layer.type for layer in parse_prototxt(net_of(case)).layers}
        return {
            layer: tuple(zoo_blob(layer, types[layer], i, blob.shape) for i, blob in enumerate(blobs))
            for layer, blobs in solving.by_layer(state).items()
        }
    params = {layer: [blob.shape for blob in blobs] for layer, blobs in solving.by_layer(state).items()}
    kind = "Convolution" if case.of_maps else "InnerProduct"
    return fill_state(params, dict.fromkeys(params, kind), deconvolution="random")


def task(case: LossCase, folder: Path) -> TrainingTask:
    """The net of a case with its first weights; its matrix is written into `folder`."""
    (folder / MATRIX).write_bytes(matrix())
    made = task_of(parse_prototxt(net_of(case, matrix=str(folder / MATRIX))))
    return solving.start(made, first(case, made))


def train(case: LossCase, made: TrainingTask) -> dict[str, np.ndarray]:
    """The losses of each step, and the weights after the last, under the keys of the recording."""
    made.net.train()
    done = solving.train(made, parse_solver(f"{SOLVER} {case.solver}"), batches(case))
    return {"loss": done.losses["loss"], **blobs_of(done.blobs)}


def blobs_of(blobs: Mapping[str, Sequence[np.ndarray]]) -> dict[str, np.ndarray]:
    """The blobs of each layer, under the keys of the recording."""
    return {f"{layer}/{i}": np.array(blob) for layer, own in blobs.items() for i, blob in enumerate(own)}


def recorded(name: str) -> dict[str, np.ndarray]:
    """What Caffe did."""
    with np.load(GOLDEN / "solver" / "losses.npz") as arrays:
        return {key.removeprefix(f"{name}/"): arrays[key] for key in arrays.files if key.startswith(f"{name}/")}


def furthest(ours: Mapping[str, np.ndarray], caffes: Mapping[str, np.ndarray]) -> float:
    """The largest difference, relative to the norm of Caffe's array."""
    return max(float(np.linalg.norm(ours[key] - caffes[key]) / np.linalg.norm(caffes[key])) for key in caffes)


def tensors(case: LossCase) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (n, classes, h, w) and labels (n, h, w) of a case's first batch, in double precision."""
    r = rs("losses/scores")
    n, _, h, w = SHAPE
    scores = torch.from_numpy(r.standard_normal((n, case.classes, h, w)))
    return scores, torch.from_numpy(batches(case)[0]["label"][:, 0]).long()
