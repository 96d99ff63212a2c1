"""What runs inside the environment of OpenCV 5: `python -m parity_tests.opencv5.inside JOB.json`.

A job is {"do": one of `JOBS`, ...}; what came of it is said as JSON, and arrays go in and out as .npz.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np


def door(job: dict[str, Any]) -> dict[str, Any]:
    """readNetFromCaffe on files or buffers: names, and what every layer of `layers` computes of `input`."""
    begun = time.process_time()
    from fcn_port.opencv import readNetFromCaffe

    seconds = time.process_time() - begun
    import cv2

    given = [Path(job["prototxt"]), Path(job["model"])]
    if job.get("as") == "bytes":
        given = [path.read_bytes() for path in given]  # type: ignore[misc]
    elif job.get("as") == "array":
        given = [np.fromfile(path, np.uint8) for path in given]  # type: ignore[misc]
    blobs = dict(np.load(job["blobs"])) if "blobs" in job else {}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        engine = getattr(cv2.dnn, job["engine"]) if job.get("engine") else None
        net = readNetFromCaffe(*given, engine=engine, blobs={name: [value] for name, value in blobs.items()})
    for name, value in (dict(np.load(job["set"])) if "set" in job else {}).items():
        number = net.getLayerId(name)
        rest = [net.getParam(number, 1)] if job.get("set_param") else []
        net.getLayer(number).blobs = [value, *rest]
    if job.get("engine") != "ENGINE_NEW":  # which takes no inputs any more after these
        net.enableWinograd(False)  # its rounding is OpenCV's own
        if not job.get("fused"):  # one net asked for several layers gives wrong ones then, in OpenCV 4 as well
            net.enableFusion(False)
    inputs = np.load(job["input"])

    def run(name: str | None) -> np.ndarray:
        for key in inputs.files:
            net.setInput(inputs[key], key)
        return net.forward() if name is None else net.forward(name)

    shapes = {name: list(net.getParam(name).shape) for name in job.get("params", ())}
    outputs = {f"{number}": run(name) for number, name in enumerate(job["layers"])}
    np.savez(job["outputs"], **outputs, last=run(None))  # type: ignore[arg-type]
    return {
        "version": cv2.__version__,
        "import_seconds": seconds,
        "torch": "torch" in sys.modules,
        "names": list(net.getLayerNames()),
        "unconnected": list(net.getUnconnectedOutLayersNames()),
        "params": shapes,
        "warnings": [str(each.message) for each in said],
    }


def block(job: dict[str, Any]) -> dict[str, Any]:
    """A program as a page of the documentation has it, run in a folder: all its arrays go to `outputs`."""
    os.chdir(job["folder"])
    known: dict[str, Any] = {}
    exec(job["code"], known)
    arrays = {name: value for name, value in known.items() if isinstance(value, np.ndarray)}
    np.savez(job["outputs"], **arrays)  # type: ignore[arg-type]
    return {"torch": "torch" in sys.modules}


JOBS = {"door": door, "block": block}


def main(path: str) -> None:
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    print(json.dumps(JOBS[job["do"]](job)))


if __name__ == "__main__":
    main(sys.argv[1])
