"""Every engine gives the net's numbers, at every size, and refuses to give others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from torch import Tensor, nn

import fcn_port
from fcn_port.cli import run
from fcn_port.fastpath import engines
from fcn_port.fastpath.engines import EngineError, artefacts, onnx_graph
from fcn_port.fastpath.engines.onnx_graph import early_model, late_model
from fcn_port.fastpath.engines.split import SplitEngine
from fcn_port.fastpath.graph import weights_of
from fcn_port.fastpath.known_engines import EXTRAS
from fcn_port.fastpath.lossless import Lossless
from fcn_port.nets import FCN, FCN8s, FCN8sAtOnce, FCN32sColorDepth, FCN32sColorHHA, FCNAlexNet, SiftFlowFCN8s
from parity_tests.narrow import image, named, narrow, same

FAMILY = [FCN8s, FCN8sAtOnce, SiftFlowFCN8s, FCN32sColorDepth, FCN32sColorHHA, FCNAlexNet]
_made: dict[tuple[str, type[FCN]], torch.nn.Module] = {}


def engine_of(name: str, make: type[FCN]) -> torch.nn.Module:
    if (name, make) not in _made:
        _made[name, make] = engines.make(name, narrow(make))
    return _made[name, make]


def agrees(engine: torch.nn.Module, net: FCN, inputs: dict[str, Tensor]) -> bool:
    found, expected = named(engine(**inputs)), named(net(**inputs))
    return found.keys() == expected.keys() and all(
        same(found[name], expected[name], claim="engines") for name in expected
    )


@pytest.mark.parametrize("name", EXTRAS)
@settings(max_examples=15)
@given(size=st.tuples(st.integers(1, 300), st.integers(1, 300)), batch=st.integers(1, 2))
def test_any_size_and_batch_without_building_again(name: str, size: tuple[int, int], batch: int) -> None:
    net = narrow(FCN8s)
    assert agrees(engine_of(name, FCN8s), net, image(net, size, batch=batch))


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_other_weights_and_layers(name: str) -> None:
    """It went on with the first ones, and said at a new size that the engine was wrong."""
    net = narrow(FCN8s)
    engine, x = engines.make(name, net), image(net, (75, 122))
    assert agrees(engine, net, x)
    net.conv1_2.weight.mul_(0.5)
    assert agrees(engine, net, x) and agrees(engine, net, image(net, (40, 200)))
    torch.manual_seed(0)
    net.conv2_1 = nn.Conv2d(4, 4, 5, padding=2).requires_grad_(False)
    assert agrees(engine, net, x)


CHANGES = {
    "a convolution with holes": ("conv1_2", lambda: nn.Conv2d(4, 4, 3, padding=2, dilation=2)),
    "a deconvolution with a pad": ("upscore2", lambda: nn.ConvTranspose2d(3, 3, 4, stride=2, padding=1)),
    "a deconvolution with holes": ("upscore2", lambda: nn.ConvTranspose2d(3, 3, 4, stride=2, dilation=2)),
    "a deconvolution in groups": ("upscore2", lambda: nn.ConvTranspose2d(3, 3, 4, stride=2, groups=3)),
    "a pooling with a pad": ("pool5", lambda: nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", EXTRAS)
def test_changed_layers(name: str, change: str) -> None:
    """Pads behind the front, holes and groups were passed over, and the engine said that it was wrong."""
    torch.manual_seed(0)
    net = narrow(FCN8s)
    layer, make = CHANGES[change]
    setattr(net, layer, make().requires_grad_(False))
    engine = engines.make(name, net)
    for size in ((64, 64), (129, 65)):
        assert agrees(engine, net, image(net, size))


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_scores_that_are_all_zero_or_none(value: float) -> None:
    """As before training: no score is off, though there is none to measure by."""
    net = narrow(FCN8s)
    for blob in net.parameters():
        blob.mul_(value)
    engine = engines.make("onnxruntime", net)
    np.testing.assert_array_equal(engine(**image(net, (40, 50))), net(**image(net, (40, 50))))


@pytest.mark.parametrize("make", FAMILY)
@pytest.mark.parametrize("name", EXTRAS)
def test_every_net_of_the_family(name: str, make: type[FCN]) -> None:
    net = narrow(make)
    for size in ((100, 100), (75, 122)):
        assert agrees(engine_of(name, make), net, image(net, size))


@pytest.mark.parametrize("make", [FCN8s, FCNAlexNet])
def test_what_torch_compiles(make: type[FCN], monkeypatch: pytest.MonkeyPatch) -> None:
    """What `compile` hands over, as torch.compile reads it; its compiler takes a minute, and benchmarks have it."""
    handed_over = []
    compile = torch.compile

    def read(module: nn.Module, *, dynamic: bool) -> object:
        handed_over.append(module)
        return compile(module, backend="eager", dynamic=dynamic)

    monkeypatch.setattr(torch, "compile", read)
    net = narrow(make)
    engine = engines.make("compile", net)
    assert len(handed_over) == 2
    for size in ((64, 80), (33, 101)):
        assert agrees(engine, net, image(net, size))


def test_no_pooling_is_padded() -> None:
    """onnxruntime makes one of a Pad with zeros and the MaxPool after it, whose padding is minus infinity."""
    for make in (FCN8s, FCNAlexNet):
        lossless = Lossless(narrow(make))
        plan = lossless.plan((128, 128), margins_computed=True)
        background = lossless.state().backgrounds.of(plan, torch.zeros(0))
        weights = {step.top: weights_of(lossless.net.state_dict(), step) for step in lossless.graph.steps}
        for model in (early_model(plan, background, weights), late_model(plan, lossless.graph, weights)):
            kinds = [node.op_type for node in model.graph.nodes]
            assert "MaxPool" in kinds and "Pad" not in kinds
            for node in model.graph.nodes:
                pads = next((each.ints for each in node.attribute if each.name == "pads"), [])
                assert node.op_type != "MaxPool" or not any(pads)


def test_the_comparison_sees_zeros_that_became_minus_infinity() -> None:
    """The accident itself, on a small model: as written, and as it would be after the optimiser's mistake."""
    x = -np.ones((1, 1, 3, 3), np.float32)
    pooled = {}
    for name, nodes in {
        "written": [
            helper.make_node("Pad", ["x", "pads"], ["padded"]),
            helper.make_node("MaxPool", ["padded"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
        ],
        "mistaken": [helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 0, 0])],
    }.items():
        value = {each: helper.make_tensor_value_info(each, onnx.TensorProto.FLOAT, None) for each in ("x", "y")}
        pads = onnx.numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 0, 0]), "pads")
        graph = helper.make_graph(nodes, "accident", [value["x"]], [value["y"]], [pads])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        pooled[name] = torch.from_numpy(session.run(None, {"x": x})[0])
    assert pooled["written"].flatten().tolist() == [0, 0, 0, -1]
    assert pooled["mistaken"].flatten().tolist() == [-1, -1, -1, -1]


def test_wrong_numbers_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(artefacts, "cache_folder", lambda: tmp_path)  # the wrong model must not stay
    right = onnx_graph._convolution_weights

    def without_constants(model, step, blobs, constant):
        return right(model, step, blobs, None)

    monkeypatch.setattr(onnx_graph, "_convolution_weights", without_constants)
    net = narrow(FCN8s)
    engine = engines.make("onnxruntime", net)
    with pytest.raises(EngineError, match=r"score at 60x70 differs from PyTorch by .* of its largest score"):
        engine(**image(net, (60, 70)))


def test_what_cannot_be_run_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no engine 'tensorrt'"):
        engines.make("tensorrt", narrow(FCN8s))
    with pytest.raises(EngineError, match="float32 on the CPU"):
        engine_of("onnxruntime", FCN8s)(torch.zeros(1, 3, 8, 8, dtype=torch.float64))
    with pytest.raises(EngineError, match="a Conv2d"):
        engines.make("openvino", torch.nn.Conv2d(3, 1, 1))
    with pytest.raises(EngineError, match=r"float32 on the CPU, not torch.float64"):
        engines.make("openvino", narrow(FCN8s).double())
    net = narrow(FCNAlexNet)
    net.norm1.alpha = 0.0
    with pytest.raises(EngineError, match=r"onnxruntime does not take this net; use --engine torch .*alpha"):
        engines.make("onnxruntime", net)
    monkeypatch.setattr(engines, "find_spec", lambda module: None)
    with pytest.raises(EngineError, match=r"pip install 'fcn-port\[openvino\]'"):
        engines.make("openvino", narrow(FCN8s))


def test_an_engine_carries_what_its_net_carries() -> None:
    net = fcn_port.load("weights/sample/shapes-fcn8s.caffemodel")
    engine = engines.make("onnxruntime", net)
    assert isinstance(engine, SplitEngine) and engine.preprocessing is net.preprocessing
    picture = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    assert (fcn_port.segment(engine, picture).labels == fcn_port.segment(net, picture).labels).all()


@pytest.mark.parametrize(
    "options",
    [["--low-memory"], ["--engine", "onnxruntime"], ["--engine", "direct"], ["--engine", "native"]],
    ids=" ".join,
)
def test_predict_from_the_command_line(options: list[str], tmp_path: Path) -> None:
    written = {}
    for name, chosen in {"padded": ["--padded"], "chosen": options}.items():
        out = tmp_path / name
        assert (
            run(
                [
                    "predict",
                    "weights/sample/shapes-fcn8s.caffemodel",
                    "weights/sample/shapes.png",
                    "-o",
                    str(out),
                    *chosen,
                ]
            )
            == 0
        )
        written[name] = next(out.glob("*.labels.png")).read_bytes()
    assert written["chosen"] == written["padded"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--low-memory", "--engine", "openvino"], "--low-memory cannot be had with --engine openvino"),
        (["--precision", "bf16", "--engine", "compile"], "--precision bf16 cannot be had with --engine compile"),
        (["--precision", "bf16", "--padded"], "--precision bf16 cannot be had with --padded"),
        (["--padded", "--engine", "torch"], "takes no --engine"),
    ],
)
def test_what_does_not_go_together_is_said(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = ["weights/sample/shapes-fcn8s.caffemodel", "weights/sample/shapes.png"]
    assert run(["predict", *sample, *options]) == 2
    assert message in capsys.readouterr().err
