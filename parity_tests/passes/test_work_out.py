"""Input shapes are worked out, not assumed: from fields of data layers, and from what the net can be built with."""

from __future__ import annotations

import pytest

from converters import parse_prototxt, to_deploy
from converters.net import infer_shapes
from parity_tests.passes.texts import layer

CONV = "convolution_param { num_output: 2 kernel_size: 1 }"


def _inputs(*layers: str) -> dict[str, tuple[int, ...]]:
    deploy = to_deploy(parse_prototxt("".join(layers)))
    infer_shapes(deploy)
    return dict(deploy.inputs)


@pytest.mark.parametrize(
    ("kind", "fields", "shape"),
    [
        ("Data", "transform_param { crop_size: 9 }", (1, 3, 9, 9)),
        ("AnnotatedData", "transform_param { resize_param { height: 30 width: 40 } }", (1, 3, 30, 40)),
        ("ImageSegData", "image_data_param { new_height: 20 new_width: 30 is_color: false }", (1, 1, 20, 30)),
        ("DenseImageData", "dense_image_data_param { new_height: 36 new_width: 48 }", (1, 3, 36, 48)),
        ("Data", 'data_param { source: "examples/mnist/mnist_train_lmdb" }', (1, 1, 28, 28)),
        ("Data", 'transform_param { mean_file: "examples/cifar10/mean.binaryproto" }', (1, 3, 32, 32)),
        ("MemoryData", "memory_data_param { batch_size: 5 channels: 2 height: 7 width: 8 }", (5, 2, 7, 8)),
        ("Data", "transform_param { crop_h: 12 crop_w: 14 }", (1, 3, 12, 14)),
        ("Python", "python_param { layer: 'D' param_str: \"{'im_shape': (227, 200)}\" }", (1, 3, 227, 200)),
    ],
)
def test_the_fields_of_data_layers_tell(kind: str, fields: str, shape: tuple[int, ...]) -> None:
    found = _inputs(layer("d", kind, "", "data label", fields), layer("c", "Convolution", "data", "c", CONV))
    assert found == {"data": shape}


def test_branches_that_meet_need_a_multiple_of_their_strides() -> None:
    halved = "convolution_param { num_output: 2 kernel_size: 3 pad: 1 stride: 4 }"
    doubled = "convolution_param { num_output: 2 kernel_size: 8 stride: 8 }"
    net = (
        'input: "data"\n',
        layer("half", "Convolution", "data", "half", halved),
        layer("quarter", "Convolution", "half", "quarter", halved.replace("stride: 4", "stride: 2")),
        layer("up", "Deconvolution", "quarter", "up", doubled),
        layer("same", "Convolution", "data", "same", CONV),
        layer("sum", "Eltwise", "up same", "sum"),
    )
    assert _inputs(*net) == {"data": (1, 3, 512, 512)}
    (note,) = (note for note in to_deploy(parse_prototxt("".join(net))).notes if "assumed" in note)
    assert "1x3x512x512 is assumed, which fits the net better than 1x3x500x500" in note


def test_a_classifier_is_of_the_size_of_a_classifier() -> None:
    pool = "pooling_param { kernel_size: 2 stride: 2 }"
    conv = "convolution_param { num_output: 2 kernel_size: 3 pad: 1 }"
    blocks, blob = [], "data"
    for i in range(5):
        blocks += [
            layer(f"c{i}", "Convolution", blob, f"c{i}", conv),
            layer(f"p{i}", "Pooling", f"c{i}", f"p{i}", pool),
        ]
        blob = f"p{i}"
    head = layer("fc", "InnerProduct", blob, "fc", "inner_product_param { num_output: 3 }")
    assert _inputs('input: "data"\n', *blocks, head) == {"data": (1, 3, 224, 224)}
    assert _inputs('input: "data"\n', *blocks) == {"data": (1, 3, 500, 500)}


def test_recurrent_nets_have_steps_and_streams() -> None:
    found = _inputs(
        layer("d", "HDF5Data", "", "cont words"),
        layer("embed", "Embed", "words", "embedded", "embed_param { input_dim: 9 num_output: 4 bias_term: false }"),
        layer("lstm", "LSTM", "embedded cont", "lstm", "recurrent_param { num_output: 3 }"),
    )
    assert found == {"cont": (1, 1), "words": (1, 1)}


def test_a_batch_that_a_reshape_says() -> None:
    found = _inputs(
        layer("d", "Data", "", "data label", "transform_param { crop_size: 4 }"),
        layer("fc", "InnerProduct", "data", "fc", "inner_product_param { num_output: 5 }"),
        layer("r", "Reshape", "fc", "r", "reshape_param { shape { dim: 6 dim: 2 dim: 5 } }"),
    )
    assert found == {"data": (12, 3, 4, 4)}


def test_videos_have_an_axis_more() -> None:
    found = _inputs(
        layer("d", "Data", "", "data label"),
        layer("c", "Convolution", "data", "c", "convolution_param { num_output: 2 kernel_size: [3, 3, 3] }"),
    )
    assert found == {"data": (1, 3, 16, 112, 112)}


def test_what_is_given_is_never_changed() -> None:
    text = 'input: "data"\n' + layer("fc", "InnerProduct", "data", "fc", "inner_product_param { num_output: 3 }")
    given = to_deploy(parse_prototxt(text), input_shapes={"data": (1, 3, 500, 400)})
    assert dict(given.inputs) == {"data": (1, 3, 500, 400)} and given.assumed == ()
    assert to_deploy(parse_prototxt(text)).assumed == ("data",)


def test_inputs_of_forks_of_2014() -> None:
    """vsubhashini/caffe: input_param has num, channels, height and width."""
    fields = "input_param { num: 2 channels: 1 height: 28 width: 29 }"
    found = _inputs(layer("d", "Input", "", "data", fields), layer("c", "Convolution", "data", "c", CONV))
    assert found == {"data": (2, 1, 28, 29)}
