"""No room on the disk: whatever is being written, one line names its file, nothing is left, and nothing crashes.

A limit on the size of files (RLIMIT_FSIZE) stands for the end of a disk: it too ends a write in the middle.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fcn_port.data import make_shapes
from parity_tests.test_architecture import ROOT

SAMPLE = str(ROOT / "weights" / "sample" / "shapes-fcn8s.caffemodel")
EXPORTS = {
    "onnx": "onnx", "torch-export": "pt2", "safetensors": "safetensors", "caffe": "caffemodel", "hdf5": "h5",
    "python": "py",
}  # fmt: skip
VERBS: dict[str, tuple[list[str], str]] = {
    "convert": (["convert", SAMPLE, "-o", "x.safetensors"], "x.safetensors"),
    **{to: (["export", SAMPLE, "--to", to, "--out", f"x.{end}"], f"x.{end}") for to, end in EXPORTS.items()},
    "predict": (["predict", SAMPLE, "set/JPEGImages/a.jpg", "-o", ".", "--like", "voc-fcn8s"], "a.overlay.png"),
    "report": (["report", SAMPLE, "-o", "x.html"], "x.html"),
}
PROGRAM = """
import json, resource, sys
from fcn_port.cli import run
def limited(arguments, limit):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        return run(arguments)
    except BaseException as error:
        return repr(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
for name, arguments in json.loads(sys.argv[1]).items():
    print("begins", name, file=sys.stderr, flush=True)
    print(json.dumps([name, limited(arguments, 3000)]), flush=True)
"""
"""One process for all, which import torch once; the limit is there while a verb runs."""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[object, str]]]:
    """The folder afterwards, and for each verb its exit status and what it said."""
    folder = tmp_path_factory.mktemp("full")
    make_shapes(folder / "set", count=1, size=(40, 50))
    (image,) = (folder / "set" / "JPEGImages").iterdir()
    image.rename(image.with_name("a.jpg"))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps({name: arguments for name, (arguments, _) in VERBS.items()})],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    said = {}
    for part in done.stderr.split("begins ")[1:]:
        first, _, rest = part.partition("\n")
        said[first] = rest
    found = {}
    for line in done.stdout.splitlines():
        if line.startswith("["):
            name, status = json.loads(line)
            found[name] = (status, said[name])
    return folder, found


@pytest.mark.parametrize("verb", VERBS)
def test_the_file_is_named(verb: str, ran: tuple[Path, dict]) -> None:
    found = ran[1]
    assert verb in found, f"the process died after {list(found)[-1:]}"
    status, said = found[verb]
    assert status == 1 and "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("fcn-port: ")]
    assert line.startswith(f"fcn-port: {VERBS[verb][1]}"), said
    assert "file too large" in line


def test_nothing_is_left(ran: tuple[Path, dict]) -> None:
    left = {path.name for path in ran[0].iterdir()} - {"set"}
    assert left <= {"a.labels.png", "a.labels.json"}  # written whole where 3,000 bytes were enough for them
