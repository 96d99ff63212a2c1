"""blob_from_image of fcn_port.opencv gives the bits that cv2.dnn.blobFromImage gives."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from fcn_port.opencv import blob_from_image

SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"scalefactor": 1 / 127.5, "mean": (127.5, 127.5, 127.5)},
    {"scalefactor": 0.007843, "mean": 127.5},  # as programs of MobileNet-SSD have it: the first channel's
    {"mean": (104.0, 177.0, 123.0), "swap_rb": True},
    {"mean": (1, 2, 3.3), "scalefactor": 0.017, "crop": True},
)


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("shape", [(37, 53, 3), (120, 90, 3), (64, 64, 3), (31, 200), (300, 300, 3), (20, 9, 4)])
def test_every_bit_is_opencvs(shape: tuple[int, ...], settings: dict[str, Any]) -> None:
    pixels = image(*shape)
    theirs = {("swapRB" if key == "swap_rb" else key): value for key, value in settings.items()}
    half, twice = (shape[1] // 2, shape[0] // 2), (2 * shape[1], 2 * shape[0])
    for size in (None, (0, 0), (300, 300), (64, 32), (26, 18), half, twice):
        expected = cv2.dnn.blobFromImage(pixels, size=size or (0, 0), **theirs)
        found = blob_from_image(pixels, size=size, **settings)
        assert found.dtype == np.float32 and np.array_equal(found, expected), size


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4, 3), np.float32), np.zeros((4,), np.uint8), np.zeros((0, 4, 3), np.uint8), "image.png"]
)
def test_other_images_are_refused(pixels: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        blob_from_image(pixels)


def test_the_none_of_cv2_imread_is_told() -> None:
    with pytest.raises(ValueError, match=r"found None; expected an image .*cv2.imread gives None"):
        blob_from_image(cv2.imread("gone.png"))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(10, 0), (-1, 5), (10,)])
def test_other_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        blob_from_image(image(4, 4, 3), size=size)
