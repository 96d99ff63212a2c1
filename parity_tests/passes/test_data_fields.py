"""The size and the channels of images, from the fields of data layers, Caffe's own and those of forks."""

from __future__ import annotations

import pytest

from parity_tests.passes.test_work_out import CONV, _inputs
from parity_tests.passes.texts import layer


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


def test_inputs_of_forks_of_2014() -> None:
    """vsubhashini/caffe: input_param has num, channels, height and width."""
    fields = "input_param { num: 2 channels: 1 height: 28 width: 29 }"
    found = _inputs(layer("d", "Input", "", "data", fields), layer("c", "Convolution", "data", "c", CONV))
    assert found == {"data": (2, 1, 28, 29)}
