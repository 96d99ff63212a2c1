"""DetectNet's clustering, against OpenCV's own groupRectangles and boxes worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from converters import NetError
from converters.layers.detectnet import grouped
from parity_tests.fill import rs
from parity_tests.layers.test_layers import make


def clusters(count: int, seed: str, spread: float) -> np.ndarray:
    """Rectangles around a few places, some of them inside of others."""
    random = rs(seed)
    centres = random.uniform(0, 300, (6, 4)) + np.array([0, 0, 60, 60])
    centres[1] = centres[0] + [5, 5, -12, -12]
    return (centres[random.randint(0, 6, count)] + random.uniform(-spread, spread, (count, 4))).astype(int)


@pytest.mark.parametrize("votes", [1, 2, 3, 8])
@pytest.mark.parametrize("eps", [0.02, 0.1, 0.4])
@pytest.mark.parametrize("spread", [1, 6, 30])
def test_groups_are_opencvs(votes: int, eps: float, spread: float) -> None:
    cv2 = pytest.importorskip("cv2")
    for seed in range(5):
        rectangles = clusters(60, f"groups {seed}", spread)
        expected, weights = cv2.groupRectangles(rectangles.tolist(), votes, eps)
        found = grouped(rectangles, votes, eps)
        assert [row for row, _ in found] == np.reshape(expected, (-1, 4)).tolist()
        assert [count for _, count in found] == np.ravel(weights).tolist()


LAYER = 'python_param { module: "caffe.layers.detectnet.clustering" layer: "ClusterDetections" param_str: "PARAMS" }'


def test_boxes_of_a_grid() -> None:
    """By hand: 3 x 4 cells of 16 pixels, of which four see one object and one another."""
    layer = make("Python", LAYER.replace("PARAMS", "64, 48, 16, 0.6, 2, 0.1, 22"), bottoms=2)
    coverage, boxes = torch.zeros(1, 1, 3, 4), torch.zeros(1, 4, 3, 4)
    for y, x in ((0, 1), (0, 2), (1, 1), (1, 2)):
        coverage[0, 0, y, x] = 0.9
        boxes[0, :, y, x] = torch.tensor([8.0 - 16 * x, 4 - 16 * y, 56 - 16 * x, 44 - 16 * y]) + 0.7
    coverage[0, 0, 2, 3] = 0.9  # alone: too few votes
    boxes[0, :, 2, 3] = torch.tensor([-40.0, -30, 0, 0])
    coverage[0, 0, 2, 0] = 0.59
    (top,) = layer.forward([coverage, boxes], ())
    assert tuple(top.shape) == layer.top_shapes([(1, 1, 3, 4), (1, 4, 3, 4)])[0] == (1, 50, 5)
    assert top[0, 0].tolist() == [8, 4, 56, 44, float(np.float16(math.log(4)))]
    assert not top[0, 1:].any()


def test_classes_and_boxes_that_are_too_low() -> None:
    layer = make("Python", LAYER.replace("PARAMS", "64,48,16,0.5,0,0.1,22,2,5"), bottoms=2, tops=2)
    coverage, boxes = torch.ones(2, 2, 3, 4), torch.zeros(2, 4, 3, 4)
    coverage[:, 1] = 0
    boxes[:, 3] = 30
    boxes[1, 3] = 21
    tops = layer.forward([coverage, boxes], ())
    assert [top.shape for top in tops] == [(2, 5, 5)] * 2
    assert (tops[0][0, :, 3] - tops[0][0, :, 1] == 30).all(), "as many as there is room for"
    assert not tops[0][1].any()
    assert not tops[1].any()


@pytest.mark.parametrize(
    "params", ["", "64,48,16", "64,48,16,a,1,0.1,22", "64,48,0,0.6,1,0.1,22", "8,8,16,0.6,1,0.1,2"]
)
def test_params_that_are_refused(params: str) -> None:
    with pytest.raises(NetError, match="param_str"):
        make("Python", LAYER.replace("PARAMS", params), bottoms=2)
