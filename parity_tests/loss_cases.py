"""Losses beside SoftmaxWithLoss, trained in Caffe and here, a convolution each (golden/solver/losses.npz)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from converters import parse_prototxt
from converters.formats.solver import parse_solver
from converters.schema import BlobProto
from fcn_port.training import TrainingTask, task_of
from parity_tests import solving
from parity_tests.fill import fill_state, rs
from parity_tests.goldens import GOLDEN

STEPS = 4
SOLVER = 'base_lr: 0.05 momentum: 0.9 weight_decay: 0.01 lr_policy: "fixed"'
MATRIX = "H.binaryproto"
SHAPE = (2, 3, 6, 7)
CLASSES = 4


@dataclass(frozen=True)
class LossCase:
    """A loss layer's type and settings; `ignored` of its labels; how wide scores are spread by the data."""

    type: str
    settings: str = ""
    ignored: int | None = None
    spread: float = 1.0

    @property
    def classes(self) -> int:
        """The channels of the scores."""
        return 1 if self.type.startswith("Sigmoid") else CLASSES


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
}


def net_of(case: LossCase, *, matrix: str = MATRIX) -> str:
    """The net of a case."""
    n, c, h, w = SHAPE
    infogain = f'infogain_loss_param {{ source: "{matrix}" }}' if case.type == "InfogainLoss" else ""
    return f"""
name: "losses"
layer {{ name: "data" type: "Input" top: "data" top: "label" input_param {{
    shape {{ dim: {n} dim: {c} dim: {h} dim: {w} }} shape {{ dim: {n} dim: 1 dim: {h} dim: {w} }} }} }}
layer {{ name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param {{ num_output: {case.classes} kernel_size: 3 pad: 1 }} }}
layer {{ name: "loss" type: "{case.type}" bottom: "score" bottom: "label" top: "loss" {case.settings} {infogain} }}
"""


def matrix() -> bytes:
    """An infogain matrix of CLASSES classes, not symmetric, as Caffe reads it."""
    values = np.eye(CLASSES) + 0.3 * rs("infogain").random_sample((CLASSES, CLASSES))
    blob = BlobProto(num=1, channels=1, height=CLASSES, width=CLASSES, data=values.ravel().tolist())
    return bytes(blob.SerializeToString())


def batches(case: LossCase) -> solving.Batches:
    """Noise, and labels of which some are ignored."""
    n, _, h, w = SHAPE
    found = []
    for step in range(STEPS):
        r = rs(f"losses/{step}")
        data = (r.standard_normal(SHAPE) * case.spread).astype(np.float32)
        label = r.randint(0, max(2, case.classes), (n, 1, h, w)).astype(np.float32)
        if case.ignored is not None:
            label[0, :, :2, 1:] = case.ignored
        found.append({"data": data, "label": label})
    return found


def first(case: LossCase) -> Mapping[str, tuple[np.ndarray, ...]]:
    """The weights that a case begins with."""
    params = {"score": [(case.classes, 3, 3, 3), (case.classes,)]}
    return fill_state(params, {"score": "Convolution"}, deconvolution="random")


def task(case: LossCase, folder: Path) -> TrainingTask:
    """The net of a case with its first weights; its matrix is written into `folder`."""
    (folder / MATRIX).write_bytes(matrix())
    return solving.start(task_of(parse_prototxt(net_of(case, matrix=str(folder / MATRIX)))), first(case))


def train(case: LossCase, made: TrainingTask) -> dict[str, np.ndarray]:
    """The losses of each step, and the weights after the last, under the keys of the recording."""
    done = solving.train(made, parse_solver(SOLVER), batches(case))
    (loss,) = done.losses.values()
    return {"loss": loss, **{f"score/{i}": blob for i, blob in enumerate(done.blobs["score"])}}


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
