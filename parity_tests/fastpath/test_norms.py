"""`fast` of layers that divide by what they know of other numbers, and of operands that broadcast."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from converters import CaffeNet
from converters.formats import parse_prototxt
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.program import FastNet
from parity_tests.fastpath.random_nets import filled
from parity_tests.tolerances import tolerance

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")

NET = """
input: "data" input_shape {{ dim: [1, 3, 9, 7] }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
    convolution_param {{ num_output: {channels} kernel_size: 3 pad: 1 }} }}
{behind}
"""
ONE = {
    "LRN": 'type: "LRN" lrn_param { local_size: 5 alpha: 0.3 }',
    "LRN, another power": 'type: "LRN" lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 k: 2 }',
    "LRN within channels": 'type: "LRN" lrn_param { local_size: 3 alpha: 2 norm_region: WITHIN_CHANNEL }',
    "LRN within, wider than the blob": 'type: "LRN" lrn_param { local_size: 11 beta: 1 norm_region: WITHIN_CHANNEL }',
    "Normalize": 'type: "Normalize"',
    "Normalize each place": 'type: "Normalize" norm_param { across_spatial: false channel_shared: false }',
    "BatchNorm of the batch": 'type: "BatchNorm" batch_norm_param { use_global_stats: false }',
    "BatchNorm, eps outside": """type: "BatchNorm"
        batch_norm_param { use_global_stats: false add_eps_before_sqrt: false }""",
    "BN of the batch": 'type: "BN" bn_param { bn_mode: LEARN }',
    "MVN": 'type: "MVN"',
}
GATE = """
layer { name: "mean" type: "Pooling" bottom: "conv" top: "mean" pooling_param { pool: AVE global_pooling: true } }
layer { name: "gate" type: "InnerProduct" bottom: "mean" top: "gate" inner_product_param { num_output: 20 } }
"""
SPREAD = {
    "Scale": 'type: "Scale" bottom: "conv" bottom: "gate" scale_param { axis: 0 }',
    "Bias": 'type: "Bias" bottom: "conv" bottom: "gate" bias_param { axis: 0 }',
    "Axpy": 'type: "Axpy" bottom: "gate" bottom: "conv" bottom: "conv"',
    "Mul": 'type: "Mul" bottom: "conv" bottom: "mean"',
    "Sub": 'type: "Sub" bottom: "mean" bottom: "conv"',
    "Maximum": 'type: "Maximum" bottom: "conv" bottom: "mean"',
}
KERNEL_LESS = {
    "Div": 'type: "Div" bottom: "conv" bottom: "mean"',
    "Scale with a bias": 'type: "Scale" bottom: "conv" bottom: "gate" scale_param { axis: 0 bias_term: true }',
}


def check(text: str, *, images: int, slow: tuple[str, ...] = (), offset: float = 0.0, deviation: float = 1.0) -> None:
    """At most twice as far from double precision as the net itself and a little more; other layers are native."""
    net = filled(CaffeNet(parse_prototxt(text))).eval()
    x = offset + deviation * torch.randn(images, 3, 9, 7, generator=torch.Generator().manual_seed(4))
    plain, exact = net(x), filled(CaffeNet(parse_prototxt(text))).double().eval()(x.double())
    plan = FastNet(net).program({"data": tuple(x.shape)})
    assert tuple(each.operation.name for each in plan.planned if each.is_slow) == slow
    for _ in range(2):
        (found,) = plan({"data": x.numpy()}, np.full(plan.floats, np.nan, np.float32)).values()
        error = float((torch.from_numpy(found) - exact).abs().max())
        assert error <= 2 * float((plain - exact).abs().max()) + tolerance("fast-net") * float(exact.abs().max())


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("channels", [3, 20, 70])
@pytest.mark.parametrize("kind", ONE)
def test_norms(kind: str, channels: int, images: int) -> None:
    check(
        NET.format(channels=channels, behind=f'layer {{ name: "it" bottom: "conv" top: "it" {ONE[kind]} }}'),
        images=images,
    )


OF_ITS_OWN = ["BatchNorm of the batch", "BatchNorm, eps outside", "BN of the batch", "MVN"]


@pytest.mark.parametrize("kind", OF_ITS_OWN)
def test_numbers_beside_which_eps_is_seen(kind: str) -> None:
    """It is added before the root or behind it; of larger numbers it changes no digit that is compared."""
    layer = f'layer {{ name: "it" bottom: "data" top: "it" {ONE[kind]} }}'
    check('input: "data" input_shape { dim: [1, 3, 9, 7] }' + layer, images=2, deviation=1e-5)


@pytest.mark.parametrize("kind", ["BN of the batch", "MVN"])
def test_numbers_that_are_all_equal(kind: str) -> None:
    """Their mean is rounded, and their variance not below 0."""
    layer = f'layer {{ name: "it" bottom: "data" top: "it" {ONE[kind]} }}'
    text = 'input: "data" input_shape { dim: [1, 3, 9, 7] }' + layer
    net = filled(CaffeNet(parse_prototxt(text))).eval()
    plan = FastNet(net).program({"data": (1, 3, 9, 7)})
    x = torch.tensor([0.1, 1e4 / 3, -7e-3]).reshape(1, 3, 1, 1).expand(1, 3, 9, 7).contiguous()
    (found,) = plan({"data": x.numpy()}, np.full(plan.floats, np.nan, np.float32)).values()
    shift = net.state_dict().get("it.bias", torch.zeros(3)).reshape(1, 3, 1, 1).expand_as(x)
    torch.testing.assert_close(torch.from_numpy(found.copy()), shift, rtol=0, atol=tolerance("fast-net"))


@pytest.mark.parametrize("kind", ["BatchNorm of the batch", "BN of the batch", "MVN"])
def test_what_follows_is_merged_and_far_from_zero_it_is_as_exact(kind: str) -> None:
    """A factor, a constant and a PReLU behind it; the variance of numbers around 1000 is not lost in their squares."""
    behind = f"""layer {{ name: "it" bottom: "data" top: "it" {ONE[kind]} }}
        layer {{ name: "scale" type: "Scale" bottom: "it" top: "it" scale_param {{ bias_term: true }} }}
        layer {{ name: "relu" type: "PReLU" bottom: "it" top: "it" }}"""
    text = 'input: "data" input_shape { dim: [1, 3, 9, 7] }' + behind
    check(text, images=2, offset=1000)
    (operation,) = FastNet(filled(CaffeNet(parse_prototxt(text)))).program({"data": (2, 3, 9, 7)}).planned
    assert [part.name for part in operation.operation.parts] == ["it", "scale", "relu"]


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("kind", SPREAD)
def test_one_number_for_all_pixels_of_a_channel(kind: str, images: int) -> None:
    """With an activation behind it, which is merged."""
    behind = f"""{GATE} layer {{ name: "it" {SPREAD[kind]} top: "it" }}
        layer {{ name: "relu" type: "HardSwish" bottom: "it" top: "it" }}"""
    if "gate" not in SPREAD[kind]:
        behind = behind.replace(GATE, GATE.rpartition("layer")[0])
    check(NET.format(channels=20, behind=behind), images=images)


NUMPY = [((2, 3, 2, 3), (2, 3)), ((1, 3, 3, 4, 5), (1, 3, 1, 1)), ((2, 1, 3), (2, 1, 1, 3))]
FROM_THE_FIRST = [((1, 1, 6, 6), (1, 1, 6)), ((2, 6, 6, 1), (2, 6, 6)), ((2, 6, 6), (2, 6))]


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        *((f'type: "{kind}"', shapes) for kind in ("Add", "Sub", "Mul", "Maximum") for shapes in NUMPY),
        *(('type: "Scale" scale_param { axis: 0 }', shapes) for shapes in FROM_THE_FIRST),
        *(('type: "Bias" bias_param { axis: 0 }', shapes) for shapes in FROM_THE_FIRST),
    ],
)
def test_operands_with_different_numbers_of_axes(layer: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    """Counted from the last one as in NumPy, or from the first: an operand's second axis may be none of channels."""
    text = "".join(
        f'input: "{name}" input_shape {{ dim: [{", ".join(map(str, shape))}] }}\n'
        for name, shape in zip("ab", shapes, strict=True)
    )
    net = CaffeNet(parse_prototxt(f'{text} layer {{ name: "it" {layer} bottom: "a" bottom: "b" top: "it" }}')).eval()
    random = torch.Generator().manual_seed(6)
    inputs = {name: torch.randn(shape, generator=random) for name, shape in zip("ab", shapes, strict=True)}
    plan = FastNet(net).program({name: tuple(x.shape) for name, x in inputs.items()})
    arrays = {name: x.numpy() for name, x in inputs.items()}
    (found,) = plan(arrays, np.full(plan.floats, np.nan, np.float32)).values()
    np.testing.assert_array_equal(found, net(**inputs))


@pytest.mark.parametrize("kind", KERNEL_LESS)
def test_what_has_no_kernel(kind: str) -> None:
    behind = f'{GATE} layer {{ name: "it" {KERNEL_LESS[kind]} top: "it" }}'
    if "gate" not in KERNEL_LESS[kind]:
        behind = behind.replace(GATE, GATE.rpartition("layer")[0])
    check(NET.format(channels=20, behind=behind), images=1, slow=("it",))


@pytest.mark.parametrize(("activation", "operations"), [("HardSwish", 3), ("PReLU", 4)])
def test_along_the_last_axis(activation: str, operations: int) -> None:
    """As in TensorFlow's nets: a factor and a constant for each place of it, and what follows, but no slopes."""
    behind = f"""
    layer {{ name: "turn" type: "Permute" bottom: "conv" top: "turn" permute_param {{ order: [0, 2, 3, 1] }} }}
    layer {{ name: "it" type: "Scale" bottom: "turn" top: "it" scale_param {{ axis: 3 bias_term: true }} }}
    layer {{ name: "relu" type: "{activation}" bottom: "it" top: "it" }}"""
    text = NET.format(channels=20, behind=behind)
    slow = () if activation == "HardSwish" else ("relu",)
    check(text, images=2, slow=slow)
    plan = FastNet(filled(CaffeNet(parse_prototxt(text)))).program({"data": (2, 3, 9, 7)})
    assert len(plan.planned) == operations


@pytest.mark.parametrize(
    "layer",
    ['type: "Power" power_param { scale: 0 shift: 3 }', 'type: "Clip" clip_param { min: nan max: 2 }'],
)
def test_what_infinity_becomes(layer: str) -> None:
    """One number by a Power with a scale of 0, which as a factor makes NaN; a bound that is none bounds nothing."""
    text = f'input: "data" input_shape {{ dim: [1, 3, 9, 7] }} layer {{ name: "it" bottom: "data" top: "it" {layer} }}'
    net = CaffeNet(parse_prototxt(text)).eval()
    x = torch.full((1, 3, 9, 7), float("inf"))
    x[0, 1], x[0, 2] = float("nan"), -5
    found, expected = FastNet(net)(x), net(x)
    (found,), (expected,) = (each.values() if isinstance(each, dict) else [each] for each in (found, expected))
    assert np.array_equal(found.numpy(), expected.numpy(), equal_nan=True)
