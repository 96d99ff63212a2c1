"""A pass of a Caffe net in OpenCV, as a program: a folder with job.json in, outputs.npz or problem.txt in it out.

It runs by itself, without this project, as OpenCV ends the process on some nets.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(folder: Path) -> None:
    """Do the job of a folder (opencv_pass.py)."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    sys.path[:] = job["path"]
    import cv2
    import numpy as np

    try:
        net = cv2.dnn.readNetFromCaffe(str(folder / "net.prototxt"), str(folder / "net.caffemodel"))
        net.enableWinograd(False)
        with np.load(folder / "inputs.npz") as inputs:
            for number, name in enumerate(job["inputs"]):
                net.setInput(inputs[str(number)], name)
        found = {str(number): np.array(net.forward(layer)) for number, layer in enumerate(job["layers"])}
    except cv2.error as error:
        (folder / "problem.txt").write_text(str(error.err), encoding="utf-8")
        return
    np.savez(folder / "outputs.npz", **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
