"""`--register FILE.py`: a layer type of one's own, in the verbs that take nets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from converters.net import layer
from fcn_port.cli import run

OWN = """
from dataclasses import dataclass
from converters import register_layer
from converters.layers.base import Neuron

@register_layer("TimesSeven")
@dataclass(frozen=True)
class TimesSeven(Neuron):
    def forward(self, bottoms, blobs, *, training=False):
        return (bottoms[0] * 7,)
"""
NET = """
input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "x7" type: "TimesSeven" bottom: "data" top: "x7" }
"""


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[str, str]]:
    layer._types.pop("TimesSeven", None)  # docs/recipes.md has one, too, and its test may have been here
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "net.prototxt").write_text(NET)
    yield str(tmp_path / "own.py"), str(tmp_path / "net.prototxt")
    layer._types.pop("TimesSeven", None)


@pytest.mark.parametrize("verb", ["inspect", "trace"])
def test_a_type_of_one_s_own(verb: str, files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    own, net = files
    assert run([verb, net]) == (3 if verb == "trace" else 0)  # inspect shows what it can
    assert "--register FILE.py" in capsys.readouterr().err
    assert run([verb, net, "--register", own]) == 0
    out, err = capsys.readouterr()
    assert "x7" in out and "--register" not in err


def test_what_is_wrong_in_the_file_is_said(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    own, net = files
    Path(own).write_text("x = 1\nraise KeyError('oh')\n")
    assert run(["inspect", net, "--register", own]) == 2
    err = capsys.readouterr().err
    assert "own.py, line 2: KeyError" in err and "Traceback" not in err
    assert run(["inspect", net, "--register", f"{own}.missing"]) == 2
