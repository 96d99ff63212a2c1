"""What the door takes, in the OpenCV that is here: it answers before any OpenCV does."""

from __future__ import annotations

import numpy as np
import pytest

from fcn_port.opencv import readNetFromCaffe
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


def test_the_variable_names_a_python_or_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.touch()
    for named in (python, tmp_path):
        monkeypatch.setenv("FCN_PORT_OPENCV5", str(named))
        assert (environment.python(), environment.folder()) == (python, tmp_path)
