"""Skipping the padding's work changes no number: `fast(net)` beside Caffe's recordings and beside the net itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fcn_port
from converters.errors import NetError
from converters.execution import CaffeNet
from converters.formats import parse_prototxt
from fcn_port.fastpath import background, kernels, late, lossless
from fcn_port.fastpath.geometry import Interval, Rect, Sliding, Span
from fcn_port.fastpath.kernels import Choice, Pointwise, make_kernel
from fcn_port.fastpath.lossless import Lossless
from fcn_port.nets import (
    FCN,
    NETS,
    FCN8s,
    FCN8sAtOnce,
    FCN16s,
    FCN32s,
    FCN32sColorDepth,
    FCN32sColorHHA,
    FCNAlexNet,
    SiftFlowFCN8s,
)
from fcn_port.nets.parts import ResponseNorm
from parity_tests.fastpath.flows import convolution_step
from parity_tests.fastpath.random_nets import filled
from parity_tests.goldens import compare, golden, golden_ids, wrong_labels
from parity_tests.narrow import NARROW, image, named, narrow, same
from parity_tests.nets import filled_inputs, filled_net
from parity_tests.tolerances import tolerance

RECORDED = [id_ for id_ in golden_ids() if id_.net.removesuffix("-deploy") in NETS]
SIZES = [(1, 1), (1, 300), (100, 100), (101, 133), (227, 318), (64, 31)]


FAMILY = [FCN8s, FCN16s, FCN32s, FCN8sAtOnce, SiftFlowFCN8s, FCN32sColorDepth, FCN32sColorHHA, FCNAlexNet]
sizes = st.tuples(st.integers(1, 300), st.integers(1, 300))


@pytest.mark.parametrize(
    ("id_", "convolutions"),
    [(each, "native") for each in RECORDED]
    + [(each, other) for each in RECORDED if each.fill == "random" for other in ("torch", "direct")],
)
def test_outputs_and_labels_equal_caffe(id_, convolutions: Choice) -> None:
    expected = golden(id_.net, id_.size, id_.fill)
    fast = fcn_port.fast(filled_net(id_), convolutions=convolutions)
    outputs = named(fast(**filled_inputs(id_)))
    assert outputs.keys() == expected.labels.keys()
    for name, output in outputs.items():
        assert compare(output.numpy(), expected.blobs[name]) <= tolerance("fcn-blobs")
        assert not len(wrong_labels(output.numpy(), expected.labels[name], tie=tolerance("fcn-labels")))


@pytest.mark.parametrize("make", [FCN8s, FCN16s, FCN32s])
@settings(max_examples=20)
@given(size=sizes, batch=st.integers(1, 2))
def test_any_size_and_batch(make: type[FCN], size: tuple[int, int], batch: int) -> None:
    net = narrow(make)
    inputs = image(net, size, batch=batch)
    assert same(fcn_port.fast(net)(**inputs), net(**inputs))


@pytest.mark.parametrize("make", FAMILY)
@settings(max_examples=12)
@given(size=sizes)
def test_every_net_of_the_family_without_rounding(make: type[FCN], size: tuple[int, int]) -> None:
    """In double precision, where a wrong pixel anywhere cannot hide behind rounding."""
    net = narrow(make, torch.float64)
    for module in net.modules():
        if isinstance(module, ResponseNorm):  # a definition has it in single precision
            module.alpha = float(torch.tensor(module.alpha))
    found, expected = named(fcn_port.fast(net)(**image(net, size))), named(net(**image(net, size)))
    assert found.keys() == expected.keys()
    assert all(same(found[name], expected[name]) for name in expected)


def test_alexnet_saves_little_and_googlenet_nothing() -> None:
    with torch.device("meta"):
        alexnet, googlenet = (Lossless(fcn_port.build(f"voc-fcn-{name}")) for name in ("alexnet", "googlenet"))
    made = alexnet.plan((500, 500))
    assert made.work / made.literal_work == pytest.approx(0.92, abs=0.02)
    assert "the net as it is" in googlenet.explain((500, 500))


@pytest.mark.parametrize("remainder", range(16))
def test_every_remainder_of_the_strides(remainder: int) -> None:
    """Nothing of the edge is read off the wrong size, in a single module that has seen other sizes before."""
    assert all_same([(48 + remainder, 70), (16 + remainder, 33 + remainder), (33, 80 + remainder)])


def all_same(several: list[tuple[int, int]]) -> bool:
    net = narrow(FCN8s, torch.float64)
    fast = fcn_port.fast(net)
    return all(same(fast(**image(net, size)), net(**image(net, size))) for size in several)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_what_is_skipped_is_known(size: tuple[int, int]) -> None:
    """Outside `seen` an image changes no blob, and inside `inner` an empty one leaves every channel constant."""
    net = narrow(FCN8s)
    made = Lossless(net).plan(size)
    empty = fcn_port.blobs(net, torch.zeros(1, 3, *size))
    full = fcn_port.blobs(net, **image(net, size))
    assert {"pool4", "score_pool3", "score_pool4"} == set(made.cut)
    for step in made.early:
        blob = made.blobs[step.top]
        assert (blob.rows.length, blob.cols.length) == tuple(empty[step.top].shape[-2:])
        changed = (empty[step.top] != full[step.top]).any(1)[0].nonzero()
        for axis, span in enumerate((blob.rows, blob.cols)):
            assert span.seen.contains(Interval(int(changed[:, axis].min()), int(changed[:, axis].max()) + 1))
        inner = empty[step.top][:, :, slice(*blob.rows.inner), slice(*blob.cols.inner)]
        assert torch.equal(inner, inner[:, :, :1, :1].expand_as(inner))


slidings = st.builds(
    lambda kernel, stride, pad, ceil: Sliding(kernel, stride, min(pad, kernel // 2), edgeless=ceil, ceil=ceil),
    st.integers(1, 7), st.integers(1, 4), st.integers(0, 3), st.booleans(),
)  # fmt: skip


@given(length=st.integers(7, 60), sliding=slidings, data=st.data())
def test_a_window_by_counting(length: int, sliding: Sliding, data: st.DataObject) -> None:
    """Every output by listing what it reads."""
    kernel, stride, pad, ceil = sliding.kernel, sliding.stride, sliding.pad, sliding.ceil
    layer = nn.MaxPool1d(kernel, stride, pad, ceil_mode=True) if ceil else nn.AvgPool1d(kernel, stride, pad)
    assert sliding.length(length) == layer(torch.zeros(1, 1, length)).shape[-1]
    lo = data.draw(st.integers(0, length - 1))
    seen = Interval(lo, data.draw(st.integers(lo + 1, length)))
    low = data.draw(st.integers(0, length))
    span = Span(length, seen, (low, data.draw(st.integers(0, length - low))))
    result = sliding.slide(span)
    reads = [range(j * stride - pad, j * stride - pad + kernel) for j in range(result.length)]
    sees = [j for j, window in enumerate(reads) if set(window) & set(range(*seen))]
    assert list(range(*result.seen)) == sees
    outside = set() if ceil else {*range(-pad, 0), *range(length, length + pad)}
    edge = outside | set(range(span.edge[0])) | set(range(length - span.edge[1], length))
    touched = {j for j, window in enumerate(reads) if set(window) & edge}
    assert touched <= set(range(result.edge[0])) | set(range(result.length - result.edge[1], result.length))


def _wrong_rectangle(monkeypatch: pytest.MonkeyPatch) -> None:
    touched = Sliding.touched

    def one_short(self: Sliding, inputs: Interval) -> Interval:
        outputs = touched(self, inputs)
        return Interval(outputs.lo, outputs.hi - 1) if self.kernel == 3 else outputs

    monkeypatch.setattr(Sliding, "touched", one_short)


def _wrong_remainder(monkeypatch: pytest.MonkeyPatch) -> None:
    right = background.canvas_size
    monkeypatch.setattr(background, "canvas_size", lambda plan: (right(plan)[0] + 1, right(plan)[1]))


def _wrong_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    make = background.Backgrounds._make

    def zeros(*args: object) -> background.Canvas:
        made = make(*args)  # type: ignore[arg-type]
        return replace(made, constants={name: torch.zeros_like(c) for name, c in made.constants.items()})

    monkeypatch.setattr(background.Backgrounds, "_make", zeros)


def _wrong_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    slide = Sliding.slide

    def one_short(self: Sliding, span: Span) -> Span:
        result = slide(self, span)
        return replace(result, edge=(max(result.edge[0] - 1, 0), result.edge[1]))

    monkeypatch.setattr(Sliding, "slide", one_short)


@pytest.mark.parametrize("break_it", [_wrong_rectangle, _wrong_remainder, _wrong_constants, _wrong_edge])
def test_a_wrong_variant_is_seen(break_it, monkeypatch: pytest.MonkeyPatch) -> None:
    break_it(monkeypatch)
    assert not all_same([(40, 55), (63, 64)])


def test_less_work_is_left_and_said() -> None:
    with torch.device("meta"):
        fast = fcn_port.fast(fcn_port.build("voc-fcn8s"))
    for side, share in ((500, 0.70), (256, 0.56), (64, 0.30)):
        made = fast.plan((side, side))
        assert made.work / made.literal_work == pytest.approx(share, abs=0.02)
    assert "G multiply-adds" in fast.explain((500, 500))


def test_the_margin_is_computed_where_filling_costs_more() -> None:
    """conv1_1, three channels deep, computes what conv1_2 reads around it; conv4_1 is filled in."""
    with torch.device("meta"):
        blobs = fcn_port.fast(fcn_port.build("voc-fcn8s")).plan((500, 500)).blobs
    assert blobs["conv1_1"].computed == blobs["conv1_1"].needed
    assert blobs["conv4_1"].computed == blobs["conv4_1"].seen != blobs["conv4_1"].needed


@pytest.mark.parametrize("size", [(1, 1), (75, 122), (201, 64)], ids=str)
def test_low_memory_and_narrow_bands(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of few rows everywhere, upsampled ones included, and no second copy of the weights."""
    monkeypatch.setattr(lossless, "BAND_BYTES", 1 << 14)
    monkeypatch.setattr(late, "BAND_BYTES", 1 << 12)
    for make in (FCN8s, FCN32s, SiftFlowFCN8s):
        net = narrow(make, torch.float64)
        fast = fcn_port.fast(net, low_memory=True)
        found, expected = named(fast(**image(net, size, batch=2))), named(net(**image(net, size, batch=2)))
        assert all(same(found[name], expected[name]) for name in expected)
        for name, kernel in fast.state().kernels.items():
            module = net.get_submodule(name)
            assert not isinstance(module, nn.Conv2d) or kernel._weight.data_ptr() == module.weight.data_ptr()


@pytest.mark.parametrize(("side", "batch"), [(1, 1), (5, 2), (9, 1)])
def test_a_wide_layer_with_few_positions(side: int, batch: int) -> None:
    """A matrix product for few, oneDNN's convolution for many: fc7's width, and the same numbers."""
    torch.manual_seed(side)
    module = nn.Conv2d(1024, 1024, 1).requires_grad_(False)
    kernel = make_kernel(*convolution_step("fc7", module, relu=True))
    assert isinstance(kernel, Pointwise)
    x = torch.randn(batch, 1024, side, side)
    torch.testing.assert_close(kernel(x), module(x).relu(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("low_memory", [False, True])
@pytest.mark.parametrize("has_it", [True, False], ids=["as the processor has it", "without bfloat16"])
def test_bf16_costs_what_is_said(has_it: bool, low_memory: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some 1e-2 of the largest score, never much more, and less than that is a sign that nothing was rounded."""
    if not has_it:
        monkeypatch.setattr(kernels, "multiplies_bfloat16", lambda device: False)
    net = narrow(FCN8s)
    x = image(net, (150, 113))
    expected = net(**x)
    found = fcn_port.fast(net, precision="bf16", low_memory=low_memory)(**x)
    error = float((found - expected).abs().max() / expected.abs().max())
    assert found.dtype == torch.float32 and 1e-4 < error < 0.03
    assert float((found.argmax(1) != expected.argmax(1)).float().mean()) < 0.02


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("choice", ["native", "torch", "direct"])
def test_bf16_without_a_processor_for_it(choice: Choice, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The convolution of rounded numbers, rounded once: nearly every result is that of double precision."""
    monkeypatch.setattr(kernels, "multiplies_bfloat16", lambda device: False)
    torch.manual_seed(0)
    module = nn.Conv2d(64, 64, 3, padding=1).requires_grad_(False)
    x = torch.randn(1, 64, 20, 24)
    step, blobs = convolution_step("conv", module, relu=True)
    found = make_kernel(step, blobs, choice=choice, dtype=torch.bfloat16, packed=packed)(x)
    weight, bias = (blob.bfloat16().double() for blob in blobs)
    expected = nn.functional.conv2d(x.bfloat16().double(), weight, bias, padding=1).relu().bfloat16()
    assert found.dtype == torch.bfloat16
    assert float((found != expected).float().mean()) < 0.01


def test_changed_weights_are_noticed() -> None:
    net = FCN32s(2, widths=NARROW).eval().requires_grad_(False)
    fast, inputs = fcn_port.fast(net), image(net, (20, 30))
    fast(**inputs)
    net.conv2_1.bias.add_(3)
    net.fc7.weight = nn.Parameter(2 * net.fc7.weight, requires_grad=False)
    assert same(fast(**inputs), net(**inputs))


def test_hooks_that_come_later_are_called() -> None:
    """A plan runs no modules, so that the net itself must, as long as somebody hooks into one of its layers."""
    net = narrow(FCN8s)
    quick, x = Lossless(net), image(net, (40, 52))["data"]
    expected, state, seen = quick(x), quick.state(), []
    everywhere = torch.nn.modules.module.register_module_forward_hook
    for register in (net.conv3_1.register_forward_hook, everywhere):
        with register(lambda module, inputs, output: seen.append(module)):
            assert same(quick(x), expected)
        assert net.conv3_1 in seen
        seen.clear()
    with net.score_fr.register_forward_pre_hook(lambda module, inputs: inputs[0] * 0):
        assert not torch.equal(quick(x), expected)
    assert torch.equal(quick(x), expected) and not seen
    assert quick.state() is state  # nothing is packed again


def test_what_the_literal_net_must_do_it_does() -> None:
    net = narrow(FCN8s)
    fast = fcn_port.fast(net)
    assert fast(torch.zeros(0, 3, 20, 20)).shape == (0, 3, 20, 20)
    assert same(fast(data=image(net, (9, 9))["data"]), net(**image(net, (9, 9))))
    with pytest.raises(RuntimeError):
        fast(torch.zeros(1, 4, 20, 20))


def test_a_net_that_is_not_written_by_hand_is_left_alone() -> None:
    net = nn.Conv2d(3, 2, 1)
    assert fcn_port.fast(net) is net
    fast = fcn_port.fast(narrow(FCN8s))
    assert fcn_port.fast(fast) is fast


def test_segment_takes_it() -> None:
    import numpy as np

    net = fcn_port.load("weights/sample/shapes-fcn8s.caffemodel")
    picture = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    assert (fcn_port.segment(fcn_port.fast(net), picture).labels == fcn_port.segment(net, picture).labels).all()


def test_rectangles() -> None:
    a, b = Rect(Interval(2, 5), Interval(0, 4)), Rect(Interval(1, 3), Interval(2, 6))
    assert a.union(b) == Rect(Interval(1, 5), Interval(0, 6)) and a.union(b).contains(b) and not a.contains(b)
    assert (a.area, Interval(3, 9).within(Interval(1, 20))) == (12, slice(2, 8))
    assert Interval(0, 9).clip(Interval(4, 20)) == Interval(4, 9)


@pytest.mark.parametrize("make", [FCN8s, FCN16s])
def test_a_loaded_net_skips_its_padding_too(make: type[FCN]) -> None:
    """The same definition as a CaffeNet has the same graph, plans and numbers, in double precision."""
    net = narrow(make, torch.float64)
    loaded = CaffeNet(net.definition()).double().requires_grad_(False)
    loaded.load_state_dict(net.state_dict())
    fast = fcn_port.fast(loaded)
    assert isinstance(fast, Lossless) and fast.graph == Lossless(net).graph
    for size in ((40, 55), (101, 64)):
        inputs = image(net, size, batch=2)
        assert same(fast(**inputs), net(**inputs))
        assert fast.plan(size).work < 0.6 * fast.plan(size).literal_work
    with pytest.raises(NetError):
        fast(inputs["data"], inputs["data"])
    with pytest.raises(NetError):
        fast(other=inputs["data"])


ON_THE_IMAGE = {
    "LRN": "lrn_param { local_size: 3 }",
    "Power": "power_param { scale: 0.5 shift: 1 }",
    "Scale": "scale_param { bias_term: true }",
    "Pooling": "pooling_param { kernel_size: 3 stride: 2 pad: 1 }",
}


@pytest.mark.parametrize("kind", ON_THE_IMAGE)
def test_a_layer_that_no_padding_reaches_reads_the_image_too(kind: str) -> None:
    """Beside the convolution that pads it, the image has another reader: that one runs as it is."""
    text = f"""
        layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: [1, 3, 20, 24] }} }} }}
        layer {{ name: "beside" type: "{kind}" bottom: "data" top: "beside" {ON_THE_IMAGE[kind]} }}
        layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
                 convolution_param {{ num_output: 4 kernel_size: 3 pad: 40 }} }}"""
    net = filled(CaffeNet(parse_prototxt(text)).double())
    quick = fcn_port.fast(net)
    assert isinstance(quick, Lossless)
    for size in ((20, 24), (33, 21)):
        x = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        for name, value in net(x).items():
            assert torch.allclose(quick(x)[name], value, rtol=0, atol=1e-12), name


def test_weights_are_taken_with_the_keys_of_the_net() -> None:
    """And with its own, as PyTorch has them."""
    net, other = narrow(FCN8s), narrow(FCN8s)
    quick = fcn_port.fast(other, convolutions="torch")
    for state in (net.state_dict(), fcn_port.fast(net, convolutions="torch").state_dict()):
        other.load_state_dict({key: torch.zeros_like(value) for key, value in net.state_dict().items()})
        quick.load_state_dict(state)
        assert all(torch.equal(value, net.state_dict()[key]) for key, value in other.state_dict().items())
    with pytest.raises(RuntimeError, match="Unexpected"):
        quick.load_state_dict({**net.state_dict(), "other.weight": torch.zeros(1)})
    with pytest.raises(RuntimeError, match="Missing"):
        quick.load_state_dict({})


def test_who_means_to_train_a_fast_net_is_told() -> None:
    """PyTorch says, a pass later, that an element 0 of tensors does not require grad."""
    quick = fcn_port.fast(narrow(FCN8s), convolutions="torch")
    with pytest.warns(UserWarning, match="gives no gradients: train the net that it was made of"):
        quick.train()
    assert quick.training and not quick.eval().training
