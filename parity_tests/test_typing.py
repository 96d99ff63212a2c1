"""What a type checker says of a stranger's program: of the README's own lines, and of wrong uses of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from parity_tests.test_architecture import ROOT

pytest.importorskip("mypy")

CONFIG = """[mypy]
strict = True
python_version = 3.10
cache_dir = {cache}
[mypy-fcn_port.*,converters.*,weights.*]
follow_imports = silent
"""
"""As if the packages were installed, of which mypy reports nothing."""

PRELUDE = """import torch

x = torch.zeros(1, 3, 100, 100)
"""

USES = """import fcn_port
from fcn_port import Net, Segmentation, converters, weights as catalogue

net: Net = fcn_port.load("mine.caffemodel", prototxt="mine.prototxt")
fast: Net = fcn_port.fast(net)
one: Segmentation = fcn_port.segment(fast, "x.png")
two: dict[str, Segmentation] = fcn_port.segment(fcn_port.load("siftflow-fcn8s"), "x.png")
three: dict[str, Segmentation] = fcn_port.segment(fcn_port.build("siftflow-fcn8s", {"sem": 4, "geo": 2}), "x.png")
weights = sum(weight.numel() for weight in net.eval().parameters())
release: str | None = fast.release
sizes: tuple[int, ...] = net.inputs["data"]
outputs: tuple[str, ...] = net.outputs
figures: int = len(converters.passes.to_deploy(net.spec).layers)
checked: bool = fcn_port.exporting.export("voc-fcn8s", to="onnx").checked
layers: list[str] = [layer.name for layer in net.spec.layers]
spec: converters.NetSpec = converters.read_prototxt("net.prototxt")
releases: list[str] = list(catalogue.releases())
"""
WRONG = {
    "fcn_port.segment(fcn_port.build('siftflow-fcn8s'), 'x.png').overlay()": "union-attr|attr-defined",
    "fcn_port.load('voc-fcn8s').preprocessing.inputs": "union-attr",
    "fcn_port.load(8)": "call-overload",
    "fcn_port.trace(fcn_port.build('voc-fcn8s'), 100)": "arg-type",
    "fcn_port.build('voc-fcn8s').inputs['data'] + 1": "operator",
}


def readme_program() -> str:
    """The README's blocks of Python, each a function with its own names."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 2
    text = PRELUDE
    for number, block in enumerate(blocks):
        imports = "".join(line for line in block.splitlines(keepends=True) if line.startswith("import "))
        body = "".join(f"    {line}" for line in block.replace(imports, "").splitlines(keepends=True))
        text += f"{imports}\n\ndef block{number}() -> None:\n{body}\n"
    return text


def test_the_readmes_lines_and_other_uses_are_typed_and_wrong_ones_are_seen(tmp_path: Path) -> None:
    """One run of mypy --strict in a folder of its own: reading torch's types takes it most of the time."""
    wrong = "import fcn_port\n\n" + "\n".join(WRONG) + "\n"
    for name, text in (("readme.py", readme_program()), ("uses.py", USES), ("wrong.py", wrong)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    config = tmp_path / "mypy.ini"
    config.write_text(CONFIG.format(cache=ROOT / ".mypy_cache" / "stranger"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(config), "readme.py", "uses.py", "wrong.py"],
        capture_output=True, text=True, cwd=tmp_path, timeout=600, env={"MYPYPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    found = done.stdout + done.stderr
    assert f"Found {len(WRONG)} errors in 1 file (checked 3 source files)" in found, found
    for number, (line, code) in enumerate(WRONG.items(), start=3):
        assert re.search(rf"^wrong.py:{number}: error: .*\[({code})\]$", found, re.MULTILINE), (line, found)


ROOMS = ("data", "evaluation", "nets", "predict", "training")
FACES = ("fcn_port", "converters", "weights", *(f"fcn_port.{room}" for room in ROOMS))


ALONE = """import fcn_port
from importlib import import_module
CONVERTERS = ("diff", "execution", "export", "formats", "layers", "net", "passes", "solver")
faces = {fcn_port.converters: CONVERTERS, fcn_port.weights: ["download"], fcn_port: fcn_port._ROOMS}
for face, rooms in faces.items():
    assert {*rooms} <= {*dir(face)}
    for room in rooms:
        assert getattr(face, room) is import_module(f"{face.__name__}.{room}"), room
assert {"converters", "weights"} <= {*dir(fcn_port)}
"""
COMPLETED = """import importlib, sys
from importlib.util import find_spec
for package in sys.argv[1:]:
    face = importlib.import_module(package)
    missing = {*face.__all__} - {*dir(face)}
    assert not missing, (package, missing)
    beside = {name for name in dir(face) if name not in face.__all__ and name[:2] != "__"}
    assert all(find_spec(f"{package}.{name}") or name in ("converters", "weights") for name in beside), beside
    assert all(getattr(face, name) is not None for name in face.__all__), package
"""


def test_tab_completion_shows_what_there_is() -> None:
    """In a process where nothing has asked for the names yet, which would put them there."""
    command = [sys.executable, "-c", COMPLETED, *FACES]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.returncode == 0, done.stderr


def test_rooms_are_there_without_an_import_of_their_own() -> None:
    """`fcn_port.training.CaffeSolver`, as docs write it, after `import fcn_port` alone."""
    command = [sys.executable, "-c", ALONE]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.returncode == 0, done.stderr
