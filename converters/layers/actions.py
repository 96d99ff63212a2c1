"""ActionsDetectionOutputLayer of Intel's fork: the actions of detected persons (Python layer).

Source: openvinotoolkit/training_toolbox_caffe, caffe/python/caffe/custom_layers/actions_detection_output_layer.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..arrays import to_array
from ..net.onnx_form import FLOAT, INT64
from ..net.reach import EVERYTHING, Reach
from .base import LARGEST, Layer, refuse, register_layer
from .fork import python_integer, python_settings

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer


@register_layer("Python:ActionsDetectionOutputLayer")
@dataclass(frozen=True)
class ActionsDetectionOutput(Layer):
    """Rows (1, 1, k, 8): image, action, the detection's and the action's score, and its box.

    Bottoms are DetectionOutputExtended's rows (1, 1, k, 10) and for each anchor the scores (n, h, w, actions) of its
    branch; a row's action is the best one at its anchor, x and y (the nearest that there is). With `use_nms` boxes that
    overlap by more than `least` (min_overlap) with a better one give it their score as a vote, and the action with most
    votes is its own.
    """

    anchors: int
    actions: int | None
    least: float

    bottom_count: ClassVar[tuple[int, float]] = (2, 64)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> ActionsDetectionOutput:
        settings = python_settings(spec)
        anchors = python_integer(spec, "num_anchors")
        if len(spec.bottoms) != anchors + 1:
            raise refuse(spec, f"{len(spec.bottoms)} bottoms for num_anchors {anchors}; expected {anchors + 1}")
        actions = python_integer(spec, "num_valid_actions") if settings.get("use_nms", False) else None
        least = settings.get("min_overlap", 0.45)
        if isinstance(least, bool) or not isinstance(least, (int, float)) or (actions or 1) not in range(1, LARGEST):
            raise refuse(spec, f"min_overlap {least!r} and num_valid_actions {actions}; expected numbers")
        return cls(anchors, actions, float(least))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if len(bottoms[0]) != 4 or bottoms[0][3] != 10:
            raise ValueError("the detections must be rows of 10, as DetectionOutputExtended makes them")
        if len(set(bottoms[1:])) != 1 or len(bottoms[1]) != 4:
            raise ValueError("the anchors' scores must be (n, h, w, actions), all of one shape")
        if self.actions is not None and self.actions < bottoms[1][3]:
            raise ValueError(f"{bottoms[1][3]} actions; num_valid_actions is {self.actions}")
        return ((1, 1, 1, 8),)

    def open_sizes(self) -> tuple[tuple[int, int], ...]:
        return ((0, 2),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (1,)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        rows = bottoms[0].reshape(-1, 10)
        branches = torch.stack(tuple(bottoms[1:]))
        anchor, image, y, x = (
            rows[:, column].long().clamp(-size, size - 1)
            for column, size in zip((7, 0, 9, 8), branches.shape[:4], strict=True)
        )
        scores, actions = branches[anchor, image, y, x].max(1)
        found = torch.cat([image[:, None].to(rows), actions[:, None].to(rows), rows[:, 2:3], scores[:, None],
                           rows[:, 3:7]], 1)  # fmt: skip
        if self.actions is not None:
            found = torch.from_numpy(self._voted(to_array(found))).to(rows)
        return (found[None, None],)

    def _voted(self, rows: np.ndarray) -> np.ndarray:
        """The rows (image, action, score, action's score, box) that no better one overlaps, with the actions voted."""
        kept: list[int] = []
        votes: list[np.ndarray] = []
        for index in np.argsort(-rows[:, 2], kind="stable"):
            overlaps = [_overlap(rows[index, 4:], rows[other, 4:]) for other in kept]
            action = int(rows[index, 1])
            if kept and max(overlaps) > self.least:
                votes[int(np.argmax(overlaps))][action] += rows[index, 3]
                continue
            own = np.zeros(self.actions or 0, np.float32)
            own[action] = rows[index, 3] if kept else 1
            kept.append(int(index))
            votes.append(own)
        found: np.ndarray = rows[kept].copy()
        found[:, 1] = [int(np.argmax(own)) for own in votes]
        return found

    def to_onnx(self, out: OnnxLayer) -> None:
        if self.actions is not None:
            raise out.refuse("use_nms has boxes vote one after the other", hint="end the net before it with --outputs")
        rows = out.reshape(out.bottoms[0], [-1, 10], part="rows")
        whole = out.node("Cast", [rows], part="whole", to=INT64)
        order = out.constant("place", [7, 0, 9, 8])
        place = out.node("Gather", [whole, order], part="places", axis=1)
        branches = []
        for number, branch in enumerate(out.bottoms[1:]):
            axis = out.sizes([1, out.size(branch, range(4))])
            branches.append(out.reshape(branch, [axis], part=f"branch{number}"))
        every = branches[0] if len(branches) == 1 else out.node("Concat", branches, part="branches", axis=0)
        scores = out.node("GatherND", [every, place], part="scores")
        action = out.node("ArgMax", [scores], part="action", axis=1, keepdims=1)
        best = out.reduce("ReduceMax", scores, (1,), part="best")
        parts = [
            out.node("Cast", [out.slice(whole, [1], [0], [1], part="image")], part="image_number", to=FLOAT),
            out.node("Cast", [action], part="action_number", to=FLOAT),
            out.slice(rows, [1], [2], [3], part="score"),
            best,
            out.slice(rows, [1], [3], [7], part="box"),
        ]
        out.reshape(out.node("Concat", parts, part="found", axis=1), [1, 1, -1, 8])


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """The intersection of two boxes over their union, 0 where that is empty."""
    width, height = (max(0.0, min(a[2 + i], b[2 + i]) - max(a[i], b[i])) for i in (0, 1))
    both = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return float(both / union) if union > 0 else 0.0
