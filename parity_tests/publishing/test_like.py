"""`--like RELEASE` where weights are written: inputs and names are the release's, its scores and licence are not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import fcn_port
from fcn_port.cli import run
from fcn_port.data import make_shapes
from fcn_port.exporting import export_net
from parity_tests.verbs import SAMPLE


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights that somebody trained on from the bundled release's."""
    monkeypatch.chdir(tmp_path)
    net = fcn_port.load(SAMPLE)
    with torch.no_grad():
        net.get_parameter("fc6.weight").mul_(0.9)
    export_net(net, to="caffe", out="mine.caffemodel")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "written"),
    [
        ("publish mine.caffemodel mine --like sample --no-onnx", "mine"),
        ("convert mine.caffemodel --like sample -o mine.safetensors", "mine.safetensors"),
    ],
    ids=["publish", "convert"],
)
def test_own_weights_are_not_the_release(
    line: str, written: str, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They were named after it, had its licence, and `evaluate` failed where its scores were not theirs."""
    assert run(line.split()) == 0
    net = fcn_port.load(written)
    assert net.release is None and net.card.licence is None
    assert net.classes == fcn_port.load(SAMPLE).classes and net.preprocessing is not None
    make_shapes(mine / "shapes", count=4)
    capsys.readouterr()
    assert run(["evaluate", written, "--data", "shapes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["published"] == []


@pytest.mark.parametrize("name", ["shapes-fcn8s.caffemodel", "sample"])
def test_the_release_itself_is_known(name: str, mine: Path) -> None:
    if name != "sample":
        shutil.copy(SAMPLE, name)
    assert run(["publish", name, "net", "--like", "sample", "--no-onnx"]) == 0
    assert fcn_port.load("net").release == "sample"
