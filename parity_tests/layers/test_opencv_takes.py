"""docs/generate/opencv.json, which docs/layers.md shows, is what OpenCV 4 computes."""

from __future__ import annotations

import json

import pytest

from parity_tests.layers.opencv_takes import RECORD, ask


@pytest.mark.parametrize("kind", json.loads(RECORD.read_text(encoding="utf-8"))["same"])
def test_opencv_computes_the_same(kind: str) -> None:
    cv2 = pytest.importorskip("cv2")
    if not cv2.__version__.startswith("4."):
        pytest.skip("another major version")
    assert not ask(kind)["other"]


def test_what_opencv_does_not_compute_alike_is_seen() -> None:
    """It rounds the sizes of AVE pooling otherwise, and does not know our types: these are no agreements."""
    pytest.importorskip("cv2")
    assert not ask("Python:TensorShape")["same"] and ask("Pooling")["other"]
