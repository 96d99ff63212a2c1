"""What the door takes, in the OpenCV that is here: it answers before any OpenCV does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcn_port.opencv import readNet, readNetFromCaffe
from parity_tests.goldens import formats
from parity_tests.opencv5 import environment

cv2 = pytest.importorskip("cv2")
PROTOTXT, MODEL = formats("fcn8s-mini.prototxt"), formats("fcn8s-mini.caffemodel")


@pytest.mark.parametrize("given", [3, [str(PROTOTXT)], object()])
def test_what_is_no_file_is_told(given: object) -> None:
    with pytest.raises(TypeError, match=r"expected a path, bytes or an array of uint8; found (int|list|object)"):
        readNetFromCaffe(given)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a path"):
        readNetFromCaffe(PROTOTXT, given)  # type: ignore[arg-type]


@pytest.mark.skipif(not cv2.__version__.startswith("4."), reason="OpenCV 4's own reader is what answers here")
def test_paths_and_buffers_in_any_mixture() -> None:
    text, model = PROTOTXT.read_bytes(), MODEL.read_bytes()
    names = readNetFromCaffe(str(PROTOTXT), str(MODEL)).getLayerNames()
    for pair in ((PROTOTXT, MODEL), (text, model), (bytearray(text), MODEL), (PROTOTXT, np.fromfile(MODEL, np.uint8))):
        assert readNetFromCaffe(*pair).getLayerNames() == names
    assert readNetFromCaffe(bufferProto=text, bufferModel=model).getLayerNames() == names


@pytest.mark.skipif(not cv2.__version__.startswith("4."), reason="OpenCV 4's own reader is what answers here")
def test_both_forms_of_read_net_in_any_order(tmp_path: Path) -> None:
    text, model = (np.fromfile(path, np.uint8) for path in (PROTOTXT, MODEL))
    renamed = tmp_path / "deploy.prototxt.txt"
    renamed.write_bytes(PROTOTXT.read_bytes())
    names = cv2.dnn.readNet(str(MODEL), str(PROTOTXT)).getLayerNames()
    for net in (
        readNet(MODEL, PROTOTXT),
        readNet(PROTOTXT, MODEL),
        readNet(str(renamed), str(MODEL)),
        readNet(str(MODEL), str(PROTOTXT), "Caffe"),
        readNet(str(MODEL), config=str(PROTOTXT)),
        readNet(model=str(MODEL), config=str(PROTOTXT), framework="caffe"),
        readNet("caffe", model, text),
        readNet("caffe", bufferModel=model, bufferConfig=text),
        readNet(framework="caffe", bufferModel=model, bufferConfig=text),
        readNetFromCaffe(str(PROTOTXT), ""),  # OpenCV's own default
        readNet(str(PROTOTXT)),
    ):
        assert net.getLayerNames() == names


@pytest.mark.parametrize(
    ("given", "named", "words"),
    [
        ((MODEL,), {}, "the prototxt is missing"),
        ((MODEL, PROTOTXT, "caffe", 1), {}, "up to 3 positional arguments but 4"),
        ((MODEL, PROTOTXT), {"config": PROTOTXT}, "multiple values for argument 'config'"),
        (("caffe", b"a"), {"config": PROTOTXT}, "has no 'config' beside framework, bufferModel"),
    ],
)
def test_arguments_that_do_not_go_together(given: tuple, named: dict, words: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(TypeError, match=words):
        readNet(*given, **named)


def test_an_array_of_other_numbers_is_no_buffer() -> None:
    with pytest.raises(TypeError, match="found one of float32"):
        readNetFromCaffe(np.zeros(4, np.float32))


def test_the_variable_names_a_python_or_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.touch()
    for named in (python, tmp_path):
        monkeypatch.setenv("FCN_PORT_OPENCV5", str(named))
        assert (environment.python(), environment.folder()) == (python, tmp_path)
