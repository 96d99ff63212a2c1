"""Layers of text detectors, recognizers, ShuffleNet and R-CNNs in OpenCV, at sizes that the file does not know.

OpenCV's classic engine, which OpenCV 4 has alone, has no Shape for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from converters.export import TARGETS, Claim, OnnxOptions, TargetError, build_onnx, check_target
from converters.export.onnx import net
from converters.export.onnx.layer import OnnxForm
from converters.layers import (
    argmax_onnx,
    batch_norm,
    blocks,
    concat,
    convolution,
    padded_onnx,
    pooling_onnx,
    reorg,
    roi_pooling,
    softmax,
)
from converters.layers.normalize import MVN
from converters.layers.pooling import Pooling
from converters.layers.reshape import Reshape
from converters.layers.tensor import Squeeze
from converters.layers.upsample import Upsample
from converters.net.onnx_form import OnnxLayer, OnnxValue
from fcn_port.onnx_export import source_of, write_onnx
from parity_tests.export.onnx_models import arrays_of, blobs_of, caffe_net, inputs_for, serialized, shapes_at
from parity_tests.opencv5 import environment
from parity_tests.tolerances import tolerance

DATA = 'input: "data" input_shape { dim: 1 dim: 8 dim: 6 dim: 8 }'
ROWS = 'input: "rows" input_shape { dim: 4 dim: 5 }'
ROIS = 'input: "rois" input_shape { dim: 3 dim: 5 }'
NETS = {
    "scores of a region proposal network": DATA
    + """layer { name: "it" type: "Reshape" bottom: "data" top: "a"
                 reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 0 } } }
         layer { name: "softmax" type: "Softmax" bottom: "a" top: "b" }
         layer { name: "back" type: "Reshape" bottom: "b" top: "it"
                 reshape_param { shape { dim: 0 dim: 8 dim: -1 dim: 0 } } }""",
    "ShuffleNet's channels": DATA
    + 'layer { name: "it" type: "ShuffleChannel" bottom: "data" top: "it" shuffle_channel_param { group: 2 } }',
    "columns of a text recognizer": DATA
    + """layer { name: "turn" type: "Permute" bottom: "data" top: "a"
                 permute_param { order: 3 order: 0 order: 2 order: 1 } }
         layer { name: "rows" type: "Reshape" bottom: "a" top: "b" reshape_param { shape { dim: 0 dim: 0 dim: 48 } } }
         layer { name: "it" type: "InnerProduct" bottom: "b" top: "it"
                 inner_product_param { num_output: 5 axis: 2 } }""",
    "a spread to which much is added": DATA
    + 'layer { name: "it" type: "MVN" bottom: "data" top: "it" mvn_param { eps: 0.5 } }',
    "the spread of an item": DATA
    + 'layer { name: "it" type: "MVN" bottom: "data" top: "it" mvn_param { across_channels: true eps: 0.5 } }',
    "one number of all": DATA
    + """layer { name: "sum" type: "Reduction" bottom: "data" top: "a" reduction_param { operation: SUMSQ } }
         layer { name: "it" type: "Bias" bottom: "data" bottom: "a" top: "it" bias_param { axis: 3 } }""",
    "an input that nothing reads": f"""{ROWS} {DATA}
         layer {{ name: "it" type: "TanH" bottom: "data" top: "it" }}""",
    "R-FCN's regions": f"""{DATA} {ROIS}
         layer {{ name: "it" type: "PSROIPooling" bottom: "data" bottom: "rois" top: "it"
                  psroi_pooling_param {{ output_dim: 2 group_size: 2 spatial_scale: 0.5 }} }}""",
    "SegNet's unpooling of two images": DATA
    + """layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" top: "mask"
                 pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
         layer { name: "it" type: "Upsample" bottom: "pool" bottom: "mask" top: "it" upsample_param { scale: 2 } }""",
    "statistics of three images": DATA
    + 'layer { name: "it" type: "BN" bottom: "data" top: "it" bn_param { bn_mode: LEARN } }',
    "the spread of rows": f"""{ROWS}
         layer {{ name: "it" type: "MVN" bottom: "rows" top: "it" mvn_param {{ across_channels: true }} }}""",
    "TanH of large numbers": DATA
    + """layer { name: "large" type: "Power" bottom: "data" top: "large" power_param { scale: 100 } }
         layer { name: "it" type: "TanH" bottom: "large" top: "it" }""",
    "holes in a pooling": DATA
    + """layer { name: "it" type: "Pooling" bottom: "data" top: "it"
                 pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 2 hole: 2 } }""",
    "holes in a deconvolution": DATA
    + """layer { name: "it" type: "Deconvolution" bottom: "data" top: "it"
                 convolution_param { num_output: 6 group: 2 kernel_h: 2 kernel_w: 3 stride: 2 pad: 1 dilation: 3 } }""",
    "a deconvolution over time": """input: "data" input_shape { dim: 2 dim: 6 dim: 9 }
         layer { name: "it" type: "Deconvolution" bottom: "data" top: "it"
                 convolution_param { num_output: 4 group: 2 kernel_size: 3 stride: 2 pad: 1 } }""",
    "holes in a deconvolution over time": """input: "data" input_shape { dim: 1 dim: 6 dim: 9 }
         layer { name: "it" type: "Deconvolution" bottom: "data" top: "it"
                 convolution_param { num_output: 4 kernel_size: 3 dilation: 2 bias_term: false } }""",
    "a norm behind a deconvolution": DATA
    + """layer { name: "up" type: "Deconvolution" bottom: "data" top: "up"
                 convolution_param { num_output: 6 kernel_size: 4 stride: 2 pad: 1 } }
         layer { name: "norm" type: "BatchNorm" bottom: "up" top: "up" }
         layer { name: "scale" type: "Scale" bottom: "up" top: "up" scale_param { bias_term: true } }
         layer { name: "it" type: "ReLU" bottom: "up" top: "it" }""",
    "factors behind a deconvolution in groups": DATA
    + """layer { name: "up" type: "Deconvolution" bottom: "data" top: "up"
                 convolution_param { num_output: 8 group: 4 kernel_size: 4 stride: 2 pad: 1 } }
         layer { name: "drop" type: "Dropout" bottom: "up" top: "drop" }
         layer { name: "it" type: "Scale" bottom: "drop" top: "it" scale_param { bias_term: true } }""",
    "numbers added behind a deconvolution in groups": DATA
    + """layer { name: "up" type: "Deconvolution" bottom: "data" top: "up"
                 convolution_param { num_output: 8 group: 8 kernel_size: 4 stride: 2 pad: 1 bias_term: false } }
         layer { name: "add" type: "Bias" bottom: "up" top: "add" }
         layer { name: "it" type: "Power" bottom: "add" top: "it" power_param { scale: 3 shift: 1 } }""",
    "darknet's blocks as channels": DATA
    + 'layer { name: "it" type: "Reorg" bottom: "data" top: "it" reorg_param { stride: 2 } }',
    "dropout of what is flat": DATA
    + """layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
                 pooling_param { pool: AVE global_pooling: true } }
         layer { name: "flat" type: "Flatten" bottom: "pool" top: "flat" }
         layer { name: "bend" type: "ReLU" bottom: "flat" top: "flat" }
         layer { name: "drop" type: "Dropout" bottom: "flat" top: "flat" }
         layer { name: "it" type: "InnerProduct" bottom: "flat" top: "it" inner_product_param { num_output: 5 } }""",
    "windows with nothing in them": DATA
    + """layer { name: "pool" type: "Pooling" bottom: "data" top: "it" top: "place"
                 pooling_param { pool: MAX kernel_size: 1 stride: 3 } }""",
    **{
        f"{method} with a pad along {other} and long strides along the other axis": DATA
        + f"""layer {{ name: "pool" type: "Pooling" bottom: "data" top: "it" {tops}
                       pooling_param {{ pool: {method} kernel_{this}: 2 stride_{this}: 3
                                       kernel_{other}: 3 stride_{other}: 2 pad_{other}: 1 pad_{this}: 0 }} }}"""
        for method, tops in (("AVE", ""), ("MAX", 'top: "place"'))
        for this, other in ("hw", "wh")
    },
    "squares of rows of one number": DATA
    + """layer { name: "row" type: "Reshape" bottom: "data" top: "row"
                 reshape_param { shape { dim: -1 dim: 6 dim: 8 dim: 1 } } }
         layer { name: "it" type: "Reduction" bottom: "row" top: "it" reduction_param { operation: SUMSQ axis: 3 } }""",
    **{
        f"a deconvolution of one place with {pads}": DATA
        + f"""layer {{ name: "up" type: "Deconvolution" bottom: "data" top: "up"
                       convolution_param {{ num_output: 6 kernel_size: 1 group: {groups} {pads} }} }}
              layer {{ name: "it" type: "Scale" bottom: "up" top: "it" scale_param {{ bias_term: true }} }}"""
        for groups, pads in ((1, "pad: 1"), (2, "pad_h: 2 pad_w: 0"), (1, "pad_t: 0 pad_b: 1"))
    },
    "an average of as many places": DATA
    + """layer { name: "it" type: "Pooling" bottom: "data" top: "it"
                 pooling_param { pool: AVE kernel_size: 4 stride: 1 pad_type: 1 } }""",
    "thirds of a height": DATA
    + """layer { name: "it" type: "Slice" bottom: "data" top: "top" top: "it" slice_param { axis: 2 } }
         layer { name: "end" type: "TanH" bottom: "top" top: "end" }""",
    "two images as rows": DATA
    + """layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
                 pooling_param { pool: AVE global_pooling: true } }
         layer { name: "it" type: "Squeeze" bottom: "pool" top: "it" squeeze_param { axis: 2 axis: 3 } }""",
    "the three largest rows": """input: "data" input_shape { dim: 1 dim: 6 dim: 7 dim: 8 }
         layer { name: "it" type: "ArgMax" bottom: "data" top: "it" argmax_param { axis: 1 top_k: 3 } }""",
    "steps of an LSTM": """input: "data" input_shape { dim: 4 dim: 3 dim: 5 }
         input: "goes_on" input_shape { dim: 4 dim: 3 }
         layer { name: "it" type: "LSTM" bottom: "data" bottom: "goes_on" top: "it"
                 recurrent_param { num_output: 6 } }""",
    "rows that are two sizes": DATA
    + """layer { name: "turn" type: "Permute" bottom: "data" top: "turn"
                 permute_param { order: 0 order: 2 order: 1 order: 3 } }
         layer { name: "it" type: "InnerProduct" bottom: "turn" top: "it"
                 inner_product_param { num_output: 5 axis: 2 } }""",
    "what OpenCV has itself": DATA
    + """layer { name: "unit" type: "Normalize" bottom: "data" top: "unit"
                 norm_param { across_spatial: false channel_shared: false } }
         layer { name: "scale" type: "Scale" bottom: "unit" top: "scale" scale_param { bias_term: true } }
         layer { name: "it" type: "InnerProduct" bottom: "scale" top: "it"
                 inner_product_param { num_output: 5 transpose: true } }""",
    "half the sum of squares of an item": DATA
    + """layer { name: "it" type: "Reduction" bottom: "data" top: "it"
                 reduction_param { operation: SUMSQ axis: 1 coeff: 0.5 } }""",
    "magnitudes of two images, three times": DATA
    + """layer { name: "it" type: "Reduction" bottom: "data" top: "it"
                 reduction_param { operation: ASUM axis: 1 coeff: 3 } }""",
    "the largest channel": DATA
    + 'layer { name: "it" type: "ArgMax" bottom: "data" top: "it" argmax_param { axis: 1 } }',
    "an input put together with nothing": DATA + 'layer { name: "it" type: "Concat" bottom: "data" top: "it" }',
    "a softplus": DATA + 'layer { name: "it" type: "BNLL" bottom: "data" top: "it" }',
    "neighbours within a channel": DATA
    + """layer { name: "it" type: "LRN" bottom: "data" top: "it"
                 lrn_param { local_size: 5 norm_region: WITHIN_CHANNEL alpha: 2 } }""",
    "an item of length one": DATA
    + """layer { name: "it" type: "Normalize" bottom: "data" top: "it"
                 norm_param { across_spatial: true channel_shared: true } }""",
    "a mean taken off": DATA
    + 'layer { name: "it" type: "MVN" bottom: "data" top: "it" mvn_param { normalize_variance: false } }',
    "the last axis by turned weights": DATA
    + """layer { name: "it" type: "InnerProduct" bottom: "data" top: "it"
                 inner_product_param { num_output: 5 axis: 3 transpose: true } }""",
    "the last axis without a bias": DATA
    + """layer { name: "it" type: "InnerProduct" bottom: "data" top: "it"
                 inner_product_param { num_output: 5 axis: 3 bias_term: false } }""",
    "the last axis by masked weights": DATA
    + """layer { name: "it" type: "CInnerProduct" bottom: "data" top: "it"
                 inner_product_param { num_output: 5 axis: 3 transpose: true } }""",
    "three times the size": DATA
    + 'layer { name: "it" type: "Interp" bottom: "data" top: "it" interp_param { zoom_factor: 3 } }',
    "a size that is said": DATA
    + 'layer { name: "it" type: "Interp" bottom: "data" top: "it" interp_param { height: 9 width: 13 } }',
    "a maximum over more on one side": DATA
    + """layer { name: "it" type: "Pooling" bottom: "data" top: "it"
                 pooling_param { pool: MAX kernel_size: 3 stride: 2 pad_t: 1 pad_b: 2 pad_l: 0 pad_r: 1 } }""",
    "a maximum of as many places": DATA
    + """layer { name: "it" type: "Pooling" bottom: "data" top: "it"
                 pooling_param { pool: MAX kernel_h: 3 kernel_w: 4 stride: 1 pad_type: 1 } }""",
    "an average of what is there": DATA
    + """layer { name: "it" type: "Pooling" bottom: "data" top: "it"
                 pooling_param { pool: AVE_EXC_PAD kernel_size: 3 stride: 2 pad_t: 1 pad_b: 2 pad_l: 0 pad_r: 1 } }""",
    **{
        f"a convolution of one place with {pads}": DATA
        + f"""layer {{ name: "it" type: "Convolution" bottom: "data" top: "it"
                       convolution_param {{ num_output: 6 kernel_size: 1 group: {groups} {pads} }} }}"""
        for groups, pads in (
            (1, "pad: 1"),
            (2, "pad_h: 2 pad_w: 0"),
            (1, "pad_t: 0 pad_b: 1"),
            (1, "pad_l: 1 pad_r: 2"),
        )
    },
    "holes in the kernels of channels by themselves": DATA
    + """layer { name: "it" type: "Convolution" bottom: "data" top: "it"
                 convolution_param { num_output: 8 group: 8 kernel_size: 3 pad: 1 dilation: 2 } }""",
    **{
        f"kernels of channels by themselves over one {word}": f"""
              input: "data" input_shape {{ dim: 1 dim: 8 dim: {h} dim: {w} }}
              layer {{ name: "it" type: "Convolution" bottom: "data" top: "it"
                       convolution_param {{ num_output: 8 group: 8 kernel_size: 3 pad: 1 stride: {stride} }} }}"""
        for word, h, w, stride in (("place", 1, 1, 1), ("row", 1, 8, 2), ("column", 6, 1, 1))
    },
    "Fast R-CNN's regions": f"""{DATA} {ROIS}
         layer {{ name: "it" type: "ROIPooling" bottom: "data" bottom: "rois" top: "it"
                  roi_pooling_param {{ pooled_w: 3 pooled_h: 2 spatial_scale: 0.5 }} }}""",
}


NUMBERS = {"two": 2, "three": 3}
BOTH = pytest.mark.parametrize("target", ["opencv4", pytest.param("opencv5", marks=pytest.mark.opencv5)])


def worst(name: str, folder: Path, target: str = "opencv4") -> float:
    """The largest difference of OpenCV from CaffeNet, at the net's size and at a larger one."""
    net = caffe_net(NETS[name])
    steps = 4 if "steps" in name else None  # whose number must be known
    options = OnnxOptions(target=target, opset=TARGETS[target].opset, outputs=("it",), batch=steps)
    model = build_onnx(net.spec, arrays_of(net), options)
    (folder / "net.onnx").write_bytes(serialized(model))
    given = []
    for more in (0, 4):
        shapes = shapes_at(model, more) | ({"rois": (3, 5)} if "rois" in net.inputs else {})
        images = next((number for word, number in NUMBERS.items() if f"{word} images" in name), steps or 1)
        shapes |= {"data": (images, *shapes["data"][1:])} if "data" in shapes else {}
        shapes |= {"rows": (4, 5)} if "rows" in shapes else {}
        inputs = inputs_for(net.spec, shapes)
        if "rois" in shapes:
            inputs["rois"][:] = inputs["rois"].new_tensor([[0, 1, 1, 9, 7], [0, 0, 2, 5, 11], [0, 4, 3, 14, 9]])
        given.append(inputs)
    claim = Claim(
        [{blob: value.numpy() for blob, value in each.items()} for each in given],
        [{"it": np.asarray(blobs_of(net, each)["it"])} for each in given],
    )
    errors = [each.error for each in check_target(folder / "net.onnx", claim, target=target)]
    assert len(errors) == (2 if target == "opencv5" else 1) and None not in errors
    return max(map(float, errors))


@BOTH
@pytest.mark.parametrize("name", NETS)
def test_opencv_takes_any_size(name: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if target == "opencv5":
        monkeypatch.setenv("FCN_PORT_OPENCV5", str(environment.python()))
    assert worst(name, tmp_path, target) <= 1e-5


@BOTH
@pytest.mark.parametrize("kind", ["BNLL", "Softplus", "Mish", "TanH"])
def test_a_large_number_is_none_too_large(
    kind: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV's own Softplus is infinite above 88, and OpenCV 5's Tanh no number above 44."""
    if target == "opencv5":
        monkeypatch.setenv("FCN_PORT_OPENCV5", str(environment.python()))
    net = caffe_net(f'{DATA}layer {{ name: "it" type: "{kind}" bottom: "data" top: "it" }}')
    options = OnnxOptions(target=target, opset=TARGETS[target].opset, outputs=("it",))
    (tmp_path / "net.onnx").write_bytes(serialized(build_onnx(net.spec, arrays_of(net), options)))
    inputs = inputs_for(net.spec, {"data": (1, 8, 6, 8)})
    inputs["data"] *= 100
    claim = Claim([{"data": inputs["data"].numpy()}], [{"it": np.asarray(blobs_of(net, inputs)["it"])}])
    for each in check_target(tmp_path / "net.onnx", claim, target=target):
        assert each.error is not None and each.error <= 1e-5


def with_sizes(self: Reshape, out: OnnxLayer) -> None:
    x = out.bottoms[0]
    out.reshape(x, [out.size(x, [dim]) if isinstance(dim, int) else dim[0] for dim in self._plan(len(x.shape))])


def opencvs_own(self: MVN, out: OnnxLayer) -> None:
    out.top("MVN", [out.bottoms[0]], eps=self.eps, across_channels=int(self.across_channels))


def reduced(out: OnnxLayer, x: OnnxValue, axes: int, *, part: str | None = None, index: int = 0) -> str:
    return out.reduce("ReduceMean", x, [0, *range(2, axes)], part=part, index=index)


def together(self: OnnxForm, op: str, value: str, axes: Sequence[int], *, part: str) -> str:
    return self.node(op, [value], part=part, axes=list(axes), keepdims=1)


def with_axes(self: Squeeze, out: OnnxLayer) -> None:
    out.top("Squeeze", [out.bottoms[0], out.constant("axes", [2, 3])])


def plain_opencv(layer: Pooling, out: OnnxLayer, part: str | None, axis: int, settings: dict[str, object]) -> str:
    tops = (0, 1) if layer.mask else (0,)
    return out.node_of_several("Pooling", [out.bottoms[0]], tops, **settings)[0]


def unpadded(graph: object, target: str, *, thin: object) -> None:
    """No Pad anywhere."""


def one_image(self: Upsample, out: OnnxLayer) -> None:
    out.top("MaxUnpool", out.bottoms, kernel_shape=self.scale, strides=self.scale)


@pytest.mark.parametrize(
    ("name", "owner", "attribute", "wrong"),
    [
        ("SegNet's unpooling of two images", Upsample, "_unpool_in_opencv", one_image),
        ("statistics of three images", batch_norm, "_batch_mean", reduced),
        ("the spread of rows", OnnxForm, "reduce", together),
        ("windows with nothing in them", pooling_onnx, "LOWEST", 0.0),
        ("holes in a pooling", pooling_onnx, "largest_of_shifted", pooling_onnx._maximum),
        ("a deconvolution over time", convolution, "OPENCV", ()),
        ("factors behind a deconvolution in groups", net, "keep_deconvolutions", str),
        ("dropout of what is flat", net, "OPENCV", ()),
        ("holes in the kernels of channels by themselves", net, "pad_apart", unpadded),
        ("kernels of channels by themselves over one place", net, "_thin", lambda spec, inputs: ()),
        ("a deconvolution of one place with pad: 1", net, "crop_apart", str),
        ("AVE with a pad along w and long strides along the other axis", pooling_onnx, "_opencv_inside", plain_opencv),
        ("MAX with a pad along h and long strides along the other axis", pooling_onnx, "_opencv_inside", plain_opencv),
        ("darknet's blocks as channels", reorg, "OPENCV", ()),
        ("an average of as many places", padded_onnx, "OPENCV", ()),
        ("thirds of a height", concat, "OPENCV", ()),
        ("the three largest rows", argmax_onnx, "OPENCV", ()),
        ("two images as rows", Squeeze, "to_onnx", with_axes),
        ("scores of a region proposal network", Reshape, "to_onnx", with_sizes),
        ("ShuffleNet's channels", blocks, "OPENCV", ()),
        ("Fast R-CNN's regions", roi_pooling, "OPENCV", ()),
        ("a spread to which much is added", MVN, "_opencv", opencvs_own),
        ("the spread of an item", MVN, "_opencv", opencvs_own),
        ("one number of all", softmax, "OPENCV", ()),
    ],
)
def test_opencv_does_not_take_the_standard_form(
    name: str, owner: object, attribute: str, wrong: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, attribute, wrong)
    with pytest.raises(TargetError):
        worst(name, tmp_path)


SAME = {
    "Convolution": "convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad_type: 1 }",
    **{kind: f"pooling_param {{ pool: {kind} kernel_size: 3 stride: 2 pad_type: 1 }}" for kind in ("MAX", "AVE")},
}


@BOTH
@pytest.mark.parametrize("size", [(8, 6), (7, 10), (9, 11)])
@pytest.mark.parametrize("kind", SAME)
def test_same_with_a_stride_is_right_at_a_size_that_is_fixed(
    kind: str, size: tuple[int, int], target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even ones, too: OpenCV 5's new engine has SAME_UPPER off by one there."""
    monkeypatch.setenv("FCN_PORT_OPENCV5", str(environment.python()))
    layer = "Convolution" if kind == "Convolution" else "Pooling"
    net = caffe_net(f'{DATA} layer {{ name: "it" type: "{layer}" bottom: "data" top: "it" {SAME[kind]} }}')
    options = OnnxOptions(target=target, size=size, batch=1)
    report = write_onnx(source_of(net), tmp_path / "net.onnx", options=options, beside=lambda: net)
    assert report.error <= tolerance("onnx-forms")


@pytest.mark.opencv5
def test_an_input_that_nothing_reads_has_a_node_for_the_classic_engine_of_opencv_5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FCN_PORT_OPENCV5", str(environment.python()))
    monkeypatch.setattr(net, "_read_every_input", lambda graph, names: None)
    with pytest.raises(TargetError, match=r"ENGINE_CLASSIC .* requiredOutputs"):
        worst("an input that nothing reads", tmp_path, "opencv5")
