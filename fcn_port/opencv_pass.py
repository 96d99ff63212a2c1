"""The outputs of OpenCV's own Caffe importer for a definition and its blobs, made in a process of its own.

OpenCV 4.14 divides by 0 on some nets that Caffe takes (a Convolution with `axis: 2`), which ends the process: it is
another one than that of somebody who asks.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from converters.escaping import terminal
from converters.export import to_caffe
from converters.formats import CaffeModel, with_lent, write_caffemodel, write_prototxt
from converters.net import LayerSpec, NetSpec
from converters.passes import with_input_shapes
from converters.safety import scaled

WORKER = Path(__file__).with_name("opencv_worker.py")
SECONDS = 600
"""The time that a pass may take, times FCN_PORT_LIMITS."""


class OpenCVPassError(RuntimeError):
    """OpenCV does not read a net, or does not get through it; the message is what it said."""


def opencv_outputs(spec: NetSpec, model: CaffeModel, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs by blob; OpenCVPassError where OpenCV refuses the net, or ends on it."""
    spec = to_caffe(spec)
    # OpenCV gives the first output of a layer by the layer's name: not what others change in place, nor a second top.
    read = {name: LayerSpec(f"{name} as output", "Power", (name,), (f"{name} as output",)) for name in spec.outputs}
    spec = replace(spec, layers=(*spec.layers, *read.values()))
    with tempfile.TemporaryDirectory(prefix="fcn-port-opencv-") as name:
        folder = Path(name)
        shapes = {name: x.shape for name, x in inputs.items()}
        write_prototxt(with_input_shapes(spec, shapes), folder / "net.prototxt")
        own = {layer.name for layer in spec.layers}
        kept = {name: blobs for name, blobs in with_lent(model.blobs, spec).items() if name in own}
        write_caffemodel(CaffeModel(spec=spec, blobs=kept), folder / "net.caffemodel")
        np.savez(folder / "inputs.npz", **{str(number): x for number, x in enumerate(inputs.values())})  # type: ignore[arg-type]
        layers = [layer.name for layer in read.values()]
        job = {"path": sys.path, "inputs": list(inputs), "layers": layers}
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        _run(folder)
        with np.load(folder / "outputs.npz") as found:
            return {name: found[str(number)] for number, name in enumerate(read)}


def _run(folder: Path) -> None:
    """Have the job of a folder done; OpenCVPassError where its outputs are not there then."""
    seconds = scaled(SECONDS)
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(WORKER), str(folder)], env={**os.environ, "OPENCV_LOG_LEVEL": "SILENT"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise OpenCVPassError(f"it is not done after {seconds:.0f} s") from None
    problem = folder / "problem.txt"
    if problem.is_file():
        raise OpenCVPassError(problem.read_text(encoding="utf-8"))
    if done.returncode < 0:
        raise OpenCVPassError(f"it ended its process by {signal.Signals(-done.returncode).name}")
    if done.returncode:
        raise OpenCVPassError(terminal(done.stderr.strip().rpartition("\n")[2])[:300])
