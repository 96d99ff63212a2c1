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
    from collections.abc import Iterator, Mapping, Sequence

    import cv2

    from .source import Blobs, Given, Source


LEGACY_NAMES = "OPENCV_DNN_ONNX_USE_LEGACY_NAMES"
"""With it OpenCV's classic engine calls the layers of an ONNX model as its nodes are called (onnx_importer.cpp)."""

ONE_CROP = b"""input: "data" input_shape { dim: 1 dim: 1 dim: 3 dim: 3 }
layer { name: "size" type: "Pooling" bottom: "data" top: "size" pooling_param { kernel_size: 2 } }
layer { name: "crop" type: "Crop" bottom: "data" bottom: "size" top: "crop" crop_param { offset: 1 } }"""
"""A net that crops the last row and column, which no crop in the middle does."""

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
    net = _given(prototxt if prototxt is not None else bufferProto)
    weights = _given(caffeModel if caffeModel is not None else bufferModel)
    if net is None:
        raise TypeError("readNetFromCaffe: the prototxt is missing")
    native = getattr(cv2.dnn, "readNetFromCaffe", None)
    if native is not None:
        return _set_blobs(_read_natively(native, net, weights), blobs)
    from .source import read_source

    return _read_as_onnx(read_source(net, weights, blobs or {}), engine)


def _given(value: Given | None) -> Given | None:
    """A file or what is in one; None where OpenCV's own defaults, an empty name and an empty buffer, stand for none."""
    if not (value is None or isinstance(value, (str, os.PathLike, bytes, bytearray, memoryview, np.ndarray))):
        raise TypeError(f"readNetFromCaffe: expected a path, bytes or an array of uint8; found {type(value).__name__}")
    if isinstance(value, np.ndarray) and value.dtype != np.uint8:
        raise TypeError(f"readNetFromCaffe: expected a path, bytes or an array of uint8; found one of {value.dtype}")
    if isinstance(value, os.PathLike) or value is None:
        return value
    return value if (value.size if isinstance(value, np.ndarray) else len(value)) else None


def readNet(
    *given: Given,
    model: Given | None = None,
    config: Given | None = None,
    framework: str = "",
    bufferModel: Given | None = None,
    bufferConfig: Given | None = None,
    engine: int | None = None,
    blobs: Blobs | None = None,
) -> cv2.dnn.Net:
    """A cv2.dnn.Net of a caffemodel and a prototxt in any order, as `cv2.dnn.readNet` of OpenCV 4 gives it.

    Its two forms are (model, config, framework) with names of files, and (framework, bufferModel, bufferConfig).
    Files of other kinds go to `cv2.dnn.readNet`. Raises what `readNetFromCaffe` raises.
    """
    cv2 = import_or_say("cv2", "fcn_port.opencv")
    buffers = bufferModel is not None or any(not isinstance(each, (str, os.PathLike)) for each in given)
    names = ("framework", "bufferModel", "bufferConfig") if buffers else ("model", "config", "framework")
    values = {
        "model": model,
        "config": config,
        "framework": framework or None,
        "bufferModel": bufferModel,
        "bufferConfig": bufferConfig,
    }
    ordered = _in_order("readNet", names, given, values)
    if not _is_caffe(ordered):
        other: Any = cv2.dnn.readNet
        return _as_net(other(**{name: value for name, value in ordered.items() if value is not None}))
    weights, net = (ordered[name] for name in (names[1:] if buffers else names[:2]))
    if not buffers and (_ends(weights, ".prototxt") or _ends(net, ".caffemodel")):
        weights, net = net, weights
    return readNetFromCaffe(net, weights, engine=engine, blobs=blobs)


def _in_order(
    function: str, names: Sequence[str], given: Sequence[Given], named: Mapping[str, Given | None]
) -> dict[str, Given | None]:
    """The arguments by name, of which some were given without one; TypeError as Python says it."""
    if len(given) > len(names):
        raise TypeError(f"{function}() takes up to {len(names)} positional arguments but {len(given)} were given")
    found = dict(zip(names, given, strict=False))
    for name, value in named.items():
        if value is not None and name in found:
            raise TypeError(f"{function}() got multiple values for argument '{name}'")
        if value is not None and name not in names:
            raise TypeError(f"{function}() has no '{name}' beside {', '.join(found) or 'what was given'}")
    return {name: found.get(name, named[name]) for name in names}


def _is_caffe(given: Mapping[str, Given | None]) -> bool:
    framework = given["framework"]
    if isinstance(framework, str) and framework:
        return framework.lower() == "caffe"
    return any(_ends(given.get(name), ".caffemodel", ".prototxt") for name in ("model", "config"))


def _ends(given: Given | None, *endings: str) -> bool:
    return isinstance(given, (str, os.PathLike)) and str(os.fspath(given)).endswith(endings)


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

    from converters.export import ExportError

    engines: Any = cv2.dnn  # what OpenCV 4 has no names for
    if any(layer.type == "Crop" for layer in source.spec.layers):
        _set_crop_aside(engines)
    if engine is not None:
        return _read_in(source, engine)
    try:
        return _read_in(source, engines.ENGINE_CLASSIC)
    except (cv2.error, ExportError) as error:
        for other, size, words in (
            (engines.ENGINE_NEW, None, "so the new one has it: forward() knows the names of the net's outputs only"),
            (engines.ENGINE_CLASSIC, _own_size(source), "but at the size of its prototxt: feed it no other"),
        ):
            try:
                found = _read_in(source, other, size=size)
            except (cv2.error, ExportError):
                continue
            warnings.warn(f"OpenCV's classic engine does not take this net at any size, {words}", stacklevel=3)
            return found
        raise error from None


def _own_size(source: Source) -> tuple[int, int] | None:
    """Height and width of the first image that the net reads; None where it reads none."""
    return next(((shape[2], shape[3]) for shape in source.spec.inputs.values() if len(shape) == 4), None)


def _set_crop_aside(engines: Any) -> None:
    """Unregister a program's own Crop layer, if it has one: neither engine can run Python layers with free sizes.

    OpenCV does not tell what is registered, so a net of one crop is asked: its own Crop takes the offset.
    """
    import cv2

    from .source import read_source

    image = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    try:
        net = _read_in(read_source(ONE_CROP, None, {}), engines.ENGINE_CLASSIC)
        net.setInput(image)
        own = np.array_equal(net.forward(), image[:, :, 1:, 1:])
    except cv2.error:
        own = False
    if own:
        return
    cv2.dnn_unregisterLayer("Crop")
    warnings.warn(
        "this program's own Crop layer (cv2.dnn_registerLayer) was unregistered: "
        "OpenCV has one, which crops where the prototxt says",
        stacklevel=4,
    )


def _read_in(source: Source, engine: int, *, size: tuple[int, int] | None = None) -> cv2.dnn.Net:
    """The net in an engine, from a file with the forms that are known to it."""
    import cv2

    from converters.export import ExportError, OnnxOptions, build_onnx

    from .naming import name_values_by_layers

    engines: Any = cv2.dnn
    # The classic engine is OpenCV 4's: with Caffe's own layers a program finds their blobs where they were.
    target = "opencv4" if engine == engines.ENGINE_CLASSIC else "opencv5"
    model = name_values_by_layers(build_onnx(source.spec, source.arrays, OnnxOptions(target=target, size=size)))
    read: Any = cv2.dnn.readNetFromONNX
    with TemporaryDirectory(prefix="fcn-port-opencv-") as folder:
        # A file, as OpenCV 5.0 takes a buffer to its new engine whatever engine is asked for.
        path = Path(folder) / "net.onnx"
        with path.open("wb") as file:
            model.write(file)
        with _legacy_names():
            net = _as_net(read(str(path), engine))
    if size is not None and any(net.getLayerId(end.name) < 0 for end in model.outputs):
        raise ExportError("an output that is a constant at a fixed size, which OpenCV leaves out")
    return net


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
