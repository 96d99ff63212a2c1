"""readNetFromCaffe and readNet: OpenCV 4's calls, with OpenCV 4's names and order of arguments."""

from __future__ import annotations

import os
import warnings
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.lazy import import_or_say

if TYPE_CHECKING:
    from collections.abc import Iterator

    import cv2

    from .source import Blobs, Given, Source


LEGACY_NAMES = "OPENCV_DNN_ONNX_USE_LEGACY_NAMES"
"""With it OpenCV's classic engine calls the layers of an ONNX model as its nodes are called (onnx_importer.cpp)."""

_environment = Lock()


def readNetFromCaffe(
    prototxt: Given | None = None,
    caffeModel: Given | None = None,
    *,
    bufferProto: Given | None = None,
    bufferModel: Given | None = None,
    engine: int | None = None,
    blobs: Blobs | None = None,
) -> cv2.dnn.Net:
    """A cv2.dnn.Net of a Caffe net, as `cv2.dnn.readNetFromCaffe` of OpenCV 4 gives it.

    A str or a path is a file; bytes, a bytearray and a uint8 array are what is in one. `blobs` gives layers other
    learnable blobs than the caffemodel has, or the ones that it lacks: `{"class8_ab": [points]}`. `engine` is
    `cv2.dnn.ENGINE_CLASSIC` or `ENGINE_NEW` on OpenCV 5; by default the classic one, which gives every layer's output
    by name, and the new one for a net that the classic one does not take. Raises CaffeFormatError for what is wrong
    with a file, ExportError for a layer that cannot be given to OpenCV 5, FileNotFoundError, and cv2.error.
    """
    cv2 = import_or_say("cv2", "fcn_port.opencv")
    net = prototxt if prototxt is not None else bufferProto
    weights = caffeModel if caffeModel is not None else bufferModel
    if net is None:
        raise TypeError("readNetFromCaffe: the prototxt is missing")
    for given in (net, weights):
        if given is not None and not isinstance(given, (str, os.PathLike, bytes, bytearray, memoryview, np.ndarray)):
            kind = type(given).__name__
            raise TypeError(f"readNetFromCaffe: expected a path, bytes or an array of uint8; found {kind}")
    native = getattr(cv2.dnn, "readNetFromCaffe", None)
    if native is not None:
        return _set_blobs(_read_natively(native, net, weights), blobs)
    from .source import read_source

    return _read_as_onnx(read_source(net, weights, blobs or {}), engine)


def readNet(
    model: Given, config: Given = "", framework: str = "", *, engine: int | None = None, blobs: Blobs | None = None
) -> cv2.dnn.Net:
    """A cv2.dnn.Net of a caffemodel and a prototxt in any order, as `cv2.dnn.readNet` of OpenCV 4 gives it.

    Files of other kinds go to `cv2.dnn.readNet`. Raises what `readNetFromCaffe` raises.
    """
    cv2 = import_or_say("cv2", "fcn_port.opencv")
    names = [os.fspath(given) for given in (model, config) if isinstance(given, (str, os.PathLike))]
    caffe = framework.lower() == "caffe" or any(str(name).endswith((".caffemodel", ".prototxt")) for name in names)
    if not caffe:
        other: Any = cv2.dnn.readNet
        return _as_net(other(model, config, framework))
    if isinstance(model, (str, os.PathLike)) and os.fspath(model).endswith(".prototxt"):
        model, config = config, model
    return readNetFromCaffe(config, model, engine=engine, blobs=blobs)


def _read_natively(native: Any, net: Given, weights: Given | None) -> cv2.dnn.Net:
    given = [_for_opencv(each) for each in (net, weights) if each is not None]
    if len(given) == 2 and isinstance(given[0], str) != isinstance(given[1], str):  # it takes two files or two buffers
        given = [np.fromfile(each, np.uint8) if isinstance(each, str) else each for each in given]
    return _as_net(native(*given))


def _as_net(found: Any) -> cv2.dnn.Net:
    net: cv2.dnn.Net = found
    return net


def _for_opencv(given: Given) -> str | np.ndarray:
    if isinstance(given, (str, os.PathLike)):
        return os.fspath(given)
    return np.frombuffer(given, np.uint8) if not isinstance(given, np.ndarray) else given


def _set_blobs(net: cv2.dnn.Net, blobs: Blobs | None) -> cv2.dnn.Net:
    for name, values in (blobs or {}).items():
        number = net.getLayerId(name)
        if number < 0:
            raise ValueError(f"blobs: the net has no layer '{name}'")
        net.getLayer(number).blobs = [np.asarray(value, np.float32) for value in values]
    return net


# OpenCV 5


def _read_as_onnx(source: Source, engine: int | None) -> cv2.dnn.Net:
    import cv2

    from converters.export import OnnxOptions, build_onnx

    from .naming import name_values_by_layers

    model = name_values_by_layers(build_onnx(source.spec, source.arrays, OnnxOptions(target="opencv5")))
    with TemporaryDirectory(prefix="fcn-port-opencv-") as folder:
        # A file, as OpenCV 5.0 takes a buffer to its new engine whatever engine is asked for.
        path = Path(folder) / "net.onnx"
        with path.open("wb") as file:
            model.write(file)
        if engine is not None:
            return _read(path, engine)
        engines: Any = cv2.dnn  # what OpenCV 4 has no names for
        try:
            return _read(path, engines.ENGINE_CLASSIC)
        except cv2.error as error:
            try:
                found = _read(path, engines.ENGINE_NEW)
            except cv2.error:
                raise error from None
            warnings.warn(
                "OpenCV's classic engine does not take this net, so the new one has it: "
                "forward() knows the names of the net's outputs only",
                stacklevel=3,
            )
            return found


def _read(path: Path, engine: int) -> cv2.dnn.Net:
    import cv2

    read: Any = cv2.dnn.readNetFromONNX
    with _legacy_names():
        return _as_net(read(str(path), engine))


@contextmanager
def _legacy_names() -> Iterator[None]:
    with _environment:
        before = os.environ.get(LEGACY_NAMES)
        os.environ[LEGACY_NAMES] = "1"
        try:
            yield
        finally:
            if before is None:
                del os.environ[LEGACY_NAMES]
            else:
                os.environ[LEGACY_NAMES] = before
