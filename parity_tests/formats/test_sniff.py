"""What a file is goes by its bytes: other kinds are called by their names, whatever the file is called."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters import CaffeFormatError, read_caffemodel, read_mean
from converters.formats.caffemodel import parse_caffemodel
from converters.formats.sniff import PROTOBUF, TEXT, sniff, sniff_file
from converters.schema import NetParameter, SolverState
from fcn_port.cli import run
from parity_tests.formats.test_caffemodel import assert_same
from parity_tests.small_files import PROTOTXT, blob_proto, small_blobs, small_h5, small_v2


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("weights.caffemodel", small_v2().SerializeToString())
    return out.getvalue()


def _solver_state() -> bytes:
    state = SolverState(iter=4000, learned_net="net_iter_4000.caffemodel", current_step=1)
    state.history.extend(blob_proto(blob) for own in small_blobs().values() for blob in own)
    return state.SerializeToString()


def _mean(*, legacy: bool = True) -> bytes:
    return blob_proto(np.full((1, 3, 2, 2), 104, np.float32), legacy=legacy).SerializeToString()


OTHERS = {
    "zip": (_zip, "this is a zip archive.*\n.*unpack it first"),
    "gzip": (lambda: gzip.compress(small_v2().SerializeToString()), "this is a gzip archive"),
    "html": (lambda: b"\xef\xbb\xbf\r\n <!DOCTYPE html><html><body>404", "this is an HTML page.*\n.*server"),
    "lfs": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer.*\n.*git lfs"),
    "png": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(99), "this is a PNG image"),
    "pickle": (lambda: pickle.dumps({"a": 1}), "this is a Python pickle"),
    "numpy": (lambda: b"\x93NUMPY\x01\x00" + bytes(99), "this is a NumPy array"),
    "safetensors": (lambda: b"\x10" + bytes(7) + b'{"a":{}}        ', "this is a safetensors file"),
    "pickle-like": (lambda: b"\x80\x02" + bytes(6) + b'{"a":{}}        ', "this is a safetensors file"),
    "prototxt": (PROTOTXT.encode, "this is a text file"),
    "empty": (lambda: b"", "this is an empty file"),
    "solverstate": (_solver_state, r"this is a solver's state \(.solverstate\)"),
    "tflite": (lambda: b"\x1c\0\0\0TFL3" + bytes(99), r"this is a TensorFlow Lite model \(.tflite\)"),
    "onnx": (lambda: b"\x08\x07\x12\x07pytorch\x3a\x02\x12\x00\x42\x02\x10\x11", "this is an ONNX model"),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("name", ["weights.caffemodel", "weights.caffemodel.h5", "mean.binaryproto"])
def test_a_file_of_another_kind_is_called_by_its_name(tmp_path: Path, name: str, kind: str) -> None:
    make, problem = OTHERS[kind]
    path = tmp_path / name
    path.write_bytes(make())
    for read in (read_caffemodel, read_mean):
        with pytest.raises(CaffeFormatError, match=problem) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_weights_of_another_program_are_not_only_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "yolov3.weights"  # darknet's: version 0.2.5, and how many images it has seen
    path.write_bytes(struct.pack("<iiiq", 0, 2, 5, 32013312) + bytes(99))
    with pytest.raises(CaffeFormatError, match="is this a file of another program"):
        read_caffemodel(path)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_mean_is_not_a_net_nor_the_other_way_round(tmp_path: Path, legacy: bool) -> None:
    mean, net = tmp_path / "a.caffemodel", tmp_path / "a.binaryproto"
    mean.write_bytes(_mean(legacy=legacy))
    net.write_bytes(small_v2().SerializeToString())
    with pytest.raises(CaffeFormatError, match=r"a blob by itself, such as a mean \(.binaryproto\); expected a net"):
        read_caffemodel(mean)
    with pytest.raises(CaffeFormatError, match=r"this is a net \(.caffemodel\); expected a mean"):
        read_mean(net)
    assert read_mean(mean).shape == (1, 3, 2, 2)


def test_a_name_says_nothing_about_what_is_in_the_file(tmp_path: Path) -> None:
    as_h5, as_binary = tmp_path / "a.caffemodel", tmp_path / "a.caffemodel.h5"
    as_h5.write_bytes(small_h5())
    as_binary.write_bytes(small_v2().SerializeToString())
    assert read_caffemodel(as_h5).spec is None
    assert read_caffemodel(as_binary).spec is not None
    for path in (as_h5, as_binary):
        blobs = read_caffemodel(path).blobs
        assert_same({name: blobs[name] for name in ("conv", "fc")}, small_blobs())


def test_other_messages_are_not_nets() -> None:
    with pytest.raises(CaffeFormatError, match="without layers"):
        parse_caffemodel(NetParameter(name="a net without layers").SerializeToString())
    with pytest.raises(CaffeFormatError, match="without layers"):
        parse_caffemodel(b"\xa2\x01\x00")


@pytest.mark.parametrize("read", [read_caffemodel, read_mean])
def test_what_is_not_a_file(tmp_path: Path, read: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "not there")
    with pytest.raises(CaffeFormatError, match="this is a folder"):
        read(tmp_path)
    path = tmp_path / "secret"
    path.write_bytes(_mean())

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")  # tests may run as root, whom nothing is denied

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CaffeFormatError, match=r"secret: the file may not be read"):
        read(path)


@pytest.mark.parametrize("length", [31, 127, 128, 1300, 4_095, 4_096, 10_000, 16_383, 150_000, 600_000, 1_200_000])
@pytest.mark.parametrize("verb", ["inspect", "convert"])
def test_a_net_with_a_long_name_is_not_text(verb: str, length: int, tmp_path: Path) -> None:
    net = small_v2()
    net.name = "n" * length
    path = tmp_path / "long.caffemodel"
    path.write_bytes(net.SerializeToString())
    assert sniff_file(path) == PROTOBUF
    assert run([verb, str(path)]) == 0


def test_a_text_of_empty_lines_and_comments_stays_text() -> None:
    assert sniff("\n\n# né\n".encode()) == sniff("\ufeff\n# né\nname: 'é'".encode("utf-8")) == TEXT
    assert sniff("# né\n".encode("latin-1")) == TEXT
