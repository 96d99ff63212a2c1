"""The .binaryproto: a mean image, as compute_image_mean and pycaffe write it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters import CaffeFormatError, read_mean
from converters.schema import BlobProto
from parity_tests.small_files import blob_proto

MEAN = np.random.RandomState(0).uniform(0, 255, (1, 3, 5, 7)).astype(np.float32)


@pytest.mark.parametrize("legacy", [True, False], ids=["num channels height width", "shape"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_mean(tmp_path: Path, legacy: bool, dtype: type) -> None:
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(blob_proto(MEAN.astype(dtype), legacy=legacy).SerializeToString())
    mean = read_mean(path)
    assert mean.dtype == dtype and not mean.flags.writeable
    np.testing.assert_array_equal(mean, MEAN)


@pytest.mark.parametrize("dims", [(3,), (3, 1, 1), (65, 66)])
def test_its_axes_stay(tmp_path: Path, dims: tuple[int, ...]) -> None:
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(blob_proto(np.ones(dims, np.float32)).SerializeToString())
    assert read_mean(path).shape == dims


def test_too_few_values(tmp_path: Path) -> None:
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(BlobProto(num=1, channels=3, height=256, width=256, data=[1, 2]).SerializeToString())
    with pytest.raises(CaffeFormatError, match="1x3x256x256 needs 196608 values; found 2") as caught:
        read_mean(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("packed", [True, False])
def test_a_mean_of_c3d_has_five_axes(tmp_path: Path, packed: bool) -> None:
    """C3D's BlobProto (C3D-v1.0, caffe.proto): length is 3, height 4, width 5, data 6 and diff 7."""
    mean = np.arange(2 * 4 * 3 * 5, dtype=np.float32).reshape(1, 2, 4, 3, 5)
    dims = b"".join(bytes([number << 3, size]) for number, size in enumerate(mean.shape, 1))
    raw = mean.tobytes()
    data = bytes([6 << 3 | 2]) + bytes([0x80 | len(raw) & 0x7F, len(raw) >> 7]) + raw
    if not packed:
        data = b"".join(bytes([6 << 3 | 5]) + value.tobytes() for value in mean.ravel())
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(dims + data + bytes([7 << 3 | 2, 4]) + bytes(4))
    np.testing.assert_array_equal(read_mean(path), mean)
    path.write_bytes(dims + (b"" if packed else data[:-5]))
    with pytest.raises(CaffeFormatError, match=f"1x2x4x3x5 needs 120 values; found {0 if packed else 119}"):
        read_mean(path)
