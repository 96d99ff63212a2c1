"""No room: the message names the file, how far it came and what to do, and nothing is half there under its name."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from parity_tests.forks import Forks
from parity_tests.verbs import argv_of, make_inputs

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits on a file's size")

FIRST_FILE = {
    "fetch": (1500, "weights/shapes-fcn8s.caffemodel"),
    "convert": (1500, "converted.safetensors"),
    "predict": (1500, "predicted/shapes.labels.png"),
    "data": (1500, "drawn/JPEGImages/shapes_0000_00000.jpg"),
    "evaluate": (200, "labels/shapes_0003_00012.png"),
    "report": (1500, "a.html"),
    "surgery": (1500, "init.safetensors"),
    "export": (1500, "back.caffemodel"),
    "train": (1500, "run/narrow_iter_1.caffemodel"),
}
"""A limit on the size of files, and which file of the verb's short run is the first that does not fit."""

LATER_FILE = {
    ("evaluate", "--markdown"): (700, "table.md"),
    ("train", "log"): (200, "run/log.jsonl"),
    ("export", "torch-export"): (1500, "net.pt2"),
    ("export", "hdf5"): (1500, "net.h5"),
    ("export", "python"): (1500, "net.py"),
    ("export", "safetensors"): (1500, "net.safetensors"),
    ("export", "onnx"): (1500, "net.onnx"),
    ("convert", "pth"): (1500, "net.pth"),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as server:
        yield server


def check(out: Path, status: int, err: str, name: str) -> None:
    """The message names the file; nothing is there that is not whole."""
    (last,) = err.splitlines()[-1:]
    assert status == 1 and "Traceback" not in err, err
    assert last.startswith("fcn-port: ") and f"{out / name}" in last and "file too large after " in last, last
    assert "files may not be larger here" in last
    assert not (out / name).is_file() or name.endswith("log.jsonl")
    assert not list(out.rglob("*.part"))


@pytest.mark.parametrize("verb", FIRST_FILE)
def test_a_file_that_may_not_grow(verb: str, inputs: Path, forks: Forks, tmp_path: Path) -> None:
    limit, name = FIRST_FILE[verb]
    variables = {"FCN_PORT_WEIGHTS": str(tmp_path / "weights"), "FCN_PORT_OFFLINE": "1"}
    done = forks.run(argv_of(verb, inputs, tmp_path), file_size=limit, variables=variables)
    check(tmp_path, done.status, done.err, name)


@pytest.mark.parametrize(("verb", "what"), LATER_FILE)
def test_the_other_files(verb: str, what: str, inputs: Path, forks: Forks, tmp_path: Path) -> None:
    limit, name = LATER_FILE[verb, what]
    argv = argv_of(verb, inputs, tmp_path)
    if verb == "export":
        argv[argv.index("caffe") :] = [what, "-o", str(tmp_path / name)]
    elif verb == "convert":
        argv[-1] = str(tmp_path / name)
    elif verb == "evaluate":
        at = argv.index("--save-labels")
        del argv[at : at + 2]
    done = forks.run(argv, file_size=limit)
    check(tmp_path, done.status, done.err, name)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_disk_says_how_much_is_free(inputs: Path, forks: Forks, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine mounts nothing")
    try:
        done = forks.run(argv_of("convert", inputs, disk))
        assert (done.status, done.out) == (1, b"")
        assert f"{disk}/converted.safetensors: no space left on device after " in done.err
        assert f"are free in {disk}; free some, or write to another disk\n" in done.err
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)
        shutil.rmtree(disk)
