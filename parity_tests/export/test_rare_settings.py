"""Settings of layers that no example of golden/layers has, as ONNX, folded and not, and as Python, beside CaffeNet."""

from __future__ import annotations

import pytest

from converters import CaffeNet, parse_prototxt
from converters.errors import NetError
from converters.passes import prepare
from parity_tests.export.onnx_models import (
    blobs_in_onnxruntime,
    blobs_of,
    inputs_for,
    onnx_of,
    shapes_at,
    with_drawn_weights,
    worst_blob,
)
from parity_tests.export.test_export_python import assert_same, made_from, outputs
from parity_tests.oracle.client import CaffeAborted, Oracle
from parity_tests.tolerances import tolerance

DATA = 'input: "data" input_shape { dim: 2 dim: 4 dim: 8 dim: 12 } '
ODD = 'input: "data" input_shape { dim: 1 dim: 4 dim: 7 dim: 10 } '
VOLUME = 'input: "data" input_shape { dim: 2 dim: 3 dim: 4 dim: 6 dim: 5 } '


def one(kind: str, settings: str, *, data: str = DATA) -> str:
    return f'{data} layer {{ name: "it" type: "{kind}" bottom: "data" top: "it" {settings} }}'


PADS = [
    f"pad_t: {t} pad_b: {b} pad_l: {left} pad_r: {r}" for t, b, left, r in ((1, 2, 0, 1), (3, 4, 0, 3), (0, 3, 2, 0))
]
NETS = {
    **{
        f"pyramid of {pool}, {levels}": one("SPP", f"spp_param {{ pool: {pool} pyramid_height: {levels} }}")
        for pool in ("AVE", "STOCHASTIC")
        for levels in (1, 2, 3)
    },
    "STOCHASTIC of all": one("Pooling", "pooling_param { pool: STOCHASTIC global_pooling: true }"),
    **{
        f"{pool} by {stride} with {pads}": one(
            "Pooling", f"pooling_param {{ pool: {pool} kernel_size: 3 stride: {stride} {pads} }}", data=ODD
        )
        for pool in ("MAX", "AVE", "AVE_EXC_PAD")
        for stride in (1, 2)
        for pads in PADS
    },
    **{
        f"SAME by {stride} with holes of {hole}": one(
            "Convolution",
            "convolution_param { num_output: 3 kernel_h: 3 kernel_w: 2 pad_type: 1 "
            f"stride: {stride} dilation: {hole} }}",
            data=ODD,
        )
        for stride in (1, 2, 3)
        for hole in (1, 2)
    },
    "SAME with gaps": one(
        "Convolution",
        "convolution_param { num_output: 3 kernel_h: 2 kernel_w: 3 pad_type: 1 stride: 5 }",
        data=ODD,
    ),
    **{
        f"{pool} of SAME with {kernel} places by {stride}": one(
            "Pooling",
            f"pooling_param {{ pool: {pool} kernel_h: {kernel} kernel_w: 3 pad_type: 1 stride: {stride} }}",
            data=ODD,
        )
        for pool in ("MAX", "AVE", "AVE_EXC_PAD")
        for kernel, stride in ((1, 2), (2, 5), (3, 2))
    },
    **{
        f"{kind} of axis {axis} by {factor}": one(
            "Reduction", f"reduction_param {{ operation: {kind} axis: {axis} coeff: {factor} }}"
        )
        for kind in ("SUM", "ASUM", "SUMSQ", "MEAN")
        for axis, factor in ((0, 0.5), (2, 3), (-1, 0))
    },
    "MAX of a volume": one("Pooling", "pooling_param { pool: MAX global_pooling: true }", data=VOLUME),
    "AVE of a volume": one("Pooling", "pooling_param { pool: AVE global_pooling: true }", data=VOLUME),
    "unpooling of any size": f"""{DATA}
        layer {{ name: "pool" type: "Pooling" bottom: "data" top: "pool" top: "places"
                 pooling_param {{ pool: MAX kernel_size: 2 stride: 2 }} }}
        layer {{ name: "it" type: "Unpooling" bottom: "pool" bottom: "places" top: "it"
                 unpooling_param {{ unpool: MAX kernel_size: 3 stride: 2 }} }}""",
    "dropout that scales at test": one("Dropout", "dropout_param { dropout_ratio: 0.3 scale_train: false }"),
}
BEFORE = {
    "convolution": 'type: "Convolution" convolution_param { num_output: 6 kernel_size: 3 bias_term: false }',
    "groups": 'type: "Deconvolution" convolution_param { num_output: 6 group: 2 kernel_size: 3 }',
    "turned": 'type: "InnerProduct" inner_product_param { num_output: 6 transpose: true }',
}
BEHIND = {
    "sums": 'type: "BatchNorm"',
    "NVCaffe's": 'type: "BatchNorm" batch_norm_param { scale_bias: true }',
    "eps after the root": 'type: "BatchNorm" batch_norm_param { add_eps_before_sqrt: false eps: 0.1 }',
    "merged": 'type: "BN" bn_param { bn_mode: INFERENCE }',
    "running": 'type: "BN" bn_param { frozen: true }',
    "within ends": 'type: "Scale" scale_param { min_value: 0.3 max_value: 0.7 }',
    "a bias": 'type: "Bias"',
}
NETS |= {
    f"{first}, {second}": f"""{DATA} layer {{ name: "first" bottom: "data" top: "first" {BEFORE[first]} }}
                              layer {{ name: "it" bottom: "first" top: "it" {BEHIND[second]} }}"""
    for first in BEFORE
    for second in BEHIND
}


def net_of(name: str) -> CaffeNet:
    return with_drawn_weights(prepare(parse_prototxt(NETS[name])))


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_onnx_is_the_net(name: str, fold: bool) -> None:
    net = net_of(name)
    tried = 0
    for fixed in (False, True):
        batch, _, *size = net.inputs["data"]
        given = {"size": tuple(size) if len(size) == 2 else None, "batch": batch} if fixed else {}
        model = onnx_of(net, fold=fold, **given)
        for more in (0,) if fixed else (0, 3, 8):
            try:
                inputs = inputs_for(net.spec, shapes_at(model, more))
            except NetError:  # a size that the net does not take
                assert more and "STOCHASTIC" in name
                continue
            if "STOCHASTIC" in name:  # what it divides by does not cancel behind a ReLU
                inputs = {blob: x.abs() for blob, x in inputs.items()}
            expected = blobs_of(net, inputs)
            tried += 1
            assert worst_blob(blobs_in_onnxruntime(model, inputs), expected)[0] <= tolerance("onnx-forms"), more
    assert tried > 1


@pytest.mark.parametrize("name", NETS)
def test_python_is_the_net_or_refused(name: str) -> None:
    net = net_of(name)
    inputs = {blob: x.abs() for blob, x in inputs_for(net.spec, net.inputs).items()}
    try:
        made = made_from(net.spec)
    except NetError as error:
        assert "has no form" in str(error)
        return
    made.load_state_dict(net.state_dict())
    assert_same(outputs(made, inputs), outputs(net, inputs))


@pytest.mark.parametrize("per_pixel", ["true", "false"])
def test_the_mean_that_a_net_has_learnt_in_onnx(per_pixel: str) -> None:
    settings = f"augmentation_param {{ recompute_mean: 9 mean_per_pixel: {per_pixel} crop_height: 4 crop_width: 6 }}"
    data = 'input: "data" input_shape { dim: 2 dim: 3 dim: 5 dim: 7 } '
    net = with_drawn_weights(prepare(parse_prototxt(one("DataAugmentation", settings, data=data))))
    inputs = inputs_for(net.spec, net.inputs)
    found = blobs_in_onnxruntime(onnx_of(net, size=(5, 7), batch=2), inputs)
    assert worst_blob(found, blobs_of(net, inputs))[0] <= tolerance("onnx-forms")


PYRAMID = one("SPP", "spp_param { pool: STOCHASTIC pyramid_height: 2 }", data=ODD)


def test_a_stochastic_pyramid_that_would_need_pads_is_refused_as_in_caffe() -> None:
    with pytest.raises(NetError, match="2 x 2 windows over 7 x 10 need pad; STOCHASTIC takes none"):
        CaffeNet(prepare(parse_prototxt(PYRAMID)))


@pytest.mark.oracle
def test_caffe_refuses_that_pyramid(oracle: Oracle) -> None:
    with pytest.raises(CaffeAborted, match="Padding implemented only for average and max pooling"):
        oracle.forward(PYRAMID)
