"""torch.export of nets of any size whose deepest maps are one place where they are traced, and what it says if not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from converters import CaffeNet, parse_prototxt
from converters.export import ExportError
from fcn_port.exporting import export_net, with_random_weights

DEEP = """
input: "data" input_dim: 1 input_dim: 3 input_dim: 300 input_dim: 300
layer { name: "deep" type: "Convolution" bottom: "data" top: "deep"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 stride: 128 } }
"""
TURNED = 'layer { name: "t" type: "Permute" bottom: "deep" top: "t" permute_param { order: 0 order: 2 order: 3 } }'
SHAPES = {
    "flatten": TURNED + 'layer { name: "it" type: "Flatten" bottom: "t" top: "it" }',
    "reshape": TURNED
    + 'layer { name: "it" type: "Reshape" bottom: "t" top: "it" reshape_param { shape { dim: 0 dim: -1 dim: 4 } } }',
    "inner product": TURNED
    + 'layer { name: "it" type: "InnerProduct" bottom: "t" top: "it" inner_product_param { num_output: 3 axis: 3 } }',
    "reduction": TURNED
    + 'layer { name: "it" type: "Reduction" bottom: "t" top: "it" reduction_param { axis: 2 operation: SUMSQ } }',
    "transpose": """
        layer { name: "t" type: "Transpose" bottom: "deep" top: "t" transpose_param { dim: 0 dim: 2 dim: 3 dim: 1 } }
        layer { name: "it" type: "Flatten" bottom: "t" top: "it" }""",
    "shuffle": """
        layer { name: "it" type: "ShuffleChannel" bottom: "deep" top: "it" shuffle_channel_param { group: 2 } }""",
    **{
        name: f'layer {{ name: "it" type: "{kind}" bottom: "deep" top: "it" {settings} }}'
        for name, kind, settings in (
            ("zoomed", "Interp", "interp_param { zoom_factor: 2 }"),
            ("shrunk", "Interp", "interp_param { shrink_factor: 2 }"),
            ("columns", "Im2col", "convolution_param { kernel_h: 3 kernel_w: 2 pad: 2 stride: 2 dilation: 2 }"),
            ("twice", "BilinearInterpolation", "bilinear_interpolation_param { interpolation_factor: 2 }"),
            *(
                (
                    f"{kind} {places}",
                    kind,
                    f'{field} {{ data_format: "NCHW" scale_height: 2.6 scale_width: 1 {places} }}',
                )
                for kind, field, last in (
                    ("ResizeBilinear", "resize_bilinear_param", "pytorch_half_pixel: true"),
                    ("ResizeNearestNeighbor", "resize_nearest_neighbor_param", "half_pixel_onnx: true"),
                )
                for places in ("", "align_corners: true", "half_pixel_centers: true", last)
            ),
        )
    },
}


@pytest.mark.parametrize("case", SHAPES)
def test_a_map_of_one_place_is_no_reason_to_take_that_size_alone(case: str, tmp_path: Path) -> None:
    """SSD's heads are turned and flattened; the last of them are one place at 80x112, where nets are traced."""
    net = with_random_weights(CaffeNet(parse_prototxt(DEEP + SHAPES[case])).eval())
    report = export_net(net, to="torch-export", out=tmp_path / "net.pt2")
    assert (report.any_size, report.least_size) == (True, 32)
    program = torch.export.load(str(tmp_path / "net.pt2")).module()
    for size in ((40, 128), (300, 33), (260, 390)):
        x = torch.randn(1, 3, *size)
        torch.testing.assert_close(program(x), net(x), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize("channels", [(1, 4), (4, 1)], ids=["one in", "one out"])
def test_the_least_size_is_taken(kind: str, channels: tuple[int, int], tmp_path: Path) -> None:
    """PyTorch wanted a map of more than one place between layers of one channel, and said so when the program ran."""
    given, made = channels
    text = f"""
        input: "data" input_shape {{ dim: [1, {given}, 40, 40] }}
        layer {{ name: "deep" type: "Pooling" bottom: "data" top: "deep"
            pooling_param {{ pool: AVE kernel_size: 32 stride: 32 }} }}
        layer {{ name: "it" type: "{kind}" bottom: "deep" top: "it"
            convolution_param {{ num_output: {made} kernel_size: 1 }} }}"""
    net = with_random_weights(CaffeNet(parse_prototxt(text)).eval())
    report = export_net(net, to="torch-export", out=tmp_path / "net.pt2")
    assert (report.any_size, report.least_size) == (True, 32)
    program = torch.export.load(str(tmp_path / "net.pt2")).module()
    for size in ((32, 32), (32, 96), (70, 33)):
        x = torch.randn(1, given, *size)
        torch.testing.assert_close(program(x), net(x), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("method", "levels"), [("MAX", 1), ("MAX", 3), ("AVE", 2)])
def test_a_pyramid_of_any_size_has_the_windows_of_that_size(method: str, levels: int, tmp_path: Path) -> None:
    """No pooling of PyTorch's takes a kernel that follows from the size; it was refused."""
    text = f"""layer {{ name: "it" type: "SPP" bottom: "deep" top: "it"
        spp_param {{ pool: {method} pyramid_height: {levels} }} }}"""
    net = with_random_weights(CaffeNet(parse_prototxt(DEEP.replace("stride: 128", "stride: 5") + text)).eval())
    report = export_net(net, to="torch-export", out=tmp_path / "net.pt2")
    assert report.any_size
    program = torch.export.load(str(tmp_path / "net.pt2")).module()
    for size in ((47, 128), (300, 53), (260, 390)):
        x = torch.randn(1, 3, *size)
        torch.testing.assert_close(program(x), net(x), rtol=1e-5, atol=1e-4)


def test_the_layer_that_refuses_a_trace_is_named_and_none_before_it(tmp_path: Path) -> None:
    """Parts of the net that end before it cannot be traced at any size either, because of another layer."""
    text = """
        layer { name: "odd" type: "ResizeBilinear" bottom: "data" top: "odd"
          resize_bilinear_param { data_format: "NCHW" scale_height: 0.123456789 scale_width: 0.123456789 } }
        layer { name: "loc" type: "Flatten" bottom: "odd" top: "loc" }
        layer { name: "four" type: "Slice" bottom: "loc" top: "box" top: "left" slice_param { slice_point: 4 } }
        layer { name: "two" type: "Slice" bottom: "left" top: "conf" top: "rest" slice_param { slice_point: 2 } }
        layer { name: "one" type: "Pooling" bottom: "data" top: "one"
          pooling_param { pool: AVE global_pooling: true } }
        layer { name: "priors" type: "PriorBox" bottom: "one" bottom: "data" top: "priors"
          prior_box_param { min_size: 30 } }
        layer { name: "it" type: "DetectionOutput" bottom: "box" bottom: "conf" bottom: "priors" top: "it"
          detection_output_param { num_classes: 2 nms_param { nms_threshold: 0.45 } } }"""
    net = CaffeNet(parse_prototxt(DEEP.partition("layer")[0] + text))
    with pytest.raises(ExportError, match=r"^layer 'it' \(DetectionOutput, .*suppressed by their numbers"):
        export_net(net, to="torch-export", out=tmp_path / "net.pt2")
