"""`fast` of a CaffeNet: any net, the same call and the same numbers."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fcn_port
from converters import CaffeNet, read_prototxt
from converters.errors import NetError
from converters.export.indices import index_inputs
from converters.formats import parse_prototxt
from converters.net.layer import all_layers
from fcn_port.fastpath.lossless import Lossless
from fcn_port.fastpath.native import build, why_not
from fcn_port.fastpath.native.memory import address
from fcn_port.fastpath.numpy_net import NumpyNet
from fcn_port.fastpath.program import FastNet, build_steps, program, rounding, self_check
from fcn_port.fastpath.program.program import ArenaPlan
from fcn_port.nets.net import as_net
from parity_tests.crazy_nets import crazy_net
from parity_tests.execution.test_caffe_net import CLAIMS, inputs_of, load
from parity_tests.fastpath.random_nets import filled, random_net
from parity_tests.goldens import GOLDEN, compare, format_blobs, formats
from parity_tests.layers.test_what_layers_say import _feed
from parity_tests.tolerances import tolerance

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")

Outputs = Mapping[str, Tensor]
SIZES = [(24, 24), (17, 31), (8, 9), (40, 7)]


def named(net: CaffeNet, found: Tensor | Outputs) -> Outputs:
    return {net.outputs[0]: found} if isinstance(found, Tensor) else found


def run_blankly(net: FastNet, inputs: Outputs) -> Outputs:
    """A pass over memory full of NaN, without the way out that the net itself is."""
    program = net.program({name: tuple(inputs[name].shape) for name in net.net.inputs})
    arrays = {name: x.numpy() for name, x in inputs.items()}
    found = program(arrays, np.full(program.floats, np.nan, np.float32))
    return {name: torch.from_numpy(value.copy()) for name, value in found.items()}


def error(found: Outputs, exact: Outputs) -> float:
    """The largest difference of any output as a share of its largest value."""
    assert list(found) == list(exact)
    worst = 0.0
    for name, value in exact.items():
        assert found[name].shape == value.shape
        if not value.numel():
            continue
        difference, largest = (found[name].double() - value).abs().max(), value.abs().max()
        assert not difference.isnan(), name
        worst = max(worst, float(difference / largest) if difference else 0.0)
    return worst


def pixels(net: CaffeNet, size: tuple[int, int], batch: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(size[0] * 100 + size[1])
    return {name: torch.randn(batch, shape[1], *size, generator=generator) for name, shape in net.inputs.items()}


def in_double(net: CaffeNet, inputs: Outputs) -> Outputs:
    exact = copy.deepcopy(net).double()
    return named(net, exact(**{name: x.double() for name, x in inputs.items()}))


@pytest.mark.parametrize("seed", range(40))
def test_random_nets_at_odd_sizes(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As near to double precision as the net itself, at most twice as far, whatever the memory held before.

    Of all sizes together: behind a TanH of large numbers, say, one size's error is a matter of luck.
    """
    if seed % 2:  # large tiles in nets of few layers, too
        monkeypatch.setattr(rounding, "SHORT", 0)
    net = random_net(seed)
    quick = FastNet(net)
    literal, errors = tolerance("fast-net") / 2, []
    for batch, size in enumerate(SIZES, 1):
        inputs = pixels(net, size, (batch + 1) // 2)
        exact = in_double(net, inputs)
        literal = max(literal, error(named(net, net(**inputs)), exact))
        found, again = run_blankly(quick, inputs), named(net, quick(**inputs))
        errors += [(size, error(each, exact)) for each in (found, again)]
        if batch <= 2:  # a single image
            assert all(torch.equal(mine, its) for mine, its in zip(again.values(), found.values(), strict=True))
    assert max(worst for _, worst in errors) <= 2 * literal, (errors, quick.explain(SIZES[0]))


@pytest.mark.parametrize("name", CLAIMS)
def test_recorded_nets(name: str) -> None:
    net = load(read_prototxt(formats(f"{name}.prototxt")), formats(f"{name}.caffemodel"))
    quick = fcn_port.fast(net)
    assert isinstance(quick, (FastNet, Lossless))
    inputs = inputs_of(net, name)
    found = run_blankly(quick, inputs) if isinstance(quick, FastNet) else named(net, quick(**inputs))
    for output, value in found.items():
        assert compare(value.numpy(), format_blobs(name)[output]) <= tolerance(CLAIMS[name]), output


@pytest.mark.parametrize("path", sorted((GOLDEN / "layers").glob("*.prototxt")), ids=lambda path: path.stem)
def test_every_type_of_layer(path) -> None:
    spec = read_prototxt(path)
    net, limits = CaffeNet(spec).requires_grad_(False), index_inputs(spec, spec.inputs)
    generator = torch.Generator().manual_seed(1)
    for blob in net.state_dict().values():
        blob.copy_(torch.rand(blob.shape, generator=generator) + 0.1)
    inputs = {name: _feed(name, shape, limits.get(name), generator).float() for name, shape in net.inputs.items()}
    expected = named(net, net(**inputs))
    quick = FastNet(net)
    assert error(run_blankly(quick, inputs), {name: x.double() for name, x in expected.items()}) <= 1e-5


@pytest.mark.parametrize("kind", sorted(all_layers()))
def test_layers_with_numbers_that_nobody_would_write(kind: str) -> None:
    for seed in range(4):
        try:
            net = filled(CaffeNet(parse_prototxt(crazy_net(random.Random(f"{kind} {seed}"), kind))))
            inputs = {name: torch.rand(shape) for name, shape in net.inputs.items()}
            expected = named(net, net(**inputs))
        except Exception:  # test_crazy_nets.py is about that
            continue
        found = named(net, fcn_port.fast(net)(**inputs))
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert torch.allclose(found[name], value, rtol=1e-4, atol=1e-5, equal_nan=True), (kind, seed)


SAME = """layer {
    name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 8 kernel_size: 3 }
}"""
DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 12, 12] } } }'


def small() -> CaffeNet:
    return a_net('layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }')


def a_net(text: str) -> CaffeNet:
    """A net of a convolution and what follows."""
    return filled(CaffeNet(parse_prototxt(f"{DATA} {SAME} {text}")))


def test_what_the_net_itself_must_do_it_does() -> None:
    net = small()
    quick, x = fcn_port.fast(net), torch.randn(1, 3, 12, 12)
    assert torch.allclose(quick(data=x), net(x), atol=1e-5)
    for wrong in (
        torch.zeros(0, 3, 12, 12),
        torch.zeros(1, 4, 12, 12),
        torch.zeros(1, 3, 2, 2),
        torch.zeros(3, 12, 12),
    ):
        with pytest.raises(NetError) as mine:
            quick(wrong)
        with pytest.raises(NetError) as its:
            net(wrong)
        assert str(mine.value) == str(its.value)
    for call in (lambda: quick(), lambda: quick(x, x), lambda: quick(x, data=x), lambda: quick(other=x)):
        with pytest.raises(NetError):
            call()
    assert quick(x.double().float().requires_grad_()).requires_grad is False
    net.double()
    assert quick(x.double()).dtype == torch.float64


def test_statistics_of_the_batch_itself_are_as_exact() -> None:
    """Over an arena, where pixels lie side by side: they were ninety times as far off as the net's own."""
    net = filled(
        CaffeNet(
            parse_prototxt("""
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 8, 200, 200] } } }
        layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 8 kernel_size: 1 } }
        layer { name: "y" type: "BatchNorm" bottom: "c" top: "y" batch_norm_param { use_global_stats: false } }""")
        )
    )
    inputs = {"x": pixels(net, (200, 200))["x"] + 1}
    exact = in_double(net, inputs)
    assert error(run_blankly(FastNet(net), inputs), exact) <= 2 * error(named(net, net(**inputs)), exact)


def test_training_is_left_to_the_net() -> None:
    net = a_net('layer { name: "d" type: "Dropout" bottom: "conv" top: "conv" }').train()
    quick, x = fcn_port.fast(net), torch.randn(1, 3, 12, 12)
    torch.manual_seed(0)
    expected = net(x)
    torch.manual_seed(0)
    assert torch.equal(quick(x), expected)


def test_changed_weights_are_noticed() -> None:
    net = small()
    quick, x = fcn_port.fast(net), torch.randn(1, 3, 12, 12)
    quick(x)
    net.conv.bias.add_(3)
    assert torch.allclose(quick(x), net(x), atol=1e-4)
    net.conv.weight = nn.Parameter(2 * net.conv.weight, requires_grad=False)
    assert torch.allclose(quick(x), net(x), atol=1e-4)


def test_a_value_that_is_not_a_number_stays() -> None:
    net = small()
    x = torch.zeros(1, 3, 12, 12)
    x[0, 1, 5, 5] = float("nan")
    assert torch.equal(fcn_port.fast(net)(x).isnan(), net(x).isnan())


FILTER = """
layer { name: "which" type: "Input" top: "which" input_param { shape { dim: [4] } } }
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [4, 3, 6, 6] } } }
layer {
    name: "before" type: "Convolution" bottom: "data" top: "before" convolution_param { num_output: 5 kernel_size: 3 }
}
layer { name: "filter" type: "Filter" bottom: "before" bottom: "which" top: "filter" }
layer {
    name: "after" type: "Convolution" bottom: "filter" top: "after" convolution_param { num_output: 4 kernel_size: 3 }
}
layer { name: "relu" type: "ReLU" bottom: "after" top: "after" }
layer { name: "side" type: "Pooling" bottom: "before" top: "side" pooling_param { kernel_size: 2 stride: 2 } }
"""


def test_shapes_that_depend_on_values() -> None:
    """Behind a layer that keeps some of the images, layers compute themselves; the same size may give all or some."""
    net = filled(CaffeNet(parse_prototxt(FILTER)))
    quick = FastNet(net)
    for kept in ([1, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1]):
        inputs = {"which": torch.tensor(kept).float(), "data": torch.randn(4, 3, 6, 6)}
        expected = {name: value.double() for name, value in net(**inputs).items()}
        assert error(run_blankly(quick, inputs), expected) <= 1e-6
        assert error(named(net, quick(**inputs)), expected) <= 1e-6


def test_what_is_left_alone() -> None:
    net = small()
    assert fcn_port.fast(net, low_memory=True) is net
    assert fcn_port.fast(net, precision="bf16") is net
    quick = fcn_port.fast(net)
    assert fcn_port.fast(quick) is quick


@pytest.mark.parametrize("change", ["hook", "parametrized"])
def test_what_somebody_added_to_a_layer_is_not_left_out(change: str) -> None:
    """A plan knows the definition and the weights, and nothing of a layer's hooks."""
    net = small()
    layer = next(module for module in net.modules() if getattr(module, "weight", None) is not None)
    assert fcn_port.fast(net) is not net
    if change == "hook":
        layer.register_forward_hook(lambda module, inputs, output: None)
    else:
        torch.nn.utils.parametrize.register_parametrization(layer, "weight", nn.Identity())
    assert fcn_port.fast(net) is net


def test_hooks_that_come_later_are_called() -> None:
    """On the net itself, and on all modules; PyTorch calls none of a CaffeNet's layers, whose hooks it passes over."""
    net = small()
    quick, x = fcn_port.fast(net), torch.randn(1, *next(iter(net.inputs.values()))[1:])
    expected, seen = quick(x), []
    for _ in range(2):  # the second pass is one like the last
        for register in (net.register_forward_pre_hook, torch.nn.modules.module.register_module_forward_pre_hook):
            handle = register(lambda module, inputs: seen.append(module))
            quick(x)
            handle.remove()
            assert net in seen
            seen.clear()
        with net.register_forward_hook(lambda module, inputs, output: -output):
            torch.testing.assert_close(quick(x), -expected)
        assert torch.equal(quick(x), expected)


def test_a_blob_that_changes_under_another_name() -> None:
    flat = """
        layer { name: "flat" type: "Flatten" bottom: "conv" top: "flat" }
        layer { name: "relu" type: "ReLU" bottom: "flat" top: "flat" }
        layer { name: "other" type: "Pooling" bottom: "conv" top: "other" pooling_param { kernel_size: 2 } }"""
    net, x = a_net(flat), torch.randn(2, 3, 12, 12)
    expected = {name: value.double() for name, value in net(x).items()}
    assert expected["other"].min() >= 0
    assert error(run_blankly(FastNet(net), {"data": x}), expected) <= 1e-6


@pytest.mark.parametrize(
    ("behind", "one_by_one"),
    [
        ('layer { name: "p" type: "Pooling" bottom: "conv" top: "p" pooling_param { kernel_size: 2 } }', True),
        ('layer { name: "i" type: "InnerProduct" bottom: "conv" top: "i" inner_product_param { num_output: 3 } }',
         True),
        ('layer { name: "c" type: "Concat" bottom: "conv" bottom: "conv" top: "c" concat_param { axis: 0 } }', False),
        ('layer { name: "r" type: "Reshape" bottom: "conv" top: "r" reshape_param { shape { dim: [-1, 4] } } }', False),
        ('layer { name: "n" type: "BatchNorm" bottom: "conv" top: "n" batch_norm_param { use_global_stats: false } }',
         False),
        ('layer { name: "r" type: "Reverse" bottom: "conv" top: "r" reverse_param { axis: -4 } }', False),
        ('layer { name: "r" type: "Reverse" bottom: "conv" top: "r" reverse_param { axis: 2 } }', True),
    ],
)  # fmt: skip
def test_images_one_by_one(behind: str, one_by_one: bool) -> None:
    """Several images are computed each by itself where no layer knows of the others."""
    net = a_net(behind)
    quick, x = FastNet(net), torch.randn(3, 3, 12, 12)
    assert (quick.state().runner._one_by_one({"data": x.numpy()}, 1) is not None) is one_by_one
    found, expected = named(net, quick(x)), {name: value.double() for name, value in named(net, net(x)).items()}
    assert error(found, expected) <= 1e-5
    if one_by_one:
        each = [named(net, quick(x[i : i + 1])) for i in range(3)]
        assert all(torch.equal(value, torch.cat([one[name] for one in each])) for name, value in found.items())


def test_it_says_how_each_layer_is_computed() -> None:
    said = fcn_port.fast(random_net(3)).explain((24, 24))
    assert "operations" in said.splitlines()[0]
    said = fcn_port.fast(a_net('layer { name: "e" type: "Atan" bottom: "conv" top: "e" }')).explain((24, 24))
    assert "conv: 3x3 product" in said and "e: by PyTorch: no kernel for layers of type Atan" in said


@pytest.mark.parametrize("kind", ["fast", "numpy_net"])
def test_how_a_size_that_does_not_fit_is_computed(kind: str) -> None:
    net = a_net(
        'layer { name: "i" type: "InnerProduct" bottom: "conv" top: "i" inner_product_param { num_output: 3 } }'
    )
    state = {name: x.numpy() for name, x in net.state_dict().items()}
    with pytest.raises(NetError, match="layer 'i' has weights 3x800, and at this size they would be 3x968"):
        (FastNet(net) if kind == "fast" else NumpyNet(net.spec, state)).explain((13, 13))


def test_it_can_be_copied() -> None:
    quick, x = fcn_port.fast(small()), torch.randn(1, 3, 12, 12)
    cold = copy.deepcopy(quick)
    assert torch.equal(cold(x), quick(x))
    assert torch.equal(copy.deepcopy(quick)(x), quick(x))


def test_results_say_what_made_them() -> None:
    net = small()
    assert [as_net(each).engine for each in (net, fcn_port.fast(net), fcn_port.fast(net, convolutions="direct"))] == [
        "padded", "native", "direct",
    ]  # fmt: skip


def _other_pooling(task: build_steps.NativeTask) -> build_steps.NativeTask:
    return task._replace(kind="pool_max" if task.kind == "pool_average" else task.kind)


def _other_dilation(task: build_steps.NativeTask) -> build_steps.NativeTask:
    is_filtering = task.kind == "winograd_3"
    return task._replace(settings=task.settings._replace(dilation_w=2)) if is_filtering else task


@pytest.mark.parametrize("other", [_other_pooling, _other_dilation])
def test_native_code_that_gives_other_numbers_is_not_used(
    other: Callable[[build_steps.NativeTask], build_steps.NativeTask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kernel is tried before the first net is run by it."""
    right = build_steps.tasks_of

    def wrong(*args: Any) -> list[build_steps.NativeTask]:
        return [other(task) for task in right(*args)]

    assert self_check.why_not_any() is None
    monkeypatch.setattr(build, "cache_folder", lambda: tmp_path)  # in which no mark says that it was tried
    monkeypatch.setattr(program, "tasks_of", wrong)
    self_check.why_not_any.cache_clear()
    try:
        assert "differs from sums in double precision" in (self_check.why_not_any() or "")
        net = small()
        assert fcn_port.fast(net) is net
    finally:
        self_check.why_not_any.cache_clear()


@pytest.mark.parametrize("seed", [1, 5, 10, 38])
def test_a_thread_that_comes_when_all_is_done_writes_nothing(seed: int) -> None:
    """The others may be steps ahead, and have its scratch in use; LRN's once cleared it first, and sums were lost."""
    net = random_net(seed)
    quick, inputs = FastNet(net), pixels(net, (24, 24), 1)
    shapes = {name: tuple(inputs[name].shape) for name in net.inputs}
    program = ArenaPlan(quick.flow, shapes, quick.state().runner.weights, threads=2)  # with scratch for both
    arena = np.full(program.floats, 0.5, np.float32)
    program({name: x.numpy() for name, x in inputs.items()}, arena)
    start = address(arena)
    for run in program._runs:
        if run.native is None:
            continue
        run.native.run(start, start + 4 * program._counters, 2)
        arena[program._scratch : program._counters] = 0.5
        before = arena[: program._counters].copy()
        run.native.work(start, start + 4 * program._counters, 1)
        assert np.array_equal(arena[: program._counters].view(np.int32), before.view(np.int32))
