"""Record outputs.json of golden/solver/test-net and data-layers again: what Caffe's own program prints on the way."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

from converters.formats.caffemodel import write_caffemodel
from converters.formats.model import CaffeModel
from converters.formats.prototxt import read_prototxt
from converters.passes import filter_phase
from parity_tests.goldens import GOLDEN
from parity_tests.oracle.client import Oracle, open_oracle

FOLDER = GOLDEN / "solver" / "test-net"
LAYERS = GOLDEN / "solver" / "data-layers"
STORES = GOLDEN / "stores"
SIZE = (4, 11)
"""new_height and new_width of the nets in data-layers."""
_TEST = re.compile(r"Iteration (\d+), Testing net \(#(\d+)\)")
_OUTPUT = re.compile(r"Test net output #(\d+): (\w+) = ([-+.e\d]+)")
_TRAINED = re.compile(r"Train net output #\d+: (\w+) = ([-+.e\d]+)")


def first_weights() -> dict[str, tuple[np.ndarray, ...]]:
    """The weights that a run begins with; test-net has the first layer alone."""
    draw = np.random.RandomState(7)
    blobs = (draw.randn(3, 3, 3, 3).astype(np.float32) * 0.3, draw.randn(3).astype(np.float32))
    grey = (draw.randn(3, 1, 3, 3).astype(np.float32) * 0.3, draw.randn(3).astype(np.float32))
    return {"score": blobs, "score_grey": grey}


def write_first(path: Path, folder: Path = FOLDER) -> None:
    """Write them as a .caffemodel."""
    spec = filter_phase(read_prototxt(folder / "net.prototxt"), phase="TRAIN")
    names = {layer.name for layer in spec.layers}
    blobs = {name: value for name, value in first_weights().items() if name in names}
    write_caffemodel(CaffeModel(spec, blobs), path)


def write_mean(path: Path) -> None:
    """Write a mean image (3, 6, 8) that differs from pixel to pixel: a BlobProto's shape and data, by hand."""
    values = np.random.RandomState(8).uniform(0, 255, (3, 6, 8)).astype("<f4").tobytes()
    shape = b"".join(bytes([number << 3, size]) for number, size in ((1, 1), (2, 3), (3, 6), (4, 8)))
    length = len(values)
    path.write_bytes(shape + b"\x2a" + bytes([length & 127 | 128, length >> 7]) + values)


def write_sized_labels(folder: Path) -> None:
    """Write the label maps at SIZE as pictures, pixel i being that at floor(i old / new)."""
    folder.mkdir()
    for number in range(3):
        labels = np.asarray(Image.open(STORES / "masks" / f"{number}.png"))
        rows, columns = ([i * old // new for i in range(new)] for old, new in zip(labels.shape, SIZE, strict=True))
        Image.fromarray(labels[np.ix_(rows, columns)]).save(folder / f"{number}.png")


def told(oracle: Oracle, folder: Path) -> str:
    """The log of Caffe's program on a solver in `folder`."""
    with oracle._job() as job:
        for name in ("raw", "encoded", "labels", "images"):
            shutil.copytree(STORES / name, job / name)
        for name in ("net.prototxt", "solver.prototxt"):
            shutil.copyfile(folder / name, job / name)
        write_first(job / "first.caffemodel", folder)
        write_mean(job / "mean.binaryproto")
        (job / "list.txt").write_text("".join(f"{number}.png 0\n" for number in range(3)))
        write_sized_labels(job / "sized")
        inside = ["chroot", oracle.folder, "/usr/bin/env", "-C", f"/tmp/{job.name}", "GLOG_logtostderr=1"]
        convert = ["convert_imageset", "--gray", "--backend=lmdb", "sized/", "list.txt", "sized_labels"]
        subprocess.run([*inside, *convert], capture_output=True, check=True, timeout=oracle.timeout)
        done = subprocess.run(
            [*inside, "caffe", "train", "--solver=solver.prototxt", "--weights=first.caffemodel"],
            capture_output=True, text=True, check=True, timeout=oracle.timeout,
        )  # fmt: skip
    return done.stderr


def tested(text: str) -> list[dict]:
    """The tests that a log tells of: after how many updates, which net, and each output by name in Caffe's order."""
    found: list[dict] = []
    for line in text.splitlines():
        if begun := _TEST.search(line):
            found.append({"iteration": int(begun[1]), "net": int(begun[2]), "outputs": {}})
        elif said := _OUTPUT.search(line):
            found[-1]["outputs"][said[2]] = float(said[3])
    return found


def trained(text: str) -> list[dict[str, float]]:
    """The losses of the updates that a log tells of, by name."""
    found: list[dict[str, float]] = []
    for name, value in _TRAINED.findall(text):
        if not found or name in found[-1]:
            found.append({})
        found[-1][name] = float(value)
    return found


def _record(folder: Path) -> None:
    text = told(open_oracle(), folder)
    known = {"tested": tested(text), "trained": trained(text)}
    (folder / "outputs.json").write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    for each in (FOLDER, LAYERS):
        _record(each)
