"""Record golden/solver/test-net/outputs.json again: what Caffe's own program prints of a TEST net on the way."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np

from converters.formats.caffemodel import write_caffemodel
from converters.formats.model import CaffeModel
from converters.formats.prototxt import read_prototxt
from converters.passes import filter_phase
from parity_tests.goldens import GOLDEN
from parity_tests.oracle.client import Oracle, open_oracle

FOLDER = GOLDEN / "solver" / "test-net"
_TEST = re.compile(r"Iteration (\d+), Testing net")
_OUTPUT = re.compile(r"Test net output #(\d+): (\w+) = ([-+.e\d]+)")


def first_weights() -> dict[str, tuple[np.ndarray, ...]]:
    """The weights that the run begins with."""
    draw = np.random.RandomState(7)
    return {"score": (draw.randn(3, 3, 3, 3).astype(np.float32) * 0.3, draw.randn(3).astype(np.float32))}


def write_first(path: Path) -> None:
    """Write them as a .caffemodel."""
    spec = filter_phase(read_prototxt(FOLDER / "net.prototxt"), phase="TRAIN")
    write_caffemodel(CaffeModel(spec, first_weights()), path)


def tested(oracle: Oracle) -> list[dict]:
    """The tests of Caffe's run: after how many updates, and each output by name in Caffe's order."""
    with oracle._job() as job:
        for name in ("raw", "labels"):
            shutil.copytree(GOLDEN / "stores" / name, job / name)
        for name in ("net.prototxt", "solver.prototxt"):
            shutil.copyfile(FOLDER / name, job / name)
        write_first(job / "first.caffemodel")
        done = subprocess.run(
            ["chroot", oracle.folder, "/usr/bin/env", "-C", f"/tmp/{job.name}", "GLOG_logtostderr=1", "caffe", "train",
             "--solver=solver.prototxt", "--weights=first.caffemodel"],
            capture_output=True, text=True, check=True, timeout=oracle.timeout,
        )  # fmt: skip
    found: list[dict] = []
    for line in done.stderr.splitlines():
        if begun := _TEST.search(line):
            found.append({"iteration": int(begun[1]), "outputs": {}})
        elif said := _OUTPUT.search(line):
            found[-1]["outputs"][said[2]] = float(said[3])
    return found


if __name__ == "__main__":
    (FOLDER / "outputs.json").write_text(json.dumps(tested(open_oracle()), indent=1) + "\n")
