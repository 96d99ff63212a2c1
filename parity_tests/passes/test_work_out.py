"""Input shapes are worked out, not assumed: from fields of data layers, and from what the net can be built with."""

from __future__ import annotations

from converters import parse_prototxt, to_deploy
from converters.net import infer_shapes
from parity_tests.passes.texts import layer

CONV = "convolution_param { num_output: 2 kernel_size: 1 }"


def _inputs(*layers: str) -> dict[str, tuple[int, ...]]:
    deploy = to_deploy(parse_prototxt("".join(layers)))
    infer_shapes(deploy)
    return dict(deploy.inputs)


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


def test_the_size_of_the_map_that_a_reshape_says() -> None:
    """An image of 400x688, strides of 16 before dims 25 and 43; a BatchNorm stands between image and convolution."""
    halved = "pooling_param { kernel_size: 4 stride: 4 }"
    found = _inputs(
        layer("d", "Python", "", "data label", 'python_param { module: "m" layer: "DataLayer" }'),
        layer("norm", "BatchNorm", "data", "norm"),
        layer("conv", "Convolution", "norm", "conv", CONV),
        layer("p1", "Pooling", "conv", "p1", halved),
        layer("p2", "Pooling", "p1", "p2", halved),
        layer("perm", "Permute", "p2", "perm", "permute_param { order: 0 order: 2 order: 3 order: 1 }"),
        layer("flat", "Reshape", "perm", "flat", "reshape_param { shape { dim: 0 dim: -1 dim: 2 } }"),
        layer("map", "Reshape", "flat", "map", "reshape_param { shape { dim: 0 dim: 25 dim: 43 dim: -1 } }"),
    )
    assert found == {"data": (1, 3, 400, 688)}


def test_labels_that_are_cut_and_met() -> None:
    """OpenPose's training nets: the label's channels from its Slice, its size from the scores that it weighs."""
    found = _inputs(
        layer("d", "CPMData", "", "data label"),
        layer("cut", "Slice", "label", "mask more rest", "slice_param { slice_point: 2 slice_point: 4 }"),
        layer("conv", "Convolution", "data", "conv", CONV),
        layer("pool", "Pooling", "conv", "pool", "pooling_param { kernel_size: 4 stride: 4 }"),
        layer("score", "Convolution", "pool", "score", CONV),
        layer("weighed", "Eltwise", "score mask", "weighed", "eltwise_param { operation: PROD }"),
    )
    assert found["label"] == (1, 6, 125, 125)


def test_two_nets_that_share_their_weights_see_images_of_the_same_channels() -> None:
    """Caffe's examples/siamese: pairs along the channels, cut at 1; three channels would give it one and two."""
    shared = [f'param {{ name: "w" }} param {{ name: "b" }} {CONV}', 'param { name: "u" } param { name: "c" } ' + CONV]
    pair = (
        layer("d", "Data", "", "pair label", "include { phase: TRAIN }"),
        layer("cut", "Slice", "pair", "left right", "slice_param { slice_dim: 1 slice_point: 1 }"),
        layer("conv", "Convolution", "left", "conv", shared[0]),
    )
    assert _inputs(*pair, layer("conv_p", "Convolution", "right", "conv_p", shared[0]))["pair"] == (1, 2, 500, 500)
    assert _inputs(*pair, layer("conv_p", "Convolution", "right", "conv_p", shared[1]))["pair"] == (1, 3, 500, 500)


def test_sequences_of_words_and_vectors() -> None:
    """S2VT: a Reshape says steps and streams, and an InnerProduct along the last axis that its bottom is vectors."""
    found = _inputs(
        layer("d", "HDF5Data", "", "words stage frames"),
        layer("r", "Reshape", "stage", "stage3", "reshape_param { shape { dim: 8 dim: 3 dim: 1 } }"),
        layer("f", "InnerProduct", "frames", "f", "inner_product_param { num_output: 4 axis: -1 }"),
        layer("e", "Embed", "words", "e", "embed_param { input_dim: 9 num_output: 4 bias_term: false }"),
        layer("both", "Concat", "f e stage3", "both", "concat_param { axis: 2 }"),
    )
    assert found == {"words": (8, 3), "stage": (8, 3, 1), "frames": (8, 3, 4096)}


def test_a_guidance_has_a_number_for_each_channel() -> None:
    """Cysu/dgd_person_reid, guided_dropout_layer.cpp, Reshape: n and c are the first bottom's, h and w are 1."""
    net = parse_prototxt(
        layer("data", "HDF5Data", "", "data guidance", 'hdf5_data_param { source: "x" batch_size: 4 }')
        + layer("conv", "Convolution", "data", "conv", "convolution_param { num_output: 5 kernel_size: 3 }")
        + layer("pool", "Pooling", "conv", "pool", "pooling_param { global_pooling: true }")
        + layer("drop", "GuidedDropout", "pool guidance", "drop", 'guided_dropout_param { type: "stochastic" }')
    )
    assert infer_shapes(to_deploy(net))["guidance"] == (1, 5, 1, 1)


def test_a_reshape_tells_how_many_places_a_square_map_has() -> None:
    """A map made into a row, (n, c, h, w) to (n, c, 49), is of images of 14x14 where it is half as large."""
    found = _inputs(
        'input: "data"\n',
        layer("pool", "Pooling", "data", "pool", "pooling_param { kernel_size: 2 stride: 2 }"),
        layer("row", "Reshape", "pool", "row", "reshape_param { shape { dim: 1 dim: 3 dim: 49 } }"),
    )
    assert found == {"data": (1, 3, 14, 14)}
