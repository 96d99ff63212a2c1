"""Weights that stay as they are where packed ones would take more memory than other engines' do: the same bits."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from benchmarks.famous import NETS
from converters import parse_prototxt
from converters.net import NetSpec, infer_blobs
from converters.passes import prepare
from fcn_port.fastpath.flow import Flow, merge, read, state_key
from fcn_port.fastpath.native import division
from fcn_port.fastpath.native.build import library
from fcn_port.fastpath.points import FORMS, SUMMED
from fcn_port.fastpath.program import convolutions, rounding, self_check, sparing
from fcn_port.fastpath.program.runner import Runner

pytestmark = pytest.mark.skipif(self_check.why_not_any() is not None, reason="no C compiler")

MB = 1 << 20


@pytest.fixture(autouse=True)
def no_layer_is_relieved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large tiles for all layers, as deeper nets have them, where these few would round too much for some of theirs."""
    monkeypatch.setattr(rounding, "DEEP", 0)


def flow_of(spec: NetSpec) -> Flow:
    return merge(read(spec, spec.outputs))


def chain(*channels: int, side: int = 12, group: int = 1, scaled: int = 0) -> NetSpec:
    """3x3 convolutions one after the other, so many of them with a Scale behind."""
    layers = "".join(
        f'layer {{ name: "c{i}" type: "Convolution" bottom: "{f"c{i - 1}" if i else "x"}" top: "c{i}" '
        f"convolution_param {{ num_output: {each} kernel_size: 3 pad: 1 group: {group} }} }}"
        + (f'layer {{ name: "s{i}" type: "Scale" bottom: "c{i}" top: "c{i}" }}' if i < scaled else "")
        for i, each in enumerate(channels[1:])
    )
    return prepare(parse_prototxt(f'input: "x" input_shape {{ dim: [1, {channels[0]}, {side}, {side}] }} {layers}'))


def weights_of(spec: NetSpec) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        state_key((layer, at)): (random.standard_normal(shape) / 20).astype(np.float32)
        for layer, shapes in infer_blobs(spec).items() for at, shape in enumerate(shapes)
    }  # fmt: skip


@pytest.mark.parametrize(("channels", "features", "group"), [
    (6, 5, 1), (96, 40, 1), (97, 33, 1), (250, 130, 1), (320, 490, 1), (240, 60, 2),
])  # fmt: skip
def test_the_same_bits(channels: int, features: int, group: int) -> None:
    """Fewer and more channels than are evaluated at a time (96), by one thread, and by several that share tiles."""
    spec = chain(channels, features, side=11, group=group)
    flow, state = flow_of(spec), weights_of(spec)
    x = {"x": np.random.default_rng(1).standard_normal((1, channels, 11, 11)).astype(np.float32)}
    for threads in (1, 3):
        packed, lean, other = (
            Runner(flow, state, prefer=way).run(x, threads)["c0"]
            for way in ("winograd_3", "winograd_3_lean", "product")
        )
        assert packed.tobytes() == lean.tobytes() != other.tobytes()


@pytest.mark.parametrize(("channels", "features"), [(6, 5), (64, 130), (128, 200)])
@pytest.mark.parametrize("together", [2, 4, 5])
@pytest.mark.parametrize("threads", [1, 3])
def test_panels_that_a_point_s_tiles_are_multiplied_with_in_turn(
    channels: int, features: int, together: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Narrow and wide ones, the last of which is no whole panel: the same bits as one after the other."""
    spec = chain(channels, features, side=41)
    flow, state, found = flow_of(spec), weights_of(spec), []
    x = {"x": np.random.default_rng(1).standard_normal((1, channels, 41, 41)).astype(np.float32)}
    for count in (1, together):
        monkeypatch.setattr(division, "POINT_PANELS", {library().lanes(): count})
        runner = Runner(flow, state, prefer="winograd_3")
        (step,) = (
            task for each in runner.program({"x": (1, channels, 41, 41)}, threads).planned
            for task in each.tasks or () if task.kind == "winograd_3"
        )  # fmt: skip
        assert step.settings.stretch <= count
        found.append((step.settings.stretch, runner.run(x, threads)["c0"].tobytes()))
    assert found[0][1] == found[1][1] and (features < 100 or threads > 1 or found[1][0] > found[0][0])


def test_kernels_are_evaluated_as_many_at_a_time_as_sums_are_cut_into() -> None:
    """Else sums would be cut at other places, and bits differ."""
    assert FORMS["winograd_3_lean"] == replace(FORMS["winograd_3"], lean=True)
    assert FORMS["winograd_3_lean"].evaluated == 96 and 96 % SUMMED == 0


def test_what_is_spared() -> None:
    """Enough of the largest to come below the bound, and no more; of a net that is below it, nothing."""
    spec = chain(512, 512, 512, 512, 256, 256, side=28)
    flow = flow_of(spec)
    weights = 4 * sum(np.prod(shape) for blobs in infer_blobs(spec).values() for shape in blobs)
    most = sparing.OF_WEIGHTS * weights + sparing.OF_BLOBS * 4 * 2 * 512 * 28 * 28
    taken = {f"c{i}": 16 * 9 * a * b for i, (a, b) in enumerate([(512, 512)] * 3 + [(512, 256), (256, 256)])}
    found = sparing.spared(flow, spec.inputs)
    assert found == {("c0",), ("c1",), ("c2",)}
    now = sum(taken.values()) - sum(taken[name] * 3 / 4 for (name,) in found)
    assert now <= most < now + max(taken.values()) * 3 / 4
    assert sparing.spared(flow_of(chain(256, 256, 256, side=28)), {"x": (1, 256, 28, 28)}) == frozenset()
    assert sparing.spared(flow, {"x": (1, 512, 280, 280)}) == frozenset(), "beside large blobs they do not matter"
    assert sparing.spared(flow, {"x": (1, 512, 28)}) == frozenset(), "a size that the net does not take"


def test_weights_that_others_merge() -> None:
    """Engines keep those that a Scale is merged into once more; so may we, and less is spared."""
    found = [
        sparing.spared(flow_of(chain(512, 512, 512, 512, 256, 256, side=28, scaled=scaled)), {"x": (1, 512, 28, 28)})
        for scaled in (0, 5)
    ]
    assert found[1] == {("c0 (2)",), ("c1 (2)",)} and len(found[0]) == 3


def test_what_saves_nothing_is_not_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product, which has its weights once, however large; nor what is too small to be worth it."""
    spec = chain(*[512] * 7, side=28)
    product = prepare(
        parse_prototxt("""input: "c5" input_shape { dim: [1, 512, 28, 28] }
        layer { name: "p" type: "Pooling" bottom: "c5" top: "p" pooling_param { global_pooling: true pool: AVE } }
        layer { name: "fc" type: "InnerProduct" bottom: "p" top: "fc" inner_product_param { num_output: 20480 } }""")
    )
    flow = flow_of(replace(spec, layers=(*spec.layers, *product.layers[1:])))
    assert sparing.spared(flow, spec.inputs) == {("c0",), ("c1",), ("c2",)}
    monkeypatch.setattr(sparing, "SMALL_BYTES", 17 * 9 * 512 * 512)
    assert sparing.spared(flow, spec.inputs) == frozenset()


def test_layers_called_alike_are_spared_each_for_itself() -> None:
    """Two were counted as one, and both spared. `prepare` gives layers with weights names of their own."""
    spec = chain(512, 512, 512, 512, 256, 256, side=28)
    alike = replace(spec, layers=tuple(replace(each, name=each.name.replace("c1", "c2")) for each in spec.layers))
    assert sparing.spared(flow_of(alike), spec.inputs) == sparing.spared(flow_of(spec), spec.inputs)


def test_a_net_that_spares_gives_what_it_gave() -> None:
    """By the net's own size, at any size; and what is packed is as small as was counted."""
    spec = chain(512, 512, 512, 512, 512, side=28)
    flow, state = flow_of(spec), weights_of(spec)
    free, bound = Runner(flow, state), Runner(flow, state, own=spec.inputs)
    for side, threads in product((28, 20), (1, 2)):
        x = {"x": np.random.default_rng(side).standard_normal((1, 512, side, side)).astype(np.float32)}
        a, b = (runner.run(x, threads)["c3"] for runner in (free, bound))
        assert a.tobytes() == b.tobytes()
    assert len(sparing.spared(flow, spec.inputs)) == 3
    took = [sum(slot.value.kernels.nbytes for slot in each.weights._packed._slots.values()) for each in (free, bound)]
    assert took == [4 * 16 * 9 * 512 * 512, (16 + 3 * 4) * 9 * 512 * 512]


@pytest.mark.parametrize("name", ["VGG-SSD300", "OpenPose", "DeepLab-LargeFOV", "ResNet-50", "MobileNet v1", "HED"])
def test_famous_nets(name: str) -> None:
    """The first three took 1.1 to 1.4 times what onnxruntime does, the others less (docs/performance.md)."""
    spec = prepare(NETS[name]())
    assert bool(sparing.spared(flow_of(spec), spec.inputs)) == (name in ("VGG-SSD300", "OpenPose", "DeepLab-LargeFOV"))


def test_lean_ways_are_taken_for_memory_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolutions, "EVALUATING", 0)
    spec = chain(512, 512, 512, 512, 512, side=28)
    usual, low = (Runner(flow_of(spec), weights_of(spec), sparing=low).program(spec.inputs, 1) for low in (False, True))
    assert "as they are" not in " ".join(usual.explain()) and low.explain()[4].endswith("as they are")
