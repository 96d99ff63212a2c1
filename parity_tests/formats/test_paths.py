"""Paths in definitions of any bytes, as Caffe takes them: Chinese in GBK and the like, from somebody's Windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters import CaffeModel, PrototxtError, parse_prototxt, read_caffemodel, read_prototxt, write_caffemodel
from converters.formats import format_prototxt
from fcn_port.training.losses.infogain import InfogainLoss
from fcn_port.training.transforms import transforms_of
from parity_tests.oracle.client import Oracle
from parity_tests.small_files import blob_proto

GBK = b"\xca\xfd\xbe\xdd"
"""The word for data."""
CONV = b'bottom: "data" top: "c" convolution_param { num_output: 2 kernel_size: 1 }'
FORMS = {
    "V2": b"""
layer { name: "d" type: "Data" top: "data" top: "label" data_param { source: "%s/a" }
  transform_param { mean_file: '%s/b' } }
layer { name: "c" type: "Convolution" %s }"""
    % (GBK, GBK, CONV),
    "escaped": b"""
layer { name: "d" type: "Data" top: "data" data_param { source: "\\312\\375\\276\\335/a" } }
layer { name: "c" type: "Convolution" %s }"""
    % CONV,
    "V1": b"""
layers { name: "d" type: IMAGE_DATA top: "data" top: "label"
  image_data_param { source: "%s/a" root_folder: "%s/" mean_file: "%s/b" } }
layers { name: "c" type: CONVOLUTION %s }"""
    % (GBK, GBK, GBK, CONV),
    "V0": b"""input: "x" input_dim: [1, 1, 1, 1]
layers { layer { name: "d" type: "data" source: "%s/a" meanfile: "%s/b" } top: "data" top: "label" }
layers { layer { name: "c" type: "conv" num_output: 2 kernelsize: 1 } bottom: "data" top: "c" }"""
    % (GBK, GBK),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_path_of_any_bytes_is_kept(form: str, tmp_path: Path) -> None:
    """In text, in a .caffemodel, and wherever the upgrade of an old net puts it."""
    (tmp_path / "net.prototxt").write_bytes(FORMS[form])
    spec = read_prototxt(tmp_path / "net.prototxt")
    data = next(layer.message for layer in spec.layers if layer.name == "d")
    assert (data.data_param.source or data.image_data_param.source) == GBK + b"/a"
    assert data.transform_param.mean_file == ("" if form == "escaped" else GBK + b"/b")
    assert r'source: "\312\375\276\335/a"' in format_prototxt(spec)
    assert parse_prototxt(format_prototxt(spec)).to_message() == spec.to_message()
    blobs = {"c": (np.ones((2, 1, 1, 1), np.float32), np.zeros(2, np.float32))}
    write_caffemodel(CaffeModel(spec, blobs), tmp_path / "net.caffemodel")
    read = read_caffemodel(tmp_path / "net.caffemodel").spec
    assert read is not None and read.to_message() == spec.to_message()


@pytest.mark.parametrize("where", ["name", "top", "stage", "crop_mode", "param_str"])
def test_what_is_no_path_is_text(where: str, tmp_path: Path) -> None:
    inside = {
        "stage": b'include { stage: "%s" }',
        "crop_mode": b'window_data_param { crop_mode: "%s" }',
        "param_str": b'python_param { param_str: "%s" }',
    }.get(where, where.encode() + b': "%s"')
    (tmp_path / "net.prototxt").write_bytes(b"layer { " + inside % GBK + b" }")
    with pytest.raises(PrototxtError, match=rf"line 1.*'{where}' is not UTF-8: byte 0xca\n  save the file as UTF-8"):
        read_prototxt(tmp_path / "net.prototxt")


def test_files_are_found_by_such_paths(tmp_path: Path) -> None:
    name = GBK.decode(errors="surrogateescape")
    try:
        (tmp_path / name).write_bytes(blob_proto(np.full((1, 3, 2, 2), 7, np.float32)).SerializeToString())
    except OSError:
        pytest.skip("no file of such a name can be made here")
    text = b'layer { name: "d" type: "Data" top: "data" transform_param { mean_file: "%s" } }' % GBK
    text += b'layer { name: "l" type: "EuclideanLoss" bottom: "data" bottom: "data" top: "l" }'
    (tmp_path / "net.prototxt").write_bytes(text)
    assert transforms_of(read_prototxt(tmp_path / "net.prototxt"))["data"].mean == (7, 7, 7)
    loss = (
        b'layer { name: "l" type: "InfogainLoss" bottom: "s" bottom: "y" infogain_loss_param { source: "%s" } }' % GBK
    )
    (tmp_path / name).write_bytes(blob_proto(np.eye(2, dtype=np.float32)).SerializeToString())
    (tmp_path / "net.prototxt").write_bytes(loss)
    layer = read_prototxt(tmp_path / "net.prototxt").layers[0]
    assert InfogainLoss.of_layer(layer, beside=tmp_path).matrix == ((1, 0), (0, 1))


@pytest.mark.oracle
def test_caffe_takes_them_too(oracle: Oracle) -> None:
    """Escaped, for the client writes text: what Caffe's parser has of a string are its bytes either way."""
    net = """layer { name: "d" type: "Input" top: "data" input_param { shape { dim: [1, 1, 2, 2] } }
      data_param { source: "\\312\\375\\276\\335/a" } }"""
    assert "data" in oracle.forward(net, inputs={"data": np.ones((1, 1, 2, 2), np.float32)}).blobs
