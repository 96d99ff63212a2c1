"""What a net on NumPy arrays takes as an input: real numbers; anything else is refused by the input's name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from converters import CaffeNet
from converters.errors import MismatchError, NetError
from converters.formats import parse_prototxt
from converters.passes import prepare
from fcn_port.fastpath.numpy_net import NumpyNet
from fcn_port.fastpath.program import self_check

TWO = """input: "a" input_shape { dim: [1, 4] } input: "b" input_shape { dim: [1, 4] }
    layer { name: "c" type: "Concat" bottom: "a" bottom: "b" top: "c" concat_param { axis: 0 } }"""
pytestmark = pytest.mark.skipif(self_check.why_not_any() is not None, reason="no C compiler")

TEXT = """input: "x" input_shape { dim: [1, 2, 2, 3] }
    layer { name: "a" type: "AbsVal" bottom: "x" top: "a" }"""
PRODUCT = 'layer { name: "i" type: "InnerProduct" bottom: "a" top: "i" inner_product_param { num_output: 2 } }'
X = -np.arange(12.0).reshape(1, 2, 2, 3)


@pytest.fixture
def net() -> NumpyNet:
    return NumpyNet(prepare(parse_prototxt(TEXT)), {})


@pytest.mark.parametrize("given", [
    X, X.astype(np.float16), X.astype(np.int8), X.tolist(), X > -3, np.ma.masked_array(X), torch.from_numpy(X),
])  # fmt: skip
def test_numbers_of_any_type(given: Any, net: NumpyNet) -> None:
    assert np.array_equal(net(given), np.abs(np.asarray(given).astype(np.float32)))


@pytest.mark.parametrize(("given", "named", "said"), [
    ((X, X), {}, "expected the inputs x; found one without a name, one without a name$"),
    ((X,), {"x": X}, "expected the inputs x; found one without a name, x$"),
    ((X[..., None],), {}, r"input 'x': expected an array like \(1, 2, 2, 3\), found \(1, 2, 2, 3, 1\)$"),
    ((X[..., 0],), {}, r"input 'x': expected an array like \(1, 2, 2, 3\), found \(1, 2, 2\)$"),
])  # fmt: skip
def test_one_too_many_and_axes_of_another_number(given: Any, named: Any, said: str, net: NumpyNet) -> None:
    with pytest.raises(NetError, match=f"^{said}"):
        net(*given, **named)


def test_inputs_of_as_many_images_as_each_has() -> None:
    """As regions beside their image have it: no image is computed by itself then."""
    net, (a, b) = NumpyNet(prepare(parse_prototxt(TWO)), {}), (np.ones((2, 4)), np.full((3, 4), 2.0))
    assert np.array_equal(net(a, b), np.concatenate([a, b]))


@pytest.mark.parametrize(("given", "found"), [
    (X + 2j, "ndarray of complex128"),  # the imaginary part was dropped
    (np.ma.masked_array(X, X < -3), "MaskedArray of float64"),  # the mask, too
    (X.astype("datetime64[s]"), "ndarray of datetime64"),
    (X.astype(str), "ndarray of <U"),
    ("image.jpg", "str of <U9"),
    (None, "NoneType of object"),
    ([[1], [1, 2]], "list, of which NumPy makes none: setting an array element"),
    (torch.from_numpy(X).requires_grad_(), "Tensor, of which NumPy makes none: Can't call numpy"),
    (torch.from_numpy(X).bfloat16(), "Tensor, of which NumPy makes none: Got unsupported"),
])  # fmt: skip
def test_what_holds_no_real_numbers(given: Any, found: str, net: NumpyNet) -> None:
    with pytest.raises(TypeError, match=f"^input 'x': expected an array of real numbers, found {found}"):
        net(given)


def test_an_input_called_self() -> None:
    given = 'input: "self" input_shape { dim: 1 dim: 2 dim: 3 dim: 4 }'
    text = given + ' layer { name: "a" type: "AbsVal" bottom: "self" top: "a" }'
    x = np.full((1, 2, 3, 4), -1, np.float32)
    assert np.array_equal(NumpyNet(prepare(parse_prototxt(text)), {})(self=x), -x)


def test_places_that_lead_out_of_a_blob() -> None:
    """Of an unpooling to a size that the definition fixes: said as the net with PyTorch says it, with the layer."""
    net = CaffeNet(parse_prototxt("""
        input: "data" input_shape { dim: [1, 3, 16, 16] }
        layer { name: "p" type: "Pooling" bottom: "data" top: "p" top: "m" pooling_param { kernel_size: 2 stride: 2 } }
        layer { name: "u" type: "Upsample" bottom: "p" bottom: "m" top: "u" upsample_param {
            upsample_h: 16 upsample_w: 16 } }"""))  # fmt: skip
    x = np.random.default_rng(0).random((1, 3, 24, 30), np.float32)
    quick = NumpyNet(net.spec, {})
    assert np.array_equal(quick(x[..., :16, :16]), net(torch.from_numpy(x[..., :16, :16])).numpy())
    said = r"layer 'u' \(Upsample.*: an index leads out of the blob"
    for run in (lambda: quick(x), lambda: net(torch.from_numpy(x))):
        with pytest.raises(NetError, match=said):
            run()


def test_a_size_that_the_net_does_not_take_is_told_by_layer() -> None:
    """By `explain` in the words of a pass."""
    net = NumpyNet(prepare(parse_prototxt(TEXT + PRODUCT)), {"i.weight": np.ones((2, 12)), "i.bias": np.ones(2)})
    with pytest.raises(NetError) as of_pass:
        net(np.ones((1, 2, 3, 3)))
    with pytest.raises(NetError, match="layer 'i'") as of_explain:
        net.explain((3, 3))
    assert str(of_explain.value) == str(of_pass.value)


@pytest.mark.parametrize(("bias", "found"), [({}, "there is none"), ({"i.bias": np.ones(3)}, r"found \(3,\)")])
def test_blobs_that_are_not_the_nets(bias: dict[str, np.ndarray], found: str) -> None:
    with pytest.raises(MismatchError, match=rf"blob 'i.bias': the net needs shape \(2,\); {found}"):
        NumpyNet(prepare(parse_prototxt(TEXT + PRODUCT)), {"i.weight": np.ones((2, 12)), **bias})
