"""Runs an ONNX model on inputs in files: `python worker.py JOB`, where JOB is a JSON file that running.py writes.

It runs in any Python that has numpy and the library, so nothing of this package is imported here. The result is a JSON
file beside the outputs: the library's version, and for each trial its file or what the library said against it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np


class NotRun(Exception):
    """A library is not the one that is asked for, or takes a model that it does not run; the message says why."""

    def __init__(self, version: str, why: str) -> None:
        super().__init__(why)
        self.version = version


Run = Callable[[Mapping[str, Any]], Any]
"""The outputs, in the job's order, of inputs by name."""


def _opencv(job: dict[str, Any]) -> tuple[str, Run]:
    os.environ["OPENCV_LOG_LEVEL"] = "SILENT"
    import cv2

    if cv2.__version__.split(".")[0] != job["library"].removeprefix("opencv"):
        raise NotRun(cv2.__version__, f"FCN_PORT_{job['library'].upper()} names a Python with OpenCV {cv2.__version__}")
    engine = job["engine"]
    given = () if engine is None else (getattr(cv2.dnn, engine),)

    def read() -> Any:
        net = cv2.dnn.readNetFromONNX(job["model"], *given)
        if engine != "ENGINE_NEW":  # which takes no inputs any more after this
            net.enableWinograd(False)  # its rounding, up to 1e-4, is none of the model's
        return net

    nets: dict[Any, Any] = {None: read()}

    def run(inputs: Mapping[str, Any]) -> Any:
        # After a change of sizes OpenCV 4's own PriorBox and DetectionOutput go wrong, also in a net read from Caffe.
        sizes = tuple(value.shape for value in inputs.values())
        net = nets.pop(sizes, None) or nets.pop(None, None) or read()
        nets.clear()
        nets[sizes] = net
        for name, value in inputs.items():
            net.setInput(value, name)
        if len(job["outputs"]) == 1:
            return [net.forward(job["outputs"][0])]
        return list(net.forward(job["outputs"]))

    return cv2.__version__, run


def _onnxruntime(job: dict[str, Any]) -> tuple[str, Run]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(job["model"], options, providers=["CPUExecutionProvider"])
    return onnxruntime.__version__, lambda inputs: session.run(job["outputs"], inputs)


def _openvino(job: dict[str, Any]) -> tuple[str, Run]:
    import openvino

    core = openvino.Core()
    # The plugin may compute in 16 bits where the processor can, which is no fault of the model.
    compiled = core.compile_model(job["model"], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    ports = {name: compiled.output(name) for name in job["outputs"]}

    def run(inputs: Mapping[str, Any]) -> Any:
        found = compiled(inputs)
        return [found[ports[name]] for name in job["outputs"]]

    return openvino.__version__.split("-")[0], run


def _tensorrt(job: dict[str, Any]) -> tuple[str, Run]:
    import tensorrt

    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(job["model"]):
        raise RuntimeError("; ".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    raise NotRun(tensorrt.__version__, "its parser takes the model, which is not run: TensorRT runs on GPUs alone")


RUNNERS = {
    "onnxruntime": _onnxruntime,
    "opencv4": _opencv,
    "opencv5": _opencv,
    "openvino": _openvino,
    "tensorrt": _tensorrt,
}


def main(path: str) -> None:
    """Do the job; what a library says against a model is part of the result."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    result: dict[str, Any] = {"version": "", "problem": None, "not_run": None, "trials": []}
    try:
        result["version"], run = RUNNERS[job["library"]](job)
    except NotRun as told:
        result["version"], result["not_run"] = told.version, str(told)
    except Exception as error:
        result["problem"] = _said(error)
    else:
        for trial in job["trials"]:
            with np.load(trial["inputs"]) as stored:
                inputs = {name: stored[key] for key, name in trial["names"].items()}
            try:
                outputs = run(inputs)
                if any(value is None for value in outputs):  # what OpenCV says of an array without numbers
                    raise RuntimeError("it gives an output without numbers")
                np.savez(trial["outputs"], **{str(i): np.asarray(value) for i, value in enumerate(outputs)})  # type: ignore[arg-type]
                result["trials"].append(None)
            except Exception as error:
                result["trials"].append(_said(error))
    Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")


def _said(error: Exception) -> str:
    return " ".join(f"{error}".split())[-600:] or type(error).__name__


if __name__ == "__main__":
    main(sys.argv[1])
