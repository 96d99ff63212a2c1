"""The lossless net in onnxruntime (pip install 'fcn-port[onnx]')."""

from __future__ import annotations

from collections.abc import Mapping

import onnxruntime
import torch
from onnx import ModelProto
from torch import Tensor

from .onnx_graph import head_model, tail_model
from .split import Arrays, Model, SplitEngine, reference_plan


def build(engine: SplitEngine) -> tuple[Model, Model]:
    """Head and tail as two sessions."""
    plan = reference_plan(engine.lossless, engine.period)
    background = engine.lossless.state().backgrounds.of(plan, torch.zeros(0))
    tail, engine.outputs = tail_model(plan, engine.lossless.graph)
    return _Session(head_model(plan, background)), _Session(tail)


class _Session:
    def __init__(self, model: ModelProto) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._outputs = [each.name for each in self._session.get_outputs()]

    def __call__(self, inputs: Mapping[str, Tensor]) -> Arrays:
        arrays = self._session.run(self._outputs, {name: x.numpy() for name, x in inputs.items()})
        return {name: torch.from_numpy(array) for name, array in zip(self._outputs, arrays, strict=True)}
