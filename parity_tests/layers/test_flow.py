"""FlowNet's layers, against the loops of FlowNet 2's sources, and Correlation and FlowWarp against OpenCV."""

from __future__ import annotations

from math import ceil, floor

import numpy as np
import pytest
import torch

from converters import NetError
from parity_tests.layers.test_layers import make, run, values


def correlation(
    a: np.ndarray, b: np.ndarray, settings: dict, *, along: int | None = None, subtract: bool = False
) -> np.ndarray:
    """correlation_layer.cpp, CorrelateData; with `along` correlation_layer1d.cu, whose x_shift depends on it."""
    pad, k, most, s1, s2 = (
        settings[name] for name in ("pad", "kernel_size", "max_displacement", "stride_1", "stride_2")
    )
    tall = pad if along is None else 0
    a, b = (np.pad(x, [(0, 0), (0, 0), (tall, tall), (pad, pad)]) for x in (a, b))
    b = np.pad(b, [(0, 0), (0, 0), (0, 0), (s2, s2)])  # what lies beyond the padding is zero
    radius, grid = (k - 1) // 2, most // s2
    border = most + radius
    h = ceil((a.shape[2] - 2 * (border if along is None else radius)) / s1)
    w = ceil((a.shape[3] - 2 * border) / s1)
    width = 2 * grid + 1 if not along else grid + 1
    shift = {None: -grid, 0: -grid, -1: -width, 1: 0}[along]
    count = width * width if along is None else width
    top = np.zeros((a.shape[0], count, h, w))
    for channel in range(count):
        x_off = (channel % width + shift) * s2
        y_off = (channel // width - grid) * s2 if along is None else 0
        for y in range(h):
            for x in range(w):
                y1, x1 = y * s1 + (most if along is None else 0), x * s1 + most
                one = a[:, :, y1 : y1 + k, x1 : x1 + k]
                two = b[:, :, y1 + y_off : y1 + y_off + k, s2 + x1 + x_off : s2 + x1 + x_off + k]
                product = np.abs(one - two) if subtract else one * two
                top[:, channel, y, x] = product.sum((1, 2, 3)) / (k * k * a.shape[1])
    return top


SETTINGS = [
    {"pad": 3, "kernel_size": 3, "max_displacement": 2, "stride_1": 1, "stride_2": 1},
    {"pad": 4, "kernel_size": 1, "max_displacement": 4, "stride_1": 1, "stride_2": 2},
    {"pad": 5, "kernel_size": 3, "max_displacement": 3, "stride_1": 2, "stride_2": 2},
]


def text_of(settings: dict) -> str:
    return "correlation_param { " + " ".join(f"{name}: {value}" for name, value in settings.items()) + " }"


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("subtract", [False, True])
def test_correlation(settings: dict, *, subtract: bool) -> None:
    a, b = values("a", 2, 3, 7, 8), values("b", 2, 3, 7, 8)
    text = text_of({**settings, "correlation_type": "SUBTRACT" if subtract else "MULTIPLY"})
    expected = correlation(a.numpy(), b.numpy(), settings, subtract=subtract)
    np.testing.assert_allclose(run(make("Correlation", text, bottoms=2), a, b)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("along", [0, -1, 1])
def test_correlation_along_one_axis(settings: dict, along: int) -> None:
    a, b = values("a", 2, 3, 7, 8), values("b", 2, 3, 7, 8)
    layer = make("Correlation1D", text_of({**settings, "single_direction": along}), bottoms=2)
    expected = correlation(a.numpy(), b.numpy(), settings, along=along)
    np.testing.assert_allclose(run(layer, a, b)[0], expected, rtol=1e-4, atol=1e-5)


def test_opencv_correlates_and_warps_as_we_do(tmp_path) -> None:  # type: ignore[no-untyped-def]
    cv2 = pytest.importorskip("cv2")
    inputs = {"a": values("a", 1, 3, 7, 8), "b": values("b", 1, 3, 7, 8), "flow": values("flow", 1, 2, 7, 8) * 3}
    shapes = {name: " ".join(f"dim: {dim}" for dim in x.shape) for name, x in inputs.items()}
    for name, bottoms, body in (
        ("Correlation", "ab", text_of({**SETTINGS[0], "stride_2": 2})),
        ("FlowWarp", ["a", "flow"], "flow_warp_param { fill_value: ZERO }"),
    ):
        wires = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
        head = "".join(f'input: "{bottom}" input_shape {{ {shapes[bottom]} }}\n' for bottom in bottoms)
        text = f'{head} layer {{ name: "it" type: "{name}" {wires} top: "it" {body} }}'
        try:
            net = cv2.dnn.readNetFromCaffe(np.frombuffer(text.encode(), np.uint8))
            for blob in bottoms:
                net.setInput(inputs[blob].numpy(), blob)
            expected = net.forward("it")
        except (cv2.error, AttributeError) as error:
            pytest.skip(f"this OpenCV does not have {name}: {error}")
        top = run(make(name, body, bottoms=2), *(inputs[bottom] for bottom in bottoms))[0]
        np.testing.assert_allclose(top, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fill", ["ZERO", "NOT_A_NUMBER"])
def test_flow_warp(fill: str) -> None:
    """flow_warp_layer.cpp, Forward_cpu."""
    image, flow = values("a", 2, 3, 6, 7), values("flow", 2, 2, 6, 7) * 3
    expected = np.full((2, 3, 6, 7), 0.0 if fill == "ZERO" else np.nan)
    for n in range(2):
        for y in range(6):
            for x in range(7):
                x2, y2 = x + float(flow[n, 0, y, x]), y + float(flow[n, 1, y, x])
                if x2 >= 0 and y2 >= 0 and x2 < 7 and y2 < 6:
                    left, top = int(x2), int(y2)
                    right, bottom = min(left + 1, 6), min(top + 1, 5)
                    a, b, i = x2 - left, y2 - top, image.numpy()[n]
                    expected[n, :, y, x] = (1 - b) * ((1 - a) * i[:, top, left] + a * i[:, top, right])
                    expected[n, :, y, x] += b * ((1 - a) * i[:, bottom, left] + a * i[:, bottom, right])
    top_ = run(make("FlowWarp", f"flow_warp_param {{ fill_value: {fill} }}", bottoms=2), image, flow)[0]
    np.testing.assert_allclose(top_, expected, rtol=1e-4, atol=1e-4)
    assert not np.allclose(top_, run(make("FlowWarp", bottoms=2), image, flow.flip(1))[0], equal_nan=True)


def _cubic(x: float) -> float:
    x = abs(x)
    return x * x * (1.5 * x - 2.5) + 1 if x <= 1 else x * (x * (-0.5 * x + 2.5) - 4) + 2 if x < 2 else 0


def resampled(x: np.ndarray, out: tuple[int, int], kind: str, *, antialias: bool) -> np.ndarray:
    """resample_layer.cpp, InterpolationKernel and NearestNeighborKernel, with fx and fy where they stand there."""
    fy, fx = x.shape[2] / out[0], x.shape[3] / out[1]
    smooth = antialias and (fx > 1 or fy > 1)
    top = np.zeros((*x.shape[:2], *out))
    for y_out in range(out[0]):
        for x_out in range(out[1]):
            x_in, y_in = x_out * fx + fy / 2 - 0.5, y_out * fy + fx / 2 - 0.5
            xr, yr = floor(x_in + 0.5), floor(y_in + 0.5)
            if kind == "NEAREST":
                top[:, :, y_out, x_out] = x[:, :, min(max(yr, 0), x.shape[2] - 1), min(max(xr, 0), x.shape[3] - 1)]
                continue
            ax, ay = (1 / fx, 1 / fy) if smooth else (1.0, 1.0)
            width = 4 if kind == "CUBIC" else 2
            rx, ry = 2 if fx < 1 else ceil(width / ax), 2 if fy < 1 else ceil(width / ay)
            weigh = _cubic if kind == "CUBIC" else lambda d: max(0, 1 - abs(d))
            total, weights = 0, 0.0
            for i in range(max(yr - ry, 0), min(yr + ry + 1, x.shape[2])):
                for j in range(max(xr - rx, 0), min(xr + rx + 1, x.shape[3])):
                    weight = ax * weigh(ax * (x_in - j)) * ay * weigh(ay * (y_in - i))
                    total, weights = total + weight * x[:, :, i, j], weights + weight
            top[:, :, y_out, x_out] = total / weights if weights else 0
    return top


@pytest.mark.parametrize("kind", ["NEAREST", "LINEAR", "CUBIC"])
@pytest.mark.parametrize("out", [(6, 8), (12, 16), (3, 4), (5, 16), (13, 3)])
@pytest.mark.parametrize("antialias", [True, False])
def test_resample(kind: str, out: tuple[int, int], *, antialias: bool) -> None:
    x = values("x", 2, 3, 6, 8)
    settings = f"type: {kind} height: {out[0]} width: {out[1]} antialias: {str(antialias).lower()}"
    top = run(make("Resample", f"resample_param {{ {settings} }}"), x)[0]
    np.testing.assert_allclose(top, resampled(x.numpy(), out, kind, antialias=antialias), rtol=1e-4, atol=1e-4)
    by_bottom = make("Resample", f"resample_param {{ type: {kind} antialias: {str(antialias).lower()} }}", bottoms=2)
    assert np.array_equal(run(by_bottom, x, torch.zeros(1, 1, *out))[0], top)


@pytest.mark.parametrize("out", [(3, 4), (6, 8), (4, 7), (9, 9)])
def test_downsample(out: tuple[int, int]) -> None:
    """downsample_layer.cu, DownsampleFeatures."""
    x = values("x", 2, 3, 6, 8)
    hs, ws = 5 / (out[0] - 1), 7 / (out[1] - 1)
    expected = np.zeros((2, 3, *out))
    for i in range(out[0]):
        for j in range(out[1]):
            y, z = i / (out[0] - 1) * 5, j / (out[1] - 1) * 7
            total, weights = 0, 0.0
            for a in range(6):
                for b in range(8):
                    if abs(a - floor(y + 0.5)) <= ceil(hs) and abs(b - floor(z + 0.5)) <= ceil(ws):
                        weight = max(0, 1 - abs(a - y) / hs) * max(0, 1 - abs(b - z) / ws)
                        total, weights = total + weight * x.numpy()[:, :, a, b], weights + weight
            expected[:, :, i, j] = total / weights
    top = run(make("Downsample", f"downsample_param {{ top_height: {out[0]} top_width: {out[1]} }}"), x)[0]
    np.testing.assert_allclose(top, x.numpy() if out == (6, 8) else expected, rtol=1e-4, atol=1e-4)


def test_channel_norm() -> None:
    x = values("x", 2, 3, 4, 5)
    expected = np.sqrt((x.numpy() ** 2).sum(1, keepdims=True))
    np.testing.assert_allclose(run(make("ChannelNorm"), x)[0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("Correlation", "correlation_param { kernel_size: 2 max_displacement: 1 }", "must be odd"),
        ("Correlation", "correlation_param { kernel_size: 1 }", "max_displacement given"),
        ("Correlation1D", text_of({**SETTINGS[0], "single_direction": 2}), "not known"),
        ("FlowWarp", "flow_warp_param { fill_value: MIRROR }", "fill_value is MIRROR"),
        ("Resample", "resample_param { type: AREA width: 2 height: 2 }", "type is AREA"),
    ],
)
def test_refusals(kind: str, settings: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make(kind, settings, bottoms=2)
