"""The lossless net in onnxruntime (pip install 'fcn-port[onnx]')."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnxruntime
import torch

from .artefacts import kept
from .onnx_graph import models_of
from .split import Arrays, Models, SplitEngine


def build(engine: SplitEngine) -> Models:
    """Early and late layers as two sessions; what the optimiser made of them is kept on disk."""

    def make(folder: Path) -> None:
        for name, model in models_of(engine).items():
            options = _options()
            options.optimized_model_filepath = str(folder / f"{name}.onnx")
            written = model.write(folder / f"{name}-written.onnx")
            onnxruntime.InferenceSession(str(written), options, providers=["CPUExecutionProvider"])
            written.unlink()

    return kept(engine.lossless, engine="onnxruntime", version=onnxruntime.__version__, make=make, load=_load)


def _load(folder: Path) -> Models:
    return _OnnxSession(folder / "early.onnx"), _OnnxSession(folder / "late.onnx")


class _OnnxSession:
    """An optimised model."""

    def __init__(self, path: Path) -> None:
        options = _options()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._outputs = [each.name for each in self._session.get_outputs()]

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> Arrays:
        arrays = self._session.run(self._outputs, {name: x.numpy() for name, x in inputs.items()})
        return {name: torch.from_numpy(array) for name, array in zip(self._outputs, arrays, strict=True)}


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what it refuses is an error anyway
    return options
