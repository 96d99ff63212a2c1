"""What `pip install fcn-port` gives without its extra torch, and the one line where something does need it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from converters.extras import EXTRAS
from parity_tests.test_architecture import ROOT

MINI = "parity_tests/golden/formats/fcn8s-mini.caffemodel"
WITHOUT = "import sys; sys.modules['torch'] = None\n"
RUN = f"{WITHOUT}from fcn_port.cli import run; sys.exit(run(sys.argv[1:]))"


def without_torch(code: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A Python in which `import torch` fails as where it is not installed."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "FCN_PORT_WEIGHTS": str(folder), "XDG_CACHE_HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "line",
    [
        f"inspect {MINI}",
        f"inspect {MINI} --json",
        f"diff {MINI} {MINI}",
        f"trace {MINI} 100x100 --explain-crops",
        f"convert {MINI} -o OUT/mini.safetensors",
        "releases voc-fcn8s",
        "fetch sample",
        "convert sample",
        "inspect sample",
        "data",
    ],
)
def test_a_verb_that_needs_no_torch(line: str, tmp_path: Path) -> None:
    done = without_torch(RUN, *line.replace("OUT", str(tmp_path)).split(), folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_converting_a_file_does_not_wait_for_what_it_does_not_need(tmp_path: Path) -> None:
    """What draws bars, HTTP and TLS, HDF5: they took as long as half of the copy of 538 MB."""
    needless = ("rich", "urllib.request", "http.client", "ssl", "h5py", "cattrs")
    blocked = f"import sys; sys.modules.update(dict.fromkeys({needless}))\n"
    code = blocked + RUN
    done = without_torch(code, "convert", MINI, "-o", str(tmp_path / "mini.safetensors"), folder=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "verify sample",
        f"predict {MINI} weights/sample/shapes.png --padded --out OUT",
        "evaluate sample --data OUT",
        f"export {MINI} --to torch-export -o OUT/mini.pt2",
        "inspect voc-fcn8s",
        "predict OUT/weights.bin weights/sample/shapes.png --mean 0 --out OUT",
        "predict OUT weights/sample/shapes.png",
        "predict hf:some/net weights/sample/shapes.png",
    ],
)
def test_a_verb_that_needs_torch_says_in_one_line_what_to_install(line: str, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"PK\3\4" + b"\0" * 60)  # as torch.save begins
    done = without_torch(RUN, *line.replace("OUT", str(tmp_path)).split(), folder=tmp_path)
    assert done.returncode == 1
    said = [text for text in done.stderr.splitlines() if text.startswith("fcn-port:")]
    assert said == ["fcn-port: this needs PyTorch, which is not installed: pip install 'fcn-port[torch]'"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("predict OUT/gone.caffemodel", 2, "OUT/gone.caffemodel: no such file or directory"),
        ("predict OUT/gone.pth", 2, "OUT/gone.pth: no such file or directory"),
        ("predict OUT/other.prototxt", 3, "OUT/other.prototxt: this is a net without weights"),
        ("predict OUT/cut.caffemodel", 3, "OUT/cut.caffemodel: "),
        ("predict OUT/cut.h5", 3, "OUT/cut.h5: "),
        ("predict OUT/cut.safetensors", 3, "OUT/cut.safetensors: "),
        (f"predict {MINI} --prototxt OUT/other.prototxt", 3, f"{MINI}: no layer of the net is in this file"),
    ],
)  # fmt: skip
def test_a_file_with_which_something_is_wrong_is_not_said_to_need_torch(
    line: str, status: int, said: str, tmp_path: Path
) -> None:
    """What is wrong is said, with the status that it has where torch is installed."""
    content = (ROOT / MINI).read_bytes()
    for name in ("cut.caffemodel", "cut.h5", "cut.safetensors"):
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    net = """input: "data" input_shape { dim: [1, 3, 8, 8] }
        layer { name: "x" type: "InnerProduct" bottom: "data" top: "x" inner_product_param { num_output: 2 } }"""
    (tmp_path / "other.prototxt").write_text(net)
    arguments = f"{line} weights/sample/shapes.png --mean 0 --out OUT".replace("OUT", str(tmp_path)).split()
    done = without_torch(RUN, *arguments, folder=tmp_path)
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith(f"fcn-port: {said.replace('OUT', str(tmp_path))}")
    with_torch = "import sys; from fcn_port.cli import run; sys.exit(run(sys.argv[1:]))"
    assert without_torch(with_torch, *arguments, folder=tmp_path).returncode == status


@pytest.mark.parametrize("name", ["fcn_port.load", "fcn_port.fast", "converters.CaffeNet"])
def test_a_name_that_needs_torch_says_what_to_install(name: str, tmp_path: Path) -> None:
    module = name.partition(".")[0]
    done = without_torch(f"{WITHOUT}import {module}; {name}", folder=tmp_path)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: ")
    assert last.endswith(f".{name.partition('.')[2]} needs PyTorch: pip install 'fcn-port[torch]'")


@pytest.mark.parametrize("name", ["segment", "classify", "prepare"])
def test_what_is_no_net_is_told(name: str, tmp_path: Path) -> None:
    code = f"{WITHOUT}import fcn_port; fcn_port.{name}('voc-fcn8s', 'weights/sample/shapes.png')"
    done = without_torch(code, folder=tmp_path)
    assert done.stderr.splitlines()[-1].startswith("ValueError: expected a net; found 'voc-fcn8s'; fcn_port.load")


def test_a_state_dict_needs_torch_and_says_so(tmp_path: Path) -> None:
    code = f"{WITHOUT}import converters; converters.to_state_dict(converters.read_caffemodel({MINI!r}))"
    done = without_torch(code, folder=tmp_path)
    assert done.stderr.endswith("converters.to_state_dict needs PyTorch: pip install 'fcn-port[torch]'\n")


@pytest.mark.parametrize(
    "line", [*(f"export {MINI} --to {to} -o OUT/a{end}" for to, end in (
        ("safetensors", ".safetensors"), ("python", ".py"), ("caffe", ".caffemodel"), ("torch-export", ".pt2"),
    )), f"publish {MINI} OUT/net --no-onnx"],
)  # fmt: skip
def test_other_formats_need_no_onnx(line: str, tmp_path: Path) -> None:
    code = "import sys; sys.modules['onnx'] = None\nfrom fcn_port.cli import run; sys.exit(run(sys.argv[1:]))"
    done = without_torch(code, *line.replace("OUT", str(tmp_path)).split(), folder=tmp_path)
    assert done.returncode == 0, done.stderr


DOOR = "from fcn_port.opencv import readNet, readNetFromCaffe as read; "


@pytest.mark.parametrize(
    ("missing", "code", "said"),
    [
        ("onnx", f"{RUN}#export {MINI} --to onnx -o OUT/a.onnx", "onnx, which is not installed: {} 'fcn-port[onnx]'"),
        ("skimage", f"{RUN}#edges {MINI} a.png -o OUT/edges", "which are not installed: {} 'fcn-port[edges,torch]'"),
        ("torch", f"{RUN}#demo -o OUT/demo", "this needs PyTorch, which is not installed: {} 'fcn-port[torch]'"),
        ("cv2", f"{WITHOUT}{DOOR}read('a', 'b')#", "fcn_port.opencv needs OpenCV: {} 'fcn-port[opencv]'"),
        ("cv2", f"{WITHOUT}{DOOR}readNet('a', 'b')#", "fcn_port.opencv needs OpenCV: {} 'fcn-port[opencv]'"),
        ("onnx", f"{WITHOUT}from converters.export import build_onnx#", "needs onnx: {} 'fcn-port[onnx]'"),
    ],
)
def test_what_needs_another_extra_says_so_before_it_begins(missing: str, code: str, said: str, tmp_path: Path) -> None:
    lines, _, arguments = code.rpartition("#")
    hide = f"import sys; sys.modules['{missing}'] = None\n"
    done = without_torch(hide + lines, *arguments.replace("OUT", str(tmp_path)).split(), folder=tmp_path / "cache")
    assert done.returncode == 1 and done.stdout == "" and said.format("pip install") in done.stderr.splitlines()[-1]
    assert not arguments or "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == []


def test_extras_are_those_of_the_package_and_their_command_is_quoted() -> None:
    """Brackets are a pattern of zsh's: without quotes it finds no match."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f"\n{extra} = [" in text for _, extra in EXTRAS.values())
    files = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "fcn_port").rglob("*.py")]
    files += (ROOT / "converters").rglob("*.py")
    bare = re.compile(r"pip install [^'\"\s]*\[")
    assert [path for path in files if bare.search(path.read_text(encoding="utf-8"))] == []


def test_torch_is_an_extra_and_make_installs_it() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    required = text.partition("dependencies = [")[2].partition("]")[0]
    assert "torch" not in required and "\ntorch = [" in text
    assert "--editable '.[torch]'" in (ROOT / "Makefile").read_text(encoding="utf-8")
