"""Nets that do not label pixels, or take no picture: told in one line, on the command line too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import fcn_port
from converters import CaffeFormatError, CaffeNet, NetError, parse_prototxt
from fcn_port.cli import run
from fcn_port.predict.tiles import tiling_of
from parity_tests.fuzz.seeds import CARD, photograph

DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 24 dim: 32 } } }\n'
POOL = 'layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { kernel_size: %d stride: %d } }\n'
NETS = {
    "no output": (DATA + 'layer { name: "s" type: "Silence" bottom: "data" }\n', "no output|expected the inputs"),
    "no layer": ("layer {}\n", "no output|expected the inputs"),
    "a classifier": (
        DATA + 'layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { global_pooling: true } }\n',
        "its output is scores of 3 classes for the image as a whole",
    ),
    "scores of a vector": (
        DATA + 'layer { name: "p" type: "Flatten" bottom: "data" top: "p" }\n',
        "2304 classes for the image",
    ),
    "another number of channels": (DATA.replace("dim: 3", "dim: 4"), "does not take an image of 24x32 pixels"),
}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(photograph())
    return path


def net_file(tmp_path: Path, prototxt: str) -> Path:
    path = tmp_path / "net.safetensors"
    save_file({}, path, {"prototxt": prototxt, **CARD})
    return path


@pytest.mark.parametrize("name", NETS)
def test_a_net_that_labels_no_pixels(
    name: str, tmp_path: Path, picture: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prototxt, says = NETS[name]
    weights = net_file(tmp_path, prototxt)
    with pytest.raises(NetError, match=says):
        fcn_port.segment(fcn_port.load(weights), picture)
    named = "classes" in says  # predict names the image then
    assert run(["predict", str(weights), str(picture), "--out", str(tmp_path / "out")]) == (0 if named else 3)
    assert "Traceback" not in capfd.readouterr().err


def test_more_classes_than_an_indexed_picture_holds(tmp_path: Path, picture: Path) -> None:
    weights = net_file(
        tmp_path,
        DATA + 'layer { name: "t" type: "Tile" bottom: "data" top: "t" tile_param { axis: 1 tiles: 100 } }\n'
        'layer { name: "n" type: "Power" bottom: "t" top: "n" power_param { scale: -1 } }\n',
    )
    seen = fcn_port.segment(fcn_port.load(weights), picture)
    assert isinstance(seen, fcn_port.Segmentation) and seen.labels.dtype == np.int64
    seen.labels[0, 0] = 299
    with pytest.raises(CaffeFormatError, match="label 299"):
        seen.label_image()


@pytest.mark.parametrize(
    ("prototxt", "says"), [(NETS["no output"][0], "no output"), (DATA + POOL % (9973, 9973), "9973")]
)
def test_nets_that_no_tile_fits(prototxt: str, says: str, tmp_path: Path) -> None:
    spec = prototxt.replace("dim: 24", "dim: 99730").replace("dim: 32", "dim: 99730")
    with pytest.raises(ValueError, match=says):
        tiling_of(fcn_port.load(net_file(tmp_path, spec)))


INDEXED = {
    "Embed": 'layer { name: "e" type: "Embed" bottom: "data" top: "e" embed_param { input_dim: 5 num_output: 2 } }',
    "BatchReindex": 'layer { name: "e" type: "BatchReindex" bottom: "x" bottom: "data" top: "e" }',
    "Upsample": 'layer { name: "e" type: "Upsample" bottom: "y" bottom: "mask" top: "e" upsample_param { scale: 1 } }',
}
INPUTS = """layer { name: "i" type: "Input" top: "data" top: "x"
  input_param { shape { dim: 3 } shape { dim: 3 dim: 2 } } }
layer { name: "j" type: "Input" top: "y" top: "mask"
  input_param { shape { dim: 1 dim: 1 dim: 2 dim: 2 } shape { dim: 1 dim: 1 dim: 2 dim: 2 } } }
"""


@pytest.mark.parametrize("kind", INDEXED)
@pytest.mark.parametrize("index", [5, -6, 1e9])
def test_indices_that_lead_out_of_a_blob(kind: str, index: float) -> None:
    net = CaffeNet(parse_prototxt(INPUTS + INDEXED[kind]), outputs=["e"])
    inputs = {name: torch.full(shape, index) for name, shape in net.inputs.items()}
    with pytest.raises(NetError, match=r"layer 'e'.*: an index leads out of the blob"):
        net(**inputs)
    net(**{name: torch.zeros(shape) for name, shape in net.inputs.items()})


@pytest.mark.parametrize("name", ["no output", "scores of a vector", "another number of channels"])
def test_evaluating_a_net_that_labels_no_pixels(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    weights, data = net_file(tmp_path, NETS[name][0]), tmp_path / "data"
    assert run(["data", "shapes", "--make", str(data), "--count", "1", "--seed", "1", "--val", "1"]) == 0
    arguments = ["evaluate", str(weights), "--data", str(data), "--split", "val", "--no-cache", "--device", "cpu"]
    assert run(arguments) == 3
    assert "Traceback" not in capfd.readouterr().err


def test_what_does_not_fit_a_net_is_an_error_about_it() -> None:
    net = CaffeNet(parse_prototxt(DATA + POOL % (2, 2)))
    for given in ((), (torch.zeros(1, 4, 24, 32),), (torch.zeros(1, 3, 24, 32),) * 2, (torch.zeros(3, 24),)):
        with pytest.raises(NetError):
            net(*given)
