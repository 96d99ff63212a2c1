"""Images of more than 8 bits: the same 8 whoever reads them, a data set, `predict`, or a generated image's reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fcn_port.data import DataError, open_dataset
from fcn_port.data.files import read_rgb
from fcn_port.data.images import read_bands, read_color, read_grey
from fcn_port.data.masks import read_mask
from fcn_port.predict.images import read_image
from parity_tests.datasets import make_nyud, noise, save

RAMP = np.linspace(0, 1, 12 * 17).reshape(12, 17)
"""Fractions (12, 17) from 0 to 1."""
DEEP: dict[str, tuple[np.ndarray, str]] = {
    "16 bits": ((RAMP * 65535).round().astype(np.uint16), ".png"),
    "16 bits of TIFF": ((RAMP * 65535).round().astype(">u2"), ".tif"),
    "32 bits": ((RAMP * 65535).round().astype(np.int32), ".tif"),
    "fractions": (RAMP.astype(np.float32), ".tif"),
    "floats": ((255 * RAMP).astype(np.float32), ".tif"),
}
READERS: tuple[Callable[[Path], np.ndarray], ...] = (
    read_rgb, read_color, read_bands, read_grey, read_image, lambda path: read_image(path, kind="bands"),
    lambda path: read_image(path, kind="grey"),
)  # fmt: skip


@pytest.mark.parametrize("form", DEEP)
def test_deep_pictures_are_neither_white_nor_black(form: str, tmp_path: Path) -> None:
    values, ending = DEEP[form]
    path = save(tmp_path / f"a{ending}", values)
    whole = values.astype(np.float64) * 255 if form == "fractions" else values.astype(np.float64)
    expected = whole.round() if values.dtype.kind == "f" else whole // 256
    for read in READERS:
        found = read(path)
        assert found.dtype == np.uint8 and found.max() == 255 and found.min() == 0
        assert all(np.array_equal(found[:, :, band], expected) for band in range(found.shape[2]))


@pytest.mark.parametrize("kind", ["hha", "depth"])
def test_images_of_one_scene_are_of_one_size(kind: str, tmp_path: Path) -> None:
    data = open_dataset(make_nyud(tmp_path, np.ones((6, 8), np.uint8)))
    assert set(data.read("5001", kinds=("color", kind)).images) == {"color", kind}
    other = noise(3, (7, 9, 3)) if kind == "hha" else np.ones((7, 9), np.uint16)
    path = save(data.image_path("5001", kind=kind), other)
    with pytest.raises(DataError, match=r"7x9 pixels, but .*images.img_5001\.png has 6x8") as caught:
        data.read("5001", kinds=("color", kind))
    assert caught.value.path == str(path)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0, 3), (3, 4, 0), (3,), (2, 3, 4, 1)])
@pytest.mark.parametrize("read", [read_color, read_grey, read_bands, read_mask])
def test_an_array_without_pixels_is_refused(
    read: Callable[[Path], np.ndarray], shape: tuple[int, ...], tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match=r"a\.npy: uint8 .*expected"):
        read(tmp_path / "a.npy")
