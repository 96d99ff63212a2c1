"""The lossless net in OpenVINO (pip install 'fcn-port[openvino]')."""

from __future__ import annotations

from collections.abc import Mapping

import openvino
import torch
from onnx import ModelProto
from torch import Tensor

from .onnx_graph import head_model, tail_model
from .split import Arrays, Model, SplitEngine, reference_plan


def build(engine: SplitEngine) -> tuple[Model, Model]:
    """Head and tail as two compiled models."""
    plan = reference_plan(engine.lossless, engine.period)
    background = engine.lossless.state().backgrounds.of(plan, torch.zeros(0))
    tail, engine.outputs = tail_model(plan, engine.lossless.graph)
    core = openvino.Core()
    return _Compiled(core, head_model(plan, background)), _Compiled(core, tail)


class _Compiled:
    def __init__(self, core: openvino.Core, model: ModelProto) -> None:
        options = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "f32",  # by default it may choose bfloat16 where the processor has it
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", options)
        self._request = compiled.create_infer_request()
        self._outputs = [port.any_name for port in compiled.outputs]

    def __call__(self, inputs: Mapping[str, Tensor]) -> Arrays:
        self._request.infer({name: x.numpy() for name, x in inputs.items()}, share_inputs=True)
        return {name: torch.from_numpy(self._request.get_tensor(name).data.copy()) for name in self._outputs}
