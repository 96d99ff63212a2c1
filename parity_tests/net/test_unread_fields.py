"""Fields of forks on a layer that is run: harmless, honoured, or an error; in text and binary alike."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from converters import CaffeNet, Layer, LayerSpec, NetError, parse_prototxt, register_layer
from converters.formats.caffemodel import parse_caffemodel
from converters.net.layer import UnknownField

DATA = 'layer { name: "data" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 5 } } }\n'


def _layer(text: str) -> LayerSpec:
    return parse_prototxt(f'{DATA}layer {{ name: "a" bottom: "x" top: "y" {text} }}').layers[1]


@pytest.mark.parametrize(
    "text",
    [
        'type: "ReLU" relu_param { engine: MKL2017 }',
        'type: "Convolution" convolution_param { num_output: 1 kernel_size: 1 engine: MKLDNN }',
        'type: "Convolution" convolution_param { num_output: 1 kernel_size: 1 cudnn_math_override: 1 }',
        'type: "Convolution" strict_dim: false convolution_param { num_output: 1 kernel_size: 1 }',
        'type: "ReLU" forward_type: FLOAT16',
        'type: "ReLU" fork_param { of_another: 1 } b: 2',
        'type: "ReLU" param { lr_multi: 3 }',
        'type: "Convolution" quantization_param { bw_params: 8 } convolution_param { num_output: 1 kernel_size: 1 }',
        'type: "BatchNorm" batch_norm_param { scale_bias: false }',
        'type: "Pooling" pooling_param { kernel_size: 1 dilation: 1 }',
        'type: "Softmax" softmax_param { temperature: 1 }',
        'type: "ReLU" enable { phase: TEST }',
        'type: "DataAugmentation" augmentation_param { max_multiplier: 1 mirror { prob: 0.5 } write_mean: "m" }',
    ],
)
def test_harmless_fields_pass(text: str) -> None:
    assert _layer(text).params is not None


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('type: "Pooling" pooling_param { kernel_size: 2 round_below: true }', "pooling_param.round_below"),
        ('type: "Pooling" pooling_param { kernel_size: 2 dilation: 2 }', "pooling_param.dilation"),
        ('type: "Pooling" pooling_param { kernal_size: 2 kernel_size: 2 }', "pooling_param.kernal_size"),
        ('type: "Deconvolution" convolution_param { num_output: 1 kernel_size: 1 output_pad: 1 }', "output_pad"),
        ('type: "Eltwise" bottom: "x" eltwise_param { operation: SUB }', "Caffe's values: PROD, SUM, MAX"),
        ('type: "LRN" lrn_param { norm_region: MIN }', "lrn_param.norm_region"),
        ('type: "Softmax" softmax_param { temperature: 2 }', "softmax_param.temperature"),
        ('type: "Normalize" normalize_param { bp: 3 }', "normalize_param.bp"),
        ('type: "ReLU" enable { phase: TRAIN }', "enable.phase"),
        ('type: "DataAugmentation" augmentation_param { recompute_mena: 1 }', "augmentation_param.recompute_mena"),
    ],
)
def test_a_field_that_may_change_a_number_is_an_error(text: str, field: str) -> None:
    with pytest.raises(NetError, match="layer 'a'") as caught:
        _ = _layer(text).params
    assert field in str(caught.value)
    assert caught.value.hint is not None


def test_a_binary_file_has_the_same_rule() -> None:
    layer = _layer('type: "Convolution" convolution_param { num_output: 1 kernel_size: 1 }')
    numbered = replace(layer, extra=(UnknownField("convolution_param.#100", 2),))
    with pytest.raises(NetError, match=r"(?s)convolution_param\.#100.*--prototxt"):
        _ = numbered.params


def test_a_field_that_a_class_reads_is_honoured() -> None:
    @register_layer("ReadsItsFields")
    @dataclass(frozen=True)
    class ReadsItsFields(Layer):
        @classmethod
        def parse(cls, spec: LayerSpec) -> ReadsItsFields:
            spec.extra_message("own_param").children()
            return cls()

    assert _layer('type: "ReadsItsFields" own_param { strange: 3 }').params == ReadsItsFields()
    with pytest.raises(NetError, match="reads_its_fields_param"):
        _ = _layer('type: "ReadsItsFields" reads_its_fields_param { strange: 3 }').params


def _run(text: str, x: torch.Tensor, *blobs: np.ndarray) -> np.ndarray:
    net = CaffeNet(parse_prototxt(f'{DATA}layer {{ name: "a" bottom: "x" top: "y" {text} }}')).eval()
    names = ("weight", "bias", "blob2", "blob3", "blob4")
    state = {f"a.{name}": torch.from_numpy(blob.astype(np.float32)) for name, blob in zip(names, blobs, strict=False)}
    net.load_state_dict(state)
    with torch.no_grad():
        return net(x).numpy()  # type: ignore[no-any-return]


X = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 5, 5)).astype(np.float32))
MEAN, VARIANCE, SCALE, SHIFT = np.array([[0.1, -2, 3], [0.5, 1.5, 4], [2, -1, 0.5], [1, 0, -3]])


def _channels(values: np.ndarray) -> np.ndarray:
    return values.reshape(1, 3, 1, 1)


def test_batch_norm_with_nvcaffes_scale_and_bias() -> None:
    """NVIDIA/caffe, batch_norm_layer.cpp: mean and variance are not divided by the factor, eps is 1e-5 at least."""
    text = 'type: "BatchNorm" batch_norm_param { scale_bias: true eps: 1e-9 use_global_stats: false }'
    for factor in (0.0, 7.0):
        found = _run(text, X, MEAN, VARIANCE, np.array([factor]), SCALE, SHIFT)
        normal = (X.numpy() - _channels(MEAN)) / np.sqrt(_channels(VARIANCE) + 1e-5)
        np.testing.assert_allclose(found, normal * _channels(SCALE) + _channels(SHIFT), rtol=1e-5, atol=1e-5)


def test_batch_norm_with_synopsys_eps_after_the_root() -> None:
    """synopsys-caffe, batch_norm_layer.cpp: the divisor is sqrt(variance) + eps."""
    text = 'type: "BatchNorm" batch_norm_param { add_eps_before_sqrt: false eps: 0.5 }'
    found = _run(text, X, MEAN, VARIANCE, np.array([1.0]))
    expected = (X.numpy() - _channels(MEAN)) / (np.sqrt(_channels(VARIANCE)) + 0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_dropout_of_py_faster_rcnn_scales_at_test() -> None:
    text = 'type: "Dropout" dropout_param { dropout_ratio: 0.25 scale_train: false }'
    np.testing.assert_allclose(_run(text, X), X.numpy() * 0.75, rtol=1e-6)


def test_dropout_of_bayesian_segnet_draws_at_test() -> None:
    text = 'type: "Dropout" dropout_param { dropout_ratio: 0.5 sample_weights_test: true }'
    found = _run(text, X)
    assert 0.2 < (found == 0).mean() < 0.8
    kept = found != 0
    np.testing.assert_allclose(found[kept], 2 * X.numpy()[kept], rtol=1e-6)


def test_torch_pooling_rounds_down() -> None:
    text = 'type: "Pooling" pooling_param { kernel_size: 2 stride: 2 torch_pooling: true }'
    assert _run(text, X).shape == (2, 3, 2, 2)


def test_layers_that_only_a_solver_enables_are_left_out() -> None:
    """vsubhashini/caffe's `enable`: of three layers that make one blob, one is in the net that is deployed."""
    from converters.passes import filter_phase

    head = 'name: "n"\nlayers { name: "data" type: DATA top: "x" top: "l" '
    tail = 'layers { name: "ip" type: INNER_PRODUCT bottom: "x" top: "y" inner_product_param { num_output: 2 } }'
    given = 'layers { name: "data" type: INPUT top: "x" enable { solver: false } }\n'
    text = f"{head} enable {{ phase: TRAIN solver: true }} }}\n{given}{tail}"
    assert [layer.type for layer in filter_phase(parse_prototxt(text)).layers] == ["Input", "InnerProduct"]
    both = f"{head} enable: {{ phase: TRAIN }} }}\n{head.partition(chr(10))[2]} enable: {{ phase: TEST }} }}\n{tail}"
    assert len(filter_phase(parse_prototxt(both)).layers) == 2


def test_a_binary_file_with_an_unknown_value_of_an_enum() -> None:
    from converters.schema import NetParameter

    message = NetParameter()
    layer = message.layer.add(name="a", type="Pooling", bottom=["x"], top=["y"])
    layer.pooling_param.kernel_size = 2
    raw = layer.pooling_param.SerializeToString() + b"\x08\x09"
    whole = layer.SerializeToString().replace(layer.pooling_param.SerializeToString(), raw)
    whole = whole.replace(bytes([len(raw) - 2]) + raw, bytes([len(raw)]) + raw)
    spec = parse_caffemodel(b"\xa2\x06" + bytes([len(whole)]) + whole).spec
    assert spec is not None
    with pytest.raises(NetError, match="pool"):
        _ = spec.layers[0].params


def test_reshape_with_synopsys_pixelshuffler() -> None:
    """synopsys-caffe, reshape_layer.cpp: channel c goes to c // r^2 at row (c // r) % r, column c % r of its block."""
    text = f'{DATA.replace("dim: 3", "dim: 8")}layer {{ name: "a" type: "Reshape" bottom: "x" top: "y" %s }}'
    net = CaffeNet(parse_prototxt(text % "reshape_param { pixelshuffler: 2 }"))
    x = torch.arange(2 * 8 * 25.0).reshape(2, 8, 5, 5)
    expected = np.zeros((2, 2, 10, 10), np.float32)
    for n, c, h, w in np.ndindex(2, 8, 5, 5):
        expected[n, c // 4, 2 * h + (c // 2) % 2, 2 * w + c % 2] = x[n, c, h, w]
    np.testing.assert_array_equal(net(x).numpy(), expected)
