"""`verify`: at which sizes the shapes of a net are compared with Caffe's rules, and what that finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import nn

import fcn_port
from converters.execution import CaffeNet
from converters.export import write_caffe
from converters.formats import CaffeModel, parse_prototxt
from converters.passes import prepare
from fcn_port import opencv_pass
from fcn_port.cli import run
from fcn_port.exporting import export_net
from fcn_port.nets.net import as_net
from fcn_port.verification import _check_opencv, _check_shapes
from parity_tests.goldens import formats
from parity_tests.nets import with_random_weights
from parity_tests.small_files import small_v2


@pytest.mark.parametrize(("net", "sizes"), [("with fc", "8x8"), ("convolutions", "8x8, 101x133, 64x64")])
def test_shapes_are_compared_at_sizes_that_the_weights_take(
    net: str, sizes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    caffe, out = tmp_path / "net.caffemodel", tmp_path / "net.safetensors"
    message = small_v2()
    if net == "convolutions":
        del message.layer[-1]
    caffe.write_bytes(message.SerializeToString())
    assert run(["convert", str(caffe), "-o", str(out)]) == 0
    capsys.readouterr()
    assert run(["verify", str(out), "--against", str(caffe)]) == 0
    assert f"ok    shapes: {len(message.layer) - 1} blobs at {sizes}\n" in capsys.readouterr().out


def test_a_pooling_that_rounds_down_is_found_at_an_odd_size() -> None:
    net = fcn_port.build("voc-fcn32s")
    spec = net.spec
    assert _check_shapes(net, spec).ok
    assert isinstance(net.pool1, nn.MaxPool2d)
    net.pool1.ceil_mode = False
    check = _check_shapes(net, spec)
    assert not check.ok and check.details.startswith("pool1 at 101x133: (1, 64, 149, 165)")


def test_inputs_that_are_no_images_and_batches_keep_their_shapes() -> None:
    for shape, said in (((4, 7), "2 blobs at its size"), ((4, 7, 9, 9), "2 blobs at 9x9, 101x133, 64x64")):
        sizes = " ".join(f"dim: {size}" for size in shape)
        layer = "layer { name: 'out' type: 'Power' bottom: 'numbers' top: 'out' }"
        spec = prepare(parse_prototxt(f"input: 'numbers' input_shape {{ {sizes} }} {layer}"))
        check = _check_shapes(as_net(CaffeNet(spec)), spec)
        assert check.ok and check.details == said


def test_opencv_is_asked_for_a_blob_as_the_last_layer_leaves_it(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    text = """
    input: "data" input_shape { dim: 1 dim: 4 dim: 5 dim: 6 }
    layer { name: "cut" type: "Slice" bottom: "data" top: "cut" top: "rest" }
    layer { name: "times" type: "Power" bottom: "cut" top: "cut" power_param { scale: -2 } }
    layer { name: "relu" type: "ReLU" bottom: "cut" top: "cut" }
    """
    spec = prepare(parse_prototxt(text))
    net = CaffeNet(spec)
    assert spec.outputs == ("rest", "cut")
    check = _check_opencv(net, spec, CaffeModel(spec=spec, blobs={}))
    assert check.ok, check.details


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        ("kernel_h: 3 kernel_w: 3", "there are 0 spatial axes"),
        ("kernel_size: 3", "the weights' net has no vectors; by Caffe's rules (1, 2)"),  # over no axes, as in Caffe
    ],
)
def test_weights_of_another_net_are_a_check_that_failed(
    kernel: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And not a bad file, where that net does not take the Caffe file's inputs."""
    files = []
    for name, shape, layer in (
        ("images", "[1, 3, 8, 8]", f'type: "Convolution" convolution_param {{ num_output: 2 {kernel} }}'),
        ("vectors", "[1, 10]", 'type: "InnerProduct" inner_product_param { num_output: 2 }'),
    ):
        spec = parse_prototxt(
            f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: {shape} }} }} }}\n'
            f'layer {{ name: "{name}" bottom: "data" top: "{name}" {layer} }}'
        )
        files.append(tmp_path / f"{name}.caffemodel")
        write_caffe(spec, CaffeNet(spec).state_dict(), files[-1])
    images, vectors = files
    assert run(["convert", str(images), "-o", str(tmp_path / "net.safetensors")]) == 0
    capsys.readouterr()
    assert run(["verify", str(tmp_path / "net.safetensors"), "--against", str(vectors)]) == 1
    blobs, shapes = capsys.readouterr().out.splitlines()
    assert blobs.startswith("FAIL  blobs: images.bias is not in the Caffe file")
    assert shapes.startswith("FAIL  shapes:") and said in shapes


DRAWS = """
input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" dropout_param { sample_weights_test: true } }
"""


def test_a_net_that_draws_at_test_is_compared_where_its_draws_can_be_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bayesian SegNet: OpenCV was said to give other numbers, and exports to differ by all of the largest value."""
    net = with_random_weights(CaffeNet(parse_prototxt(DRAWS)))
    assert export_net(net, to="caffe", out=tmp_path / "net.caffemodel").error == 0
    assert export_net(net, to="python", out=tmp_path / "net.py").error == 0
    caffe = str(tmp_path / "net.caffemodel")
    assert run(["verify", caffe, "--against", caffe]) == 0
    assert "--    opencv: not compared: layer 'drop' (Dropout) draws numbers at test" in capsys.readouterr().out
    assert run(["publish", caffe, str(tmp_path / "published"), "--no-onnx"]) == 1
    assert "draws numbers at test, and nobody's net gives a recorded pass again" in capsys.readouterr().err


HEAD = """
input: "data" input_shape { dim: 1 dim: 3 dim: 9 dim: 9 }
layer { name: "a" type: "Convolution" bottom: "data" top: "a" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "b" type: "Convolution" bottom: "a" top: "b" convolution_param { num_output: 4 kernel_size: 1 } }
"""
TAILS = {
    "nothing": "",
    "one more": 'layer { name: "prob" type: "Softmax" bottom: "b" top: "prob" }',
    "two outputs": """
layer { name: "prob" type: "Softmax" bottom: "a" top: "prob" }
layer { name: "shifted" type: "Power" bottom: "b" top: "shifted" power_param { shift: 1 } }""",
    "an output of another name": 'layer { name: "prob" type: "Softmax" bottom: "b" top: "likelihood" }',
}


@pytest.mark.parametrize("written", TAILS)
@pytest.mark.parametrize("deploy", TAILS)
def test_weights_that_were_converted_with_another_net(
    written: str, deploy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As published: the file holds the net of training, the prototxt that of use. One ended in a KeyError, others were
    said to lack blobs, or to differ from OpenCV by all of the largest value, which was told another blob."""
    spec = parse_prototxt(HEAD + TAILS[written])
    write_caffe(spec, with_random_weights(CaffeNet(spec)).state_dict(), tmp_path / "net.caffemodel")
    (tmp_path / "net.prototxt").write_text(HEAD + TAILS[deploy])
    source, converted = str(tmp_path / "net.caffemodel"), str(tmp_path / "net.safetensors")
    assert run(["convert", source, "--prototxt", str(tmp_path / "net.prototxt"), "-o", converted]) == 0
    capsys.readouterr()
    assert run(["verify", converted, "--against", source]) == 0
    told = capsys.readouterr().out
    assert ("--    net: the weights' own; the Caffe file's is another (layer '" in told) is (written != deploy)
    assert "ok    opencv" in told


@pytest.mark.parametrize("written", TAILS)
def test_a_famous_net_is_verified_as_it_is_converted(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its name, with the definition that its authors published: nothing is left uncompared."""
    monkeypatch.setenv("FCN_PORT_WEIGHTS", str(tmp_path))
    spec = parse_prototxt(HEAD + TAILS[written])
    write_caffe(spec, with_random_weights(CaffeNet(spec)).state_dict(), tmp_path / "fcn-8s-cityscapes.caffemodel")
    for deploy in TAILS:
        (tmp_path / "fcn-8s-cityscapes.prototxt").write_text(HEAD + TAILS[deploy])
        (tmp_path / "fcn-8s-cityscapes.safetensors").unlink(missing_ok=True)
        assert run(["verify", "fcn-8s-cityscapes"]) == 0
        told = capsys.readouterr().out
        assert "--  " not in told and "ok    shapes" in told and "ok    opencv" in told
        assert run(["trace", "fcn-8s-cityscapes", "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)["blobs"]
        assert set(shown) == set(fcn_port.trace(fcn_port.load("fcn-8s-cityscapes"), (9, 9)))


def test_other_weights_of_a_longer_net_are_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All blobs of the Caffe file's net are there, and its outputs are none of theirs."""
    longer = 'layer { name: "last" type: "Softmax" bottom: "prob" top: "last" }'
    for name, tail in (("short", ""), ("long", longer)):
        net = with_random_weights(CaffeNet(parse_prototxt(HEAD + TAILS["two outputs"] + tail)))
        state = {key: value * (2 if name == "long" else 1) for key, value in net.state_dict().items()}
        write_caffe(net.spec, state, tmp_path / f"{name}.caffemodel")
    assert run(["verify", str(tmp_path / "long.caffemodel"), "--against", str(tmp_path / "short.caffemodel")]) == 1
    told = capsys.readouterr().out
    assert "FAIL  blobs" in told and "FAIL  opencv" in told and "--    net" not in told


AXIS = """
input: "data" input_shape { dim: [2, 2, 3, 17, 23] }
layer { name: "it" type: "Convolution" bottom: "data" top: "it"
  convolution_param { num_output: 2 bias_term: false kernel_size: 3 axis: 2 } }
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGFPE)", "it ended its process by SIGFPE"),
        ("raise MemoryError('no more')", "MemoryError: no more"),
    ],
)
def test_a_net_on_which_opencv_ends_is_not_checked(
    code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenCV 4.14 does now and then on a Convolution with `axis: 2`."""
    pytest.importorskip("cv2")
    net = CaffeNet(parse_prototxt(AXIS))
    check = _check_opencv(net, net.spec, CaffeModel(spec=net.spec, blobs={}))
    assert check.ok is None and check.details.startswith("not checked: OpenCV")
    (tmp_path / "worker.py").write_text(code)
    monkeypatch.setattr(opencv_pass, "WORKER", tmp_path / "worker.py")
    check = _check_opencv(net, net.spec, CaffeModel(spec=net.spec, blobs={}))
    assert check.ok is None and said in check.details


@pytest.mark.parametrize("given", [False, True])
def test_pth_files_are_checked_as_the_caffe_files_net(
    given: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = formats("v1-mini.caffemodel")
    assert run(["convert", str(source), "-o", str(tmp_path / "net.pth")]) == 0
    capsys.readouterr()
    more = ["--prototxt", str(formats("v1-mini.prototxt"))] if given else []
    assert run(["verify", str(tmp_path / "net.pth"), "--against", str(source), *more]) == 0
    found = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].split()[1] for line in found] == ["blobs", "shapes", "crops", "opencv"]
