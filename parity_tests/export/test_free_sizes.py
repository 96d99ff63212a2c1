"""Free sizes of ONNX models: what is free by itself and beside the others, of nets of which few sizes do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from converters import CaffeNet, parse_prototxt
from converters.errors import NetError
from converters.export import OnnxOptions, build_onnx
from fcn_port.exporting import with_random_weights
from parity_tests.export.onnx_models import arrays_of, blobs_in_onnxruntime, blobs_of, serialized, session_of

Dims = tuple["int | str | None", ...]

HALVES = """
input: "a" input_shape { dim: 1 dim: 4 dim: 32 dim: 64 }
layer { name: "it" type: "Reshape" bottom: "a" top: "it" reshape_param { shape { DIMS } } }
"""
SIX = """
input: "a" input_shape { dim: 1 dim: 1 dim: 6 dim: 6 }
layer { name: "it" type: "Reshape" bottom: "a" top: "it" reshape_param { shape { dim: 0 dim: 0 dim: 6 dim: -1 } } }
"""
CASES: Mapping[str, tuple[str, Mapping[str, Dims], Mapping[str, tuple[int, ...]]]] = {
    "two sizes may not both be odd": (
        HALVES.replace("DIMS", "dim: 0 dim: 0 dim: 2 dim: -1"),
        {"a": ("batch", 4, "height", "width")},
        {"a": (3, 4, 33, 50)},
    ),
    "a number in the middle": (
        HALVES.replace("DIMS", "dim: 0 dim: 2 dim: -1 dim: 16"),
        {"a": ("batch", 4, "height", "width")},
        {"a": (2, 4, 11, 48)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_free_is_computed_as_the_module_does(case: str, tmp_path: Path) -> None:
    text, free, shapes = CASES[case]
    net = with_random_weights(CaffeNet(parse_prototxt(text)).eval())
    model = build_onnx(net.spec, arrays_of(net))
    assert {end.name: end.dims for end in model.inputs} == free
    with (tmp_path / "net.onnx").open("wb") as file:
        model.write(file)
    rng = np.random.default_rng(5)
    given = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    (found,) = onnxruntime.InferenceSession(str(tmp_path / "net.onnx")).run(["it"], given)
    expected = net(*(torch.from_numpy(x) for x in given.values())).numpy()
    np.testing.assert_array_equal(found, expected)


def test_a_size_that_does_not_go_with_the_others_is_left_out() -> None:
    """6 times any size is a multiple of 6; 109x109 and 109x38, with the sizes that did alone, are none."""
    net = CaffeNet(parse_prototxt(SIX))
    (end,) = build_onnx(net.spec, {}).inputs
    assert end.dims == ("batch", 1, "height", 6)


@pytest.mark.parametrize("wire", ["Split", "Slice", "Concat"])
def test_the_copies_of_a_wire_follow_without_a_shape(wire: str) -> None:
    """A layer in place changes every name of its blob; OpenCV's classic engine takes no Shape of a free size."""
    other, second = ("u", 'top: "u"') if wire == "Split" else ("t", "")
    text = f"""
        input: "a" input_shape {{ dim: 1 dim: 2 dim: 9 dim: 8 }}
        layer {{ name: "t" type: "AbsVal" bottom: "a" top: "t" }}
        layer {{ name: "wire" type: "{wire}" bottom: "t" top: "s" {second} }}
        layer {{ name: "relu" type: "Power" bottom: "s" top: "s" power_param {{ shift: 1 }} }}
        layer {{ name: "it" type: "Eltwise" bottom: "s" bottom: "{other}" top: "it" }}"""
    net = CaffeNet(parse_prototxt(text))
    model = build_onnx(net.spec, {})
    assert model.inputs[0].dims == ("batch", 2, "height", "width")
    assert not {node.op_type for node in model.graph.nodes} & {"Shape", "Reshape"}
    x = torch.randn(3, 2, 5, 7)
    (expected, found) = (blobs_of(net, {"a": x})["it"], blobs_in_onnxruntime(model, {"a": x})["it"])
    np.testing.assert_array_equal(found, expected)


BEYOND = {
    "a crop of what is not there": """
        input: "b" input_shape { dim: 1 dim: 2 dim: 9 dim: 9 }
        layer { name: "it" type: "Crop" bottom: "a" bottom: "b" top: "it" crop_param { axis: 2 offset: 4 } }""",
    "halves of an odd height": """
        layer { name: "it" type: "Slice" bottom: "a" top: "u" top: "it" slice_param { axis: 2 } }""",
    "a part that is longer": """
        layer { name: "it" type: "Slice" bottom: "a" top: "it" top: "u" slice_param { axis: 3 slice_point: 9 } }""",
}


@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize("case", BEYOND)
def test_what_ends_caffe_gives_no_smaller_blob(case: str, opset: int, tmp_path: Path) -> None:
    """A slice beyond a blob ends where the blob does, and the file went on with shapes that Caffe has for none."""
    net = CaffeNet(parse_prototxt('input: "a" input_shape { dim: 1 dim: 2 dim: 20 dim: 24 }' + BEYOND[case]))
    model = build_onnx(net.spec, {}, OnnxOptions(outputs=("it",), opset=opset))
    with (tmp_path / "net.onnx").open("wb") as file:
        model.write(file)
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    shapes = {end.name: end.dims for end in model.inputs}
    assert shapes["a"] == ("batch", 2, "height", "width")

    def given(height: int, width: int) -> dict[str, torch.Tensor]:
        sizes = {"a": (3, 2, height, width), "b": (3, 2, 9, 9)}
        return {name: torch.randn(sizes[name]) for name in shapes}

    fits = given(30, 18)
    (found,) = session.run(["it"], {name: x.numpy() for name, x in fits.items()})
    np.testing.assert_array_equal(found, blobs_of(net, fits)["it"])
    beyond = given(11, 7)
    with pytest.raises(NetError):
        net(*beyond.values())
    with pytest.raises(Exception, match=r"Reshape|[Ss]plit"):
        session.run(["it"], {name: x.numpy() for name, x in beyond.items()})


LONGER = {
    "Convolution": "convolution_param { num_output: 3 kernel_size: 5 stride: 3 }",
    "Im2col": "convolution_param { kernel_size: 5 stride: 3 }",
}


@pytest.mark.parametrize("kind", LONGER)
def test_a_kernel_longer_than_a_free_size_ends_the_run(kind: str) -> None:
    """Caffe reads zeros behind the blob, by less than a stride; no number is made of it, and a fixed size has them."""
    layer = f'layer {{ name: "it" type: "{kind}" bottom: "a" top: "it" {LONGER[kind]} }}'
    net = CaffeNet(parse_prototxt('input: "a" input_shape { dim: 1 dim: 2 dim: 40 dim: 40 }' + layer))
    net = with_random_weights(net.eval())
    free = session_of(serialized(build_onnx(net.spec, arrays_of(net))))
    for size in ((3, 20), (20, 4), (5, 5)):
        x = torch.randn(1, 2, *size)
        expected = net(x).detach().numpy()
        if min(size) < 5:
            with pytest.raises(Exception, match="Invalid input shape"):
                free.run(["it"], {"a": x.numpy()})
        else:
            np.testing.assert_allclose(free.run(["it"], {"a": x.numpy()})[0], expected, rtol=1e-4, atol=1e-5)
        fixed = blobs_in_onnxruntime(build_onnx(net.spec, arrays_of(net), OnnxOptions(size=size, batch=1)), {"a": x})
        np.testing.assert_allclose(fixed["it"], expected, rtol=1e-4, atol=1e-5)
