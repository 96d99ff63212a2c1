"""The lossless net in OpenVINO (pip install 'fcn-port[openvino]')."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openvino
import torch
from torch import Tensor

from .artefacts import kept
from .onnx_graph import models_of
from .split import Arrays, Models, SplitEngine


def build(engine: SplitEngine) -> Models:
    """Early and late layers as two compiled models, which are kept on disk."""

    def make(folder: Path) -> None:
        core = openvino.Core()
        for name, model in models_of(engine).items():
            written = model.write(folder / f"{name}-written.onnx")
            compiled = core.compile_model(core.read_model(written), "CPU", _options())
            written.unlink()
            (folder / name).write_bytes(compiled.export_model().getbuffer())

    return kept(engine.lossless, engine="openvino", version=openvino.__version__, make=make, load=_load)


def _load(folder: Path) -> Models:
    return _Compiled(folder / "early"), _Compiled(folder / "late")


class _Compiled:
    """A compiled model, as it was exported.

    A request for an inference serves one caller at a time, so there are as many as callers have been there at once.
    """

    def __init__(self, path: Path) -> None:
        self._compiled = openvino.Core().import_model(path.read_bytes(), "CPU", _options())
        self._idle: deque[openvino.InferRequest] = deque()
        self._outputs = [port.any_name for port in self._compiled.outputs]

    def __call__(self, inputs: Mapping[str, Tensor]) -> Arrays:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        request.infer({name: x.numpy() for name, x in inputs.items()}, share_inputs=True)
        found = {name: torch.from_numpy(request.get_tensor(name).data.copy()) for name in self._outputs}
        self._idle.append(request)  # one that failed is not used again
        return found


def _options() -> dict[str, Any]:
    return {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",  # by default it may choose bfloat16 where the processor has it
        "PERFORMANCE_HINT": "LATENCY",
    }
