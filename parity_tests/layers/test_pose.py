"""caffe_rtpose's ImResize and Nms, against the loops of its GPU kernels, one pixel after the other."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
import torch

from converters import CaffeNet, NetError, read_prototxt
from parity_tests.export.onnx_models import blobs_in_onnxruntime, blobs_of, onnx_of, worst_blob
from parity_tests.goldens import GOLDEN
from parity_tests.layers.test_layers import make, run, values


def cubic(v: list[float], t: float, a: float) -> float:
    """The cubic through four points, of slope a at the inner ones (a = -0.5 is imresize_layer.cu's)."""

    def near(d: float) -> float:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1

    def far(d: float) -> float:
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a

    return v[0] * far(1 + t) + v[1] * near(t) + v[2] * near(1 - t) + v[3] * far(2 - t)


def resized_by_hand(
    x: np.ndarray, size: tuple[int, int], *, start: float = 1, gap: float = 0.1, a: float = -0.5, mirror: bool = False
) -> np.ndarray:
    n, c, h, w = x.shape
    top = np.zeros((1, c, *size))
    for k, row, column in np.ndindex(c, *size):
        for image in range(n):
            pads = [math.floor(np.float32(side // 2) * np.float32(1 - start + image * gap)) for side in (h, w)]
            places = []
            for at, wanted, side, pad in zip((row, column), size, (h, w), pads, strict=True):
                own = side - 2 * pad
                place = (at - (wanted / own / 2 - 0.5)) * (own / wanted)
                one = max(int(place + 1e-5), 0)
                two = min(one + 1, own - 1)
                four = [max(one - 1, 0), one, two, min(two + 1, own - 1)]
                if mirror and one == 0:
                    four[0] = min(1, own - 1)
                places.append(([each + pad for each in four], place - one))
            (rows, dy), (columns, dx) = places
            lines = [cubic([x[image, k, y, each] for each in columns], dx, a) for y in rows]
            top[0, k, row, column] += cubic(lines, dy, a) / n
    return top


@pytest.mark.parametrize(
    ("settings", "shape", "size", "more"),
    [
        ("factor: 8", (1, 2, 4, 5), (32, 40), {}),
        ("target_spatial_width: 7 target_spatial_height: 5", (1, 2, 9, 12), (5, 7), {}),
        ("target_spatial_width: 9 target_spatial_height: 4", (1, 1, 1, 2), (4, 9), {}),
        ("factor: 2 start_scale: 0.9 scale_gap: 0.2", (3, 2, 12, 16), (24, 32), {"start": 0.9, "gap": 0.2}),
    ],
)
def test_imresize(settings: str, shape: tuple[int, ...], size: tuple[int, int], more: dict[str, float]) -> None:
    x = values("imresize", *shape)
    (top,) = run(make("ImResize", f"imresize_param {{ {settings} }}"), x)
    np.testing.assert_allclose(top, resized_by_hand(x.numpy().astype(float), size, **more), atol=2e-4)  # type: ignore[arg-type]


def test_another_cubic_and_another_border_show() -> None:
    x = values("imresize", 1, 1, 5, 6)
    (top,) = run(make("ImResize", "imresize_param { factor: 3 }"), x)
    for wrong in ({"a": -0.75}, {"mirror": True}, {"start": 0.5}):
        other = resized_by_hand(x.numpy().astype(float), (15, 18), **wrong)  # type: ignore[arg-type]
        assert np.abs(top - other).max() > 1e-3, wrong


def test_what_imresize_refuses() -> None:
    layer = make("ImResize", "imresize_param { factor: 2 scale_gap: 0.6 }")
    with pytest.raises(ValueError, match="scale 2 of 3 has no pixels of 12 x 16"):
        layer.top_shapes([(3, 2, 12, 16)])
    with pytest.raises(ValueError, match="larger than its canvas"):
        make("ImResize", "imresize_param { start_scale: 1.5 }").top_shapes([(1, 2, 12, 16)])
    with pytest.raises(NetError, match="above 0"):
        make("ImResize", "imresize_param { target_spatial_width: 0 }")
    for wrong in ("factor: 1e39", "factor: 1e6", "start_scale: 1e39", "scale_gap: -1e7"):
        with pytest.raises(NetError, match=r"is .*; expected a number below 1e\+06"):
            make("ImResize", f"imresize_param {{ {wrong} }}")


def test_imresize_takes_time_and_memory_as_its_blobs_do() -> None:
    """Borders of a billion images are not looked at one by one, and a long side has no matrix to a short one."""
    layer = make("ImResize", "imresize_param { target_spatial_width: 368 target_spatial_height: 2 scale_gap: 0 }")
    assert layer.top_shapes([(1 << 30, 1, 4, 4)]) == ((1, 1, 2, 368),)
    tracemalloc.start()
    (top,) = run(layer, torch.ones(1, 1, 1, 1_000_000))  # a matrix would have 1.5 GB
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_allclose(top, np.ones((1, 1, 2, 368)), rtol=1e-5)
    assert most < 20e6


def peaks_by_hand(
    x: np.ndarray, parts: int, most: int, threshold: float, *, by_height: bool = False, neighbours: int = 8
) -> np.ndarray:
    """nms_register_kernel and writeResultKernel."""
    n, _, h, w = x.shape
    top = np.zeros((n, parts, most + 1, 3))
    memory = x.ravel()
    for image, part in np.ndindex(n, parts):
        begin = (image * parts + part) * h * w
        count = 0
        for y, x0 in np.ndindex(h, w):
            if not (0 < x0 < w - 1 and 0 < y < h - 1):
                continue
            value = memory[begin + y * w + x0]
            around = [(dy, dx) for dy, dx in np.ndindex(3, 3) if (dy, dx) != (1, 1)]
            around = [each for each in around if neighbours == 8 or 1 in each]
            if value <= threshold or any(value <= memory[begin + (y + dy - 1) * w + x0 + dx - 1] for dy, dx in around):
                continue
            if count < most:
                sums = [0.0, 0.0, 0.0]
                for dy in range(-3, 4):
                    for dx in range(-3, 4):
                        inside = 0 < y + dy < (h if by_height else w) and 0 < x0 + dx < w
                        at = begin + (y + dy) * w + x0 + dx
                        if inside and at < len(memory) and memory[at] > 0:
                            for k, factor in enumerate((x0 + dx, y + dy, 1)):
                                sums[k] += factor * memory[at]
                top[image, part, count + 1] = sums[0] / sums[2], sums[1] / sums[2], value
            count += 1
        top[image, part, 0, 0] = count
    return top


@pytest.mark.parametrize(("shape", "parts"), [((1, 3, 9, 14), 2), ((2, 2, 12, 8), 2), ((1, 1, 2, 9), 1)])
def test_nms(shape: tuple[int, ...], parts: int) -> None:
    """A row below the channel is the next channel's first where the image is wider than high."""
    x = values("nms", *shape)
    settings = f"nms_param {{ threshold: 0.3 num_parts: {parts} max_peaks: 6 }}"
    (top,) = run(make("Nms", settings), x)
    expected = peaks_by_hand(x.numpy(), parts, 6, 0.3)
    np.testing.assert_allclose(top, expected, rtol=1e-4)
    if shape[2] == 9:
        for other in ({"by_height": True}, {"neighbours": 4}):
            assert not np.allclose(top, peaks_by_hand(x.numpy(), parts, 6, 0.3, **other), rtol=1e-3)  # type: ignore[arg-type]
    assert shape[2] == 2 or expected[..., 0, 0].max() > 6, "more peaks than are kept are counted"


def test_a_plateau_and_a_peak_at_the_border_are_none() -> None:
    x = values("plateau", 1, 1, 6, 7) * 0
    x[0, 0, 2, 2:4] = 1
    x[0, 0, 0, 5] = 2
    layer = make("Nms", "nms_param { num_parts: 1 max_peaks: 2 }")
    (top,) = run(layer, x)
    assert not top.any()
    x[0, 0, 2, 3] = 3
    (top,) = run(layer, x)
    assert top[0, 0, 0, 0] == 1 and top[0, 0, 1, 2] == 3 and not top[0, 0, 2].any()


def test_what_nms_refuses() -> None:
    layer = make("Nms", "nms_param { num_parts: 3 }")
    for shape in ((1, 2, 9, 9), (2, 4, 9, 9)):
        with pytest.raises(ValueError, match="expected num_parts, 3"):
            layer.top_shapes([shape])
    with pytest.raises(NetError, match="at least 1"):
        make("Nms", "nms_param { max_peaks: 0 }")


@pytest.mark.parametrize("images", [1, 3])
def test_the_onnx_form_takes_any_number_of_scales(images: int) -> None:
    net = CaffeNet(read_prototxt(GOLDEN / "layers" / "ImResize.prototxt"))
    inputs = {"scales": values("imresize", images, 2, 12, 16)}
    assert worst_blob(blobs_in_onnxruntime(onnx_of(net, size=(12, 16)), inputs), blobs_of(net, inputs))[0] < 1e-5
