"""The ONNX form of every layer type: each blob in onnxruntime beside CaffeNet, with sizes free and fixed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnxruntime
import pytest
import torch

from converters import CaffeNet, NetSpec, parse_prototxt, read_prototxt
from converters.errors import NetError
from converters.export import ExportError, OnnxOptions, build_onnx
from converters.layers import argmax_onnx, pooling_onnx
from converters.layers.concat import Slice
from converters.layers.convolution import Deconvolution
from converters.layers.crop import Crop
from converters.layers.lrn import LRN
from converters.layers.pooling import Pooling
from converters.net import Layer, LayerSpec, register_layer
from converters.net.layer import _types, all_layers
from converters.net.onnx_form import OnnxLayer
from converters.net.shapes import known_params
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
from parity_tests.goldens import GOLDEN
from parity_tests.tolerances import tolerance

FILES = {path.stem: path for path in sorted((GOLDEN / "layers").glob("*.prototxt"))}
QUADRATIC = {"Yolo"}
"""Examples whose boxes are all compared with each other, so that they are tried at small sizes."""

FIXED = {"ImResize", "Recurrent", "Warping", "ForksFixed", "ICNetSubgraph"}
"""Examples whose forms need known sizes: the steps of a sequence are put down one by one, resizing has matrices."""


def worst(name: str, *, more: int, **options: object) -> float:
    """The largest difference of any blob of an example of golden/layers."""
    net = with_drawn_weights(example(name))
    found = onnx_of(net, **options)
    inputs = inputs_for(net.spec, shapes_at(found, more))
    return worst_blob(blobs_in_onnxruntime(found, inputs), blobs_of(net, inputs))[0]


REFUSED = {
    "ROIWarping": "reads as many points in a bin as a region has pixels there",
    "Python:ClusterDetections": "groups boxes as OpenCV's groupRectangles does",
    "MultiStageMeanfield": "looks up the vertices of a permutohedral lattice",
    "DenseCRF": "looks up the vertices of a permutohedral lattice",
    "Nms": "counts peaks from the first row to the last",
}
"""Types that ONNX has no operators for, with the reasons that their forms give."""

SETTINGS = {"DetectionOutput": ("detectionoutput1",), "Python": ("python5",)}
"""Layers of examples with settings that their forms refuse, with the reason."""


def example(name: str) -> NetSpec:
    spec = prepare(read_prototxt(FILES[name]))
    return spec.replace_layers(tuple(layer for layer in spec.layers if layer.name not in SETTINGS.get(name, ())))


def kind_of(layer: LayerSpec) -> str:
    """The name by which a layer's type is registered."""
    return f"Python:{layer.message.python_param.layer}" if layer.type == "Python" else layer.type


def files_with_forms() -> list[str]:
    """The examples all of whose layers have forms of their own, and a blob to compare."""
    found = []
    for name, path in FILES.items():
        spec = prepare(read_prototxt(path))
        params = [known_params(layer) for layer in spec.layers if layer.type != "Input"]
        forms = all(type(each).to_onnx is not Layer.to_onnx for each in params)
        refused = {kind_of(layer) for layer in example(name).layers} & set(REFUSED)
        if forms and not refused and any(layer.tops for layer in spec.layers if layer.type != "Input"):
            found.append(name)
    return found


def test_every_type_has_a_form_that_is_run_here_or_says_why_not() -> None:
    """Those that are run are the examples of `files_with_forms`; of names for one class any will do.

    Silence makes nothing that could be compared.
    """
    run = {kind_of(layer) for name in files_with_forms() for layer in example(name).layers}
    classes = {all_layers()[kind] for kind in run if kind in all_layers()}
    classes |= {type(known_params(layer)) for name in files_with_forms() for layer in example(name).layers}
    ours = {kind: made for kind, made in all_layers().items() if made.__module__.startswith("converters.")}
    assert [
        kind for kind, made in ours.items() if kind not in {"Python", "Silence", *REFUSED} and made not in classes
    ] == []
    assert not set(REFUSED) & run


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_form_is_refused_with_layer_type_reason_and_what_to_do(kind: str) -> None:
    spec = next(
        spec.replace_layers(tuple(each for each in spec.layers if each.type == "Input" or kind_of(each) == kind))
        for spec in map(prepare, map(read_prototxt, FILES.values()))
        if kind in map(kind_of, spec.layers)
    )
    (layer,) = (each for each in spec.layers if kind_of(each) == kind)
    with pytest.raises(ExportError) as told:
        onnx_of(with_drawn_weights(spec))
    first, *rest = str(told.value).splitlines()
    assert f"layer '{layer.name}' ({layer.type}" in first and REFUSED[kind] in first
    assert "to_onnx" not in str(told.value) and rest and "--outputs" in rest[0]


@pytest.mark.parametrize("name", [name for name in files_with_forms() if name not in FIXED])
def test_a_form_is_caffes_at_every_size(name: str) -> None:
    """Free sizes: at the example's own, and at others along every free axis, odd ones among them."""
    tried = 0
    for more in (0, 2, 4) if name in QUADRATIC else (0, 3, 14, 11, 32):
        try:
            assert worst(name, more=more) <= tolerance("onnx-forms"), more
        except NetError:  # a size that the net does not take
            assert more
            continue
        tried += 1
        if tried == 3:
            break
    assert tried > 1


@pytest.mark.parametrize("name", files_with_forms())
def test_fixed_sizes_leave_constants_and_plain_nodes(name: str) -> None:
    net = with_drawn_weights(example(name))
    images = {shape[2:] for shape in net.inputs.values() if len(shape) == 4}
    first = next(iter(net.inputs.values()), ())
    options = OnnxOptions(size=images.pop() if len(images) == 1 else None, batch=first[0] if first else None)
    found = build_onnx(net.spec, {key: value.numpy() for key, value in net.state_dict().items()}, options)
    open_sizes = any(known_params(layer).open_sizes() for layer in net.spec.layers)
    if not found.sizes.free and not open_sizes:
        assert "Shape" not in {node.op_type for node in found.graph.nodes}
    inputs = inputs_for(net.spec, found.own_shapes)
    assert worst_blob(blobs_in_onnxruntime(found, inputs), blobs_of(net, inputs))[0] <= tolerance("onnx-forms")


@pytest.mark.parametrize("opset", [13, 18, 21])
@pytest.mark.parametrize("name", ["BN", "LRN", "Reduction", "Normalize", "ArgMax", "Slice", "SPP", "Pooling", "Crop"])
def test_forms_follow_the_opset(name: str, opset: int) -> None:
    """Where axes stand in a node changed with opset 13 and 18."""
    if opset > 18 and name in ("LRN", "Pooling") and tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 25):
        pytest.skip("ONNX Runtime before 1.25 divides padded averages of opset 19 by other numbers")
    assert worst(name, more=3, opset=opset) <= tolerance("onnx-forms")


def test_types_without_a_form_are_refused_by_name() -> None:
    class Strange(Layer):
        bottom_count = top_count = (1, 1)

        def top_shapes(self, bottoms):  # type: ignore[no-untyped-def]
            return tuple(bottoms)

    register_layer("Strange")(Strange)
    try:
        spec = parse_prototxt(
            'input: "data" input_shape { dim: 1 dim: 2 } layer { name: "odd" type: "Strange" bottom: "data" top: "x" }'
        )
        with pytest.raises(ExportError, match=r"layer 'odd' \(Strange, line 1\): Strange has no ONNX form"):
            build_onnx(prepare(spec), {})
    finally:
        del _types["Strange"]


def test_a_type_from_outside_gives_its_own_form() -> None:
    """The example in converters/net/layer.py, to the letter of what it may ask for."""

    class Doubled(Layer):
        bottom_count = top_count = (1, 1)

        def top_shapes(self, bottoms):  # type: ignore[no-untyped-def]
            return (bottoms[0],)

        def forward(self, bottoms, blobs, *, training=False):  # type: ignore[no-untyped-def]
            return (bottoms[0] * (2 * bottoms[0]).sigmoid(),)

        def to_onnx(self, out: OnnxLayer) -> None:
            x = out.bottoms[0]
            scaled = out.node("Mul", [x, out.constant("beta", np.float32(2))], part="scaled")
            out.top("Mul", [x, out.node("Sigmoid", [scaled], part="gate")])

    register_layer("Doubled")(Doubled)
    try:
        text = 'input: "data" input_shape { dim: 1 dim: 2 } layer { name: "d" type: "Doubled" bottom: "data" top: "x" }'
        net = CaffeNet(parse_prototxt(text))
        model = onnx_of(net)
        assert {node.name for node in model.graph.nodes} == {"d", "d/scaled", "d/gate"}
        inputs = inputs_for(net.spec, net.inputs)
        assert worst_blob(blobs_in_onnxruntime(model, inputs), blobs_of(net, inputs))[0] <= tolerance("onnx-forms")
    finally:
        del _types["Doubled"]


def test_opencv_is_refused_what_only_a_run_sizes() -> None:
    with pytest.raises(ExportError, match=r"Filter.*OpenCV has no operator whose number of items only a run tells"):
        worst("Filter", more=0, target="opencv5")


def test_a_form_that_makes_no_top_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Crop, "to_onnx", lambda self, out: None)
    with pytest.raises(ExportError, match="its ONNX form makes no crop0"):
        worst("Crop", more=0)


POOLINGS = (
    "kernel_size: 2 stride: 4", "kernel_size: 2 stride: 5 pad: 1", "kernel_size: 3 stride: 2",
    "kernel_size: 1 stride: 3",
    "kernel_size: 3 stride: 2 pad: 2", "kernel_size: 5 stride: 3 pad: 4",
    "kernel_h: 2 kernel_w: 3 stride_h: 3 stride_w: 1",
    "kernel_size: 1 stride: 4", "kernel_h: 1 kernel_w: 3 stride: 5", "kernel_h: 3 kernel_w: 1 stride_h: 4 stride_w: 6",
    "kernel_size: 3 stride: 2 round_mode: FLOOR", "kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR",
)  # fmt: skip


def worst_pooling(settings: str, *, sizes: tuple[tuple[int, int], ...] = ((7, 9), (8, 11), (10, 6))) -> float:
    """The largest difference of MAX with its places, AVE and STOCHASTIC pooling of numbers below 0."""
    kinds = {"MAX": 'top: "max" top: "mask"', "AVE": 'top: "ave"'}
    kinds |= {} if "pad" in settings else {"STOCHASTIC": 'top: "random"'}
    text = 'input: "data" input_shape { dim: 1 dim: 3 dim: 7 dim: 9 }'
    for kind, tops in kinds.items():
        param = f"pooling_param {{ pool: {kind} {settings} }}"
        text += f' layer {{ name: "{kind}" type: "Pooling" bottom: "data" {tops} {param} }}'
    net = CaffeNet(parse_prototxt(text))
    model = onnx_of(net)
    found = 0.0
    for size in sizes:
        inputs = {"data": -1 - inputs_for(net.spec, {"data": (2, 3, *size)})["data"].abs()}
        fixed = onnx_of(net, size=size, batch=2)
        for each in (model, fixed):
            found = max(found, worst_blob(blobs_in_onnxruntime(each, inputs), blobs_of(net, inputs))[0])
    return found


@pytest.mark.parametrize("settings", POOLINGS)
def test_poolings_at_their_corners(settings: str) -> None:
    """Strides beyond the kernel leave windows with nothing in them, which Caffe keeps where there is no padding."""
    assert worst_pooling(settings) <= tolerance("onnx-forms")


SCALARS = {
    "a blob": "num_axes: 0",
    "a blob, an axis beyond": "num_axes: 0 axis: 7",
    "a bottom": "",
    "a bottom, an axis beyond": "axis: 7",
}


@pytest.mark.parametrize("shape", [(2, 4, 5, 7), (3,), ()])
@pytest.mark.parametrize("kind", ["Scale", "Bias"])
@pytest.mark.parametrize("of", SCALARS)
def test_one_number_for_all_asks_for_no_axis(of: str, kind: str, shape: tuple[int, ...]) -> None:
    dims = " ".join(f"dim: {size}" for size in shape)
    text = f'input: "data" input_shape {{ {dims} }} '
    if of.startswith("a bottom"):
        text += 'input: "s" input_shape { } '
    bottoms = 'bottom: "data"' + ' bottom: "s"' * of.startswith("a bottom")
    text += f'layer {{ name: "x" type: "{kind}" {bottoms} top: "x" {kind.lower()}_param {{ {SCALARS[of]} }} }}'
    net = with_drawn_weights(prepare(parse_prototxt(text)))
    inputs = inputs_for(net.spec, net.inputs)
    expected = blobs_of(net, inputs)
    assert worst_blob(blobs_in_onnxruntime(onnx_of(net), inputs), expected)[0] <= tolerance("onnx-forms")
    made = made_from(net.spec)
    made.load_state_dict(net.state_dict())
    assert_same(outputs(made, inputs), outputs(net, inputs))


@pytest.mark.parametrize("name", ["DenseBlock", "InnerProduct"])
def test_constants_that_a_form_works_out_are_of_the_rounded_weights(name: str) -> None:
    """With 16 bits: the file's judge has the rounded ones, and so have the forms that hold the weights themselves."""
    net = with_drawn_weights(example(name))
    found = onnx_of(net, fp16=True)
    inputs = inputs_for(net.spec, shapes_at(found, 2))
    with torch.no_grad():
        for blob in net.parameters():
            if blob.ndim > 1:
                blob.copy_(blob.half().float())
    assert worst_blob(blobs_in_onnxruntime(found, inputs), blobs_of(net, inputs))[0] <= tolerance("onnx-forms")


BOMBS = {
    "im2col": 'type: "Im2col" convolution_param { kernel_size: 400 }',
    "pyramid": 'type: "SPP" spp_param { pool: MAX pyramid_height: 8 }',
}


@pytest.mark.parametrize("name", BOMBS)
def test_forms_that_would_fill_the_memory_are_refused(name: str) -> None:
    text = 'input: "data" input_shape { dim: 1 dim: 3 dim: 512 dim: 512 }'
    spec = prepare(parse_prototxt(f'{text} layer {{ name: "x" bottom: "data" top: "x" {BOMBS[name]} }}'))
    with pytest.raises(ExportError, match=r"would take a constant|over a free size"):
        build_onnx(spec, {})


# Wrong variants


def no_longer_padding(self: Pooling) -> tuple[int, int]:
    return self.pad


def first_of_equals(self: argmax_onnx._Largest) -> str:
    number = self.out.node("ArgMax", [self.x], part="place", axis=self.axis, keepdims=1)
    return self.out.node("Cast", [number], part="places", to=1)


def whole_alpha(self: LRN, out: OnnxLayer) -> None:
    out.top("LRN", out.bottoms, size=self.local_size, alpha=self.alpha * self.local_size, beta=self.beta, bias=self.k)


def from_the_start(self: Crop, out: OnnxLayer) -> None:
    x, reference = out.bottoms
    axes = [axis for axis, _ in self._offsets(x.shape)]
    out.slice(x, axes, [0] * len(axes), out.size(reference, axes))


def equal_parts(self: Slice, out: OnnxLayer) -> None:
    Slice(self.axis, (), self.parts).to_onnx(out)


WRONG: dict[str, tuple[str, object, str, object]] = {
    "pooling rounds down": ("Pooling", Pooling, "beyond", property(no_longer_padding)),
    "averages count everything": ("Pooling", pooling_onnx, "_ends", lambda layer, size: (0, 0)),
    "the first of equal values": ("ArgMax", argmax_onnx._Largest, "places", first_of_equals),
    "alpha of the sum": ("LRN", LRN, "to_onnx", whole_alpha),
    "crops begin at the start": ("Crop", Crop, "to_onnx", from_the_start),
    "slices of one size": ("Slice", Slice, "to_onnx", equal_parts),
    "no transposed windows": ("Deconvolution", Deconvolution, "onnx_operator", "Conv"),
}


@pytest.mark.parametrize("variant", WRONG)
def test_wrong_variants_are_caught(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, owner, attribute, wrong = WRONG[variant]
    monkeypatch.setattr(owner, attribute, wrong)
    assert not _is_right(partial(worst, name, more=3))


def test_zero_for_windows_with_nothing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling_onnx, "LOWEST", 0.0)
    assert not _is_right(partial(worst_pooling, POOLINGS[0]))


def _is_right(check: Callable[[], float]) -> bool:
    try:
        found = check()
    except Exception:  # such as another shape, or a model that does not load
        return False
    return bool(found <= tolerance("onnx-forms")) and np.isfinite(found)
