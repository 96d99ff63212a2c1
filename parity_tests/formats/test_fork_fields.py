"""Fields of forks, which have names and no numbers: a .caffemodel of ours keeps them, and others pass over them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from converters import CaffeFormatError, CaffeNet, read_caffemodel, to_state_dict, write_caffemodel
from converters.formats.caffemodel import parse_caffemodel
from converters.formats.fork_fields import NUMBER
from converters.formats.model import CaffeModel
from converters.formats.prototxt import format_prototxt, parse_prototxt
from converters.formats.wire import write_tag
from converters.schema import NetParameter
from fcn_port.exporting import export_net, with_random_weights
from fcn_port.loading import load
from parity_tests.goldens import compare
from parity_tests.oracle.client import Oracle
from parity_tests.small_files import PROTOTXT, small_blobs, small_v2
from parity_tests.tolerances import tolerance

INPUT = 'name: "n" layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 33, 40] } } }\n'
LAYERS = {
    "Permute": "permute_param { order: 0 order: 2 order: [3, 1] }",
    "Convolution": "convolution_param { num_output: 4 kernel_size: 3 hole_h: 2 hole_w: 3 }",
    "Pooling": "pooling_param { pool: MAX kernel_size: 3 stride: 2 ceil_mode: false }",
    "Normalize": "norm_param { across_spatial: false scale_filler { type: 'constant' value: 2 } }",
    "Upsample": "upsample_param { scale: 3 }",
    "BN": "bn_param { bn_mode: INFERENCE }",
}
MANY = INPUT.replace("shape {", "shape { extent: 1") + (
    'fork_flag: true layer { name: "a" type: "ReLU" bottom: "data" top: "a"'
    " include { phase: TEST } include { phase: TRAIN fork: 3 deep { x: 1.25e-7 y: < z: MAX > } }"
    r' relu_param { slope: -2 words: "a\n" words: "\377\"" } exclude_none { } big: 99999999999999999999999 }'
)
"""In the net, in the second of two messages, in a message of a fork; strings, bytes, words, and what no type holds."""


def net_of(kind: str) -> str:
    return INPUT + f'layer {{ name: "x" type: "{kind}" bottom: "data" top: "x" {LAYERS[kind]} }}\n'


@pytest.mark.parametrize("kind", LAYERS)
def test_a_caffemodel_alone_computes_what_the_prototxt_says(kind: str, tmp_path: Path) -> None:
    net = with_random_weights(CaffeNet(parse_prototxt(net_of(kind))))
    export_net(net, to="caffe", out=tmp_path / "a.caffemodel")
    model = read_caffemodel(tmp_path / "a.caffemodel")
    assert not model.notes
    again = load(tmp_path / "a.caffemodel")
    assert again.spec.layer("x").params == net.spec.layer("x").params
    x = torch.randn(1, 3, 33, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(again(data=x), net(data=x))


@pytest.mark.parametrize("kind", LAYERS)
def test_without_these_fields_it_is_another_layer(kind: str) -> None:
    """So that the test above sees it when they are lost."""
    layer = parse_prototxt(net_of(kind)).layer("x")
    assert replace(layer, extra=()).params != layer.params


def test_every_field_comes_back_and_the_same_file_from_it(tmp_path: Path) -> None:
    spec = parse_prototxt(MANY)
    write_caffemodel(CaffeModel(spec, {}), tmp_path / "a.caffemodel")
    again = read_caffemodel(tmp_path / "a.caffemodel")
    assert format_prototxt(again.spec) == format_prototxt(spec)
    assert again.spec.layers[1].extra and all(field.line is None for field in again.spec.layers[1].extra)
    write_caffemodel(again, tmp_path / "b.caffemodel")
    assert (tmp_path / "b.caffemodel").read_bytes() == (tmp_path / "a.caffemodel").read_bytes()


def test_fields_with_and_without_a_name_stay_apart(tmp_path: Path) -> None:
    """Those by number, and values of enums that Caffe lacks, are in the message already."""
    net = small_v2()
    net.layer[1].MergeFromString(b"\xea\x02\x03abc\xca\x07\x02\x08\x09")  # field 45; pooling_param { pool: 9 }
    text = b"pooling_param { ceil_mode: false }"
    raw = net.layer[1].SerializeToString() + write_tag(NUMBER, len(text)) + text
    del net.layer[:]
    model = parse_caffemodel(net.SerializeToString() + write_tag(100, len(raw)) + raw)
    names = {"#45", "pooling_param.pool", "pooling_param.ceil_mode"}
    assert {field.name for field in model.spec.layers[0].extra} == names
    *fields, order = model.notes
    assert len(fields) == 2 and not any("ceil_mode" in note for note in fields) and "another order" in order
    write_caffemodel(model, tmp_path / "a.caffemodel")
    again = read_caffemodel(tmp_path / "a.caffemodel")
    assert replace(again.spec, notes=()) == replace(model.spec, notes=()) and list(again.notes) == fields


@pytest.mark.parametrize("text", [b"permute_param {", b"\xff\xfe", b"a: [" * 200, b"lines\0: 1"])
@pytest.mark.parametrize("in_layer", [True, False])
def test_damaged_text_is_told_with_its_place(text: bytes, in_layer: bool) -> None:
    net = small_v2()
    (net.layer[2] if in_layer else net).MergeFromString(write_tag(NUMBER, len(text)) + text)
    where = rf"layer 2, field {NUMBER}, line 1" if in_layer else rf"field {NUMBER}, line 1"
    with pytest.raises(CaffeFormatError, match="^" + where):
        parse_caffemodel(net.SerializeToString())


def test_text_beyond_all_measure_is_refused() -> None:
    net = small_v2()
    net.layer[2].MergeFromString(write_tag(NUMBER, 5 << 20) + b" " * (5 << 20))
    with pytest.raises(CaffeFormatError, match=r"the text of forks' fields has 524\d+ bytes, and the limit is 4194304"):
        parse_caffemodel(net.SerializeToString())


def _with_fields_of_forks(folder: Path) -> Path:
    """PROTOTXT's net and weights, as a file with fields of forks that change nothing, in the net and in its layers."""
    text = PROTOTXT.replace('type: "ReLU"', 'type: "ReLU" relu_param { fork: 1 } engine_x { a: 1 }') + "fork_flag: true"
    write_caffemodel(CaffeModel(parse_prototxt(text), small_blobs()), folder / "a.caffemodel")
    raw = (folder / "a.caffemodel").read_bytes()
    assert raw.count(b"fork: 1") == 1 and raw.endswith(b"fork_flag: true\n")
    assert NetParameter.FromString(raw).layer[2].relu_param.ByteSize() == 0
    return folder / "a.caffemodel"


def _expected(x: np.ndarray) -> np.ndarray:
    net = CaffeNet(parse_prototxt(PROTOTXT))
    net.load_state_dict(to_state_dict(CaffeModel(net.spec, small_blobs())))
    with torch.no_grad():
        return net(data=torch.from_numpy(x)).numpy()


X = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)


def test_opencv_passes_over_them(tmp_path: Path) -> None:
    (tmp_path / "a.prototxt").write_text(PROTOTXT)
    theirs = cv2.dnn.readNetFromCaffe(str(tmp_path / "a.prototxt"), str(_with_fields_of_forks(tmp_path)))
    theirs.enableWinograd(False)
    theirs.setInput(X, "data")
    assert compare(_expected(X), theirs.forward("fc")) <= tolerance("opencv-forward")


@pytest.mark.oracle
def test_caffe_passes_over_them(oracle: Oracle, tmp_path: Path) -> None:
    done = oracle.forward(PROTOTXT, weights=_with_fields_of_forks(tmp_path), inputs={"data": X})
    assert compare(_expected(X), done.blobs["fc"]) <= tolerance("oracle-live")
