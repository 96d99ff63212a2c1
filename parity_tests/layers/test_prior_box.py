"""PriorBox and PriorBoxClustered against the loops of their sources and against OpenCV."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from converters import NetError, parse_prototxt
from converters.layers.prior_box import PriorBox

CELLS, IMAGE = (3, 4), (26, 31)
NET = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: [1, 3, {image[0]}, {image[1]}] }} }} }}
layer {{ name: "feature" type: "Pooling" bottom: "data" top: "feature"
  pooling_param {{ kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride_h: {kernel[0]} stride_w: {kernel[1]} }} }}
layer {{ name: "it" type: "{kind}" bottom: "feature" bottom: "data" top: "it" prior_box_param {{ {settings} }} }}
"""


def text(settings: str, kind: str = "PriorBox") -> str:
    return NET.format(settings=settings, kind=kind, image=IMAGE, kernel=(9, 8))


def priors(settings: str, kind: str = "PriorBox") -> np.ndarray:
    """The boxes (priors, 4) and variances (priors, 4) of a feature map of 3 x 4 cells."""
    layer = parse_prototxt(text(settings, kind)).layers[-1].params
    assert isinstance(layer, PriorBox)
    bottoms = torch.zeros(1, 2, *CELLS), torch.zeros(1, 3, *IMAGE)
    (top,) = layer.forward(bottoms, ())
    assert layer.top_shapes([tuple(bottom.shape) for bottom in bottoms]) == (tuple(top.shape),)
    assert top.dtype == torch.float32
    return top.numpy().reshape(2, -1, 4)


def by_hand(
    sizes: list[tuple[float, float]],
    *,
    step: tuple[float, float] | None = None,
    image: tuple[int, int] = IMAGE,
    offset: float = 0.5,
    clip: bool = False,
) -> list[list[float]]:
    """Forward_cpu of prior_box_layer.cpp for boxes of these (width, height), cell by cell."""
    step_h, step_w = step or (image[0] / CELLS[0], image[1] / CELLS[1])
    top = []
    for h in range(CELLS[0]):
        for w in range(CELLS[1]):
            center_x, center_y = (w + offset) * step_w, (h + offset) * step_h
            for width, height in sizes:
                box = [
                    (center_x - width / 2) / image[1],
                    (center_y - height / 2) / image[0],
                    (center_x + width / 2) / image[1],
                    (center_y + height / 2) / image[0],
                ]
                top.append([min(max(x, 0), 1) for x in box] if clip else box)
    return top


def of_ratio(size: float, ratio: float) -> tuple[float, float]:
    return size * sqrt(ratio), size / sqrt(ratio)


CASES = {
    "one size": ("min_size: 7", [(7, 7)], {}),
    "sizes and ratios": (
        "min_size: 7 max_size: 12 aspect_ratio: 2 aspect_ratio: 3",
        [(7, 7), (sqrt(84), sqrt(84)), of_ratio(7, 2), of_ratio(7, 1 / 2), of_ratio(7, 3), of_ratio(7, 1 / 3)],
        {},
    ),
    "without flip": ("min_size: 7 aspect_ratio: 2 flip: false", [(7, 7), of_ratio(7, 2)], {}),
    "ratios given twice": (
        "min_size: 7 aspect_ratio: 1 aspect_ratio: 2 aspect_ratio: 0.5 aspect_ratio: 2",
        [(7, 7), of_ratio(7, 2), of_ratio(7, 1 / 2)],
        {},
    ),
    "two sizes": (
        "min_size: 7 min_size: 10 max_size: 9 max_size: 20 aspect_ratio: 2 flip: false",
        [(7, 7), (sqrt(63), sqrt(63)), of_ratio(7, 2), (10, 10), (sqrt(200), sqrt(200)), of_ratio(10, 2)],
        {},
    ),
    "fractions": (
        "min_size: 7.9 max_size: 12.5 aspect_ratio: 2 flip: false",
        [(7.9, 7.9), (sqrt(7.9 * 12.5), sqrt(7.9 * 12.5)), of_ratio(7.9, 2)],
        {},
    ),
    "clip": ("min_size: 20 clip: true", [(20, 20)], {"clip": True}),
    "step": ("min_size: 7 step: 8 offset: 0", [(7, 7)], {"step": (8, 8), "offset": 0}),
    "steps": ("min_size: 7 step_h: 8 step_w: 6.5", [(7, 7)], {"step": (8, 6.5)}),
    "image size": ("min_size: 7 img_size: 40", [(7, 7)], {"image": (40, 40)}),
    "image height and width": (
        "min_size: 7 img_h: 40 img_w: 50 step: 9",
        [(7, 7)],
        {"image": (40, 50), "step": (9, 9)},
    ),
    "explicit": ("box_width: 5.5 box_height: 9.25 box_width: 4 box_height: 3", [(5.5, 9.25), (4, 3)], {}),
    "keras": (
        "keras: true min_size: 7 max_size: 12 aspect_ratio: 2 aspect_ratio: 3",
        [(sqrt(84), sqrt(84)), (7, 7), of_ratio(7, 2), of_ratio(7, 3), of_ratio(7, 1 / 2), of_ratio(7, 1 / 3)],
        {},
    ),
    "tf": (
        "tf: true min_size: 7 max_size: 12 aspect_ratio: 2",
        [(7, 7), of_ratio(7, 2), of_ratio(7, 1 / 2), (sqrt(84), sqrt(84))],
        {},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_priors_are_those_of_the_source(case: str) -> None:
    settings, sizes, more = CASES[case]
    np.testing.assert_allclose(priors(settings)[0], by_hand(sizes, **more), rtol=0, atol=3e-7)  # type: ignore[arg-type]


def test_clustered_priors() -> None:
    found = priors("width: 5.5 height: 9.25 width: 4 height: 3 step: 8", "PriorBoxClustered")[0]
    np.testing.assert_allclose(found, by_hand([(5.5, 9.25), (4, 3)], step=(8, 8)), rtol=0, atol=3e-7)


def test_variances() -> None:
    assert (priors("min_size: 7")[1] == np.float32(0.1)).all()
    assert (priors("min_size: 7 variance: 0.3")[1] == np.float32(0.3)).all()
    found = priors("min_size: 7 aspect_ratio: 2 variance: 0.1 variance: 0.2 variance: 0.3 variance: 0.4")[1]
    assert (found == np.array([0.1, 0.2, 0.3, 0.4], np.float32)).all()


def test_synopsys_insets_and_order() -> None:
    """tf: the box of min_size 60, and no other, is 0.05 smaller on each side; yx_order: y before x."""
    plain = np.array(by_hand([(60, 60), of_ratio(60, 2), of_ratio(60, 1 / 2)]))
    plain[::3] += [0.05, 0.05, -0.05, -0.05]
    settings = "tf: true min_size: 60 aspect_ratio: 2"
    np.testing.assert_allclose(priors(settings)[0], plain, rtol=0, atol=3e-7)
    swapped = priors(f"{settings} yx_order: true")[0]
    np.testing.assert_allclose(swapped, plain[:, [1, 0, 3, 2]], rtol=0, atol=3e-7)


def test_faceboxes_are_dense() -> None:
    """21 boxes a cell: sixteen of 32, four of 64 and one of 128, each ending at the centre of its last pixel."""
    found = priors("faceboxes: true min_size: 32 min_size: 64 min_size: 128 step: 32")[0].reshape(-1, 21, 4)
    assert found.shape == (12, 21, 4)
    pixels = found[0] * [IMAGE[1], IMAGE[0], IMAGE[1], IMAGE[0]]
    np.testing.assert_allclose(pixels[0], [0 - 15.5, 0 - 15.5, 0 + 15.5, 0 + 15.5], atol=1e-5)
    np.testing.assert_allclose(pixels[1], [8 - 15.5, 0 - 15.5, 8 + 15.5, 0 + 15.5], atol=1e-5)
    np.testing.assert_allclose(pixels[19], [16 - 31.5, 16 - 31.5, 16 + 31.5, 16 + 31.5], atol=1e-5)
    np.testing.assert_allclose(pixels[20], [16 - 63.5, 16 - 63.5, 16 + 63.5, 16 + 63.5], atol=1e-5)


def opencv(settings: str, folder: Path, kind: str = "PriorBox") -> np.ndarray:
    (folder / "net.prototxt").write_text(text(settings, kind))
    net = cv2.dnn.readNetFromCaffe(str(folder / "net.prototxt"))
    net.setInput(np.zeros((1, 3, *IMAGE), np.float32))
    return net.forward("it").reshape(2, -1, 4)


OPENCV = [
    "min_size: 7 clip: false variance: 0.1",
    "min_size: 7 max_size: 12 aspect_ratio: 2 aspect_ratio: 3 clip: false variance: 0.2",
    "min_size: 7 aspect_ratio: 2 flip: false clip: true step: 8 offset: 0.25 variance: 0.1",
    "min_size: 7 aspect_ratio: 2 aspect_ratio: 0.5 clip: false variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2",
    "min_size: 7.9 max_size: 12.5 aspect_ratio: 2 clip: false variance: 0.1",
]


@pytest.mark.parametrize("settings", OPENCV)
def test_opencv_makes_the_same_priors(settings: str, tmp_path: Path) -> None:
    np.testing.assert_allclose(priors(settings), opencv(settings, tmp_path), rtol=0, atol=3e-7)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("", "min_size is missing"),
        ("min_size: 0", "must be above 0"),
        ("min_size: 5 variance: 1e-301", "above 0"),
        ("min_size: 5 aspect_ratio: 1e-301", "above 0"),
        ("min_size: 1e301", "above 0, and at most"),
        ("min_size: 5 max_size: 4", "must be greater"),
        ("min_size: 5 min_size: 6 max_size: 9", "expected as many"),
        ("min_size: 5 aspect_ratio: 0", "aspect_ratio"),
        ("min_size: 5 variance: 0.1 variance: 0.2", "variance"),
        ("min_size: 5 variance: -1", "variance"),
        ("min_size: 5 step: 3 step_h: 4 step_w: 4", "both step and"),
        ("min_size: 5 img_h: 4", "must be positive"),
        ("min_size: 5 offset: nan", "expected a number"),
        ("box_width: 5 box_width: 6 box_height: 5", "expected as many"),
        ("min_size: wide", "expected numbers"),
    ],
)
def test_what_caffe_refuses_is_refused(settings: str, problem: str) -> None:
    with pytest.raises(NetError, match=problem):
        priors(settings)


def test_clustered_sizes_go_in_pairs() -> None:
    for settings in ("", "width: 4", "width: 4 height: 3 height: 2", "width: 4 height: 0"):
        with pytest.raises(NetError, match="height"):
            priors(settings, "PriorBoxClustered")


def test_textboxes_boxes_stand_half_a_cell_lower_as_well() -> None:
    """MhLiao/TextBoxes, prior_box_layer.cpp: center_y is (h + 0.5) * step_y, and (h + 1.0) * step_y for the second."""
    plain = text("min_size: 7 aspect_ratio: 3 flip: false clip: true")
    layer = parse_prototxt(plain.replace('top: "it"', 'top: "it" fork: "TextBoxes"')).layers[-1].params
    assert isinstance(layer, PriorBox)
    (top,) = layer.forward((torch.zeros(1, 2, *CELLS), torch.zeros(1, 3, *IMAGE)), ())
    step_h, step_w = IMAGE[0] / CELLS[0], IMAGE[1] / CELLS[1]
    expected = []
    for h in range(CELLS[0]):
        for w in range(CELLS[1]):
            for width, height in ((7, 7), of_ratio(7, 3)):
                for below in (0.5, 1.0):
                    x, y = (w + 0.5) * step_w, (h + below) * step_h
                    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
                    sides = (IMAGE[1], IMAGE[0], IMAGE[1], IMAGE[0])
                    expected.append([min(max(a / b, 0), 1) for a, b in zip(box, sides, strict=True)])
    np.testing.assert_allclose(top.numpy().reshape(2, -1, 4)[0], expected, rtol=1e-5, atol=1e-6)
