"""FCNs from before and beside the release: CVPR's gists, grouped deconvolutions, and torchfcn's state dicts.

Each is made from a narrow hand-written net and the same weights, which is then the oracle.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fcn_port
from converters import CaffeNet, convert, parse_prototxt, write_caffemodel
from converters.execution.state_dict import from_state_dict
from converters.formats.prototxt import format_prototxt
from converters.layers.bilinear import bilinear_weight
from converters.net.spec import NetSpec
from converters.passes.auto_crop import auto_crop
from fcn_port.inspection import input_shapes
from fcn_port.nets import FCN8s, FCN8sAtOnce
from fcn_port.nets.record import to_spec
from parity_tests.goldens import compare
from parity_tests.nets import narrow_net, random_inputs, with_random_weights
from parity_tests.tolerances import tolerance

RENAMED = {
    "score_fr": "score-fr",
    "upscore2": "score2",
    "score_pool4": "score-pool4",
    "upscore_pool4": "score4",
    "score_pool3": "score-pool3",
    "upscore8": "upsample",
}
"""What the layers of FCN-8s were called in 2015; the crops were called crop and the sums fuse, both of them."""


def gist(net: FCN8s) -> str:
    """FCN-8s as the gist of 2015 defines it: V1 layers, a Crop that gives no offset, a `score2` with a bias."""
    text = "name: 'FCN' input: 'data' input_dim: 1 input_dim: 3 input_dim: 75 input_dim: 122\n"
    blob = "data"
    for name, module in net.named_children():
        if name == "score_fr":
            break
        text += f"layers {{ name: '{name}' bottom: '{blob}' "
        if isinstance(module, nn.Conv2d):
            size, pad = module.kernel_size[0], module.padding[0]
            param = f"engine: CAFFE num_output: {module.out_channels} kernel_size: {size} pad: {pad}"
            text += f"top: '{name}' type: CONVOLUTION blobs_lr: 1 blobs_lr: 2 convolution_param {{ {param} }} }}\n"
        elif isinstance(module, nn.MaxPool2d):
            text += f"top: '{name}' type: POOLING pooling_param {{ pool: MAX kernel_size: 2 stride: 2 }} }}\n"
        else:
            text += f"top: '{blob}' type: {type(module).__name__.upper()} }}\n"
        if not isinstance(module, (nn.ReLU, nn.Dropout)):
            blob = name
    classes = net.score_fr.out_channels

    def score(name: str, bottom: str, top: str, param: str, kind: str = "CONVOLUTION") -> str:
        wired = f"type: {kind} name: '{name}' bottom: '{bottom}' top: '{top}'"
        return f"layers {{ {wired} convolution_param {{ num_output: {classes} {param} }} }}\n"

    def crop(bottom: str, reference: str, top: str) -> str:
        return f"layers {{ type: CROP name: 'crop' bottom: '{bottom}' bottom: '{reference}' top: '{top}' }}\n"

    def fuse(a: str, b: str, top: str) -> str:
        return f"layers {{ type: ELTWISE name: 'fuse' bottom: '{a}' bottom: '{b}' top: '{top}' }}\n"

    text += score("score-fr", "fc7", "score", "kernel_size: 1")
    text += score("score2", "score", "score2", "kernel_size: 4 stride: 2", "DECONVOLUTION")
    text += score("score-pool4", "pool4", "score-pool4", "kernel_size: 1")
    text += crop("score-pool4", "score2", "score-pool4c") + fuse("score2", "score-pool4c", "score-fused")
    text += score("score4", "score-fused", "score4", "bias_term: false kernel_size: 4 stride: 2", "DECONVOLUTION")
    text += score("score-pool3", "pool3", "score-pool3", "kernel_size: 1")
    text += crop("score-pool3", "score4", "score-pool3c") + fuse("score4", "score-pool3c", "score-final")
    text += score("upsample", "score-final", "bigscore", "bias_term: false kernel_size: 16 stride: 8", "DECONVOLUTION")
    return text + crop("bigscore", "data", "upscore")


@pytest.fixture
def net() -> FCN8s:
    """FCN-8s with random weights and a bias in its first deconvolution, as the one of 2015 had."""
    net = with_random_weights(narrow_net("voc-fcn8s"))
    net.upscore2.bias = nn.Parameter(torch.linspace(-1, 1, net.upscore2.out_channels))
    return net


@pytest.fixture
def old_state(net: FCN8s) -> dict[str, Tensor]:
    parts = {key: key.rpartition(".") for key in net.state_dict()}
    return {f"{RENAMED.get(parts[key][0], parts[key][0])}.{parts[key][2]}": v for key, v in net.state_dict().items()}


def output(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return net(x)


def test_a_net_of_2015_computes_the_same_once_its_crops_are_derived(net: FCN8s, old_state: dict[str, Tensor]) -> None:
    spec = parse_prototxt(gist(net))
    x = random_inputs(net, (75, 122))["data"]
    derived, as_in_caffe_1 = CaffeNet(auto_crop(spec)), CaffeNet(spec)
    for caffe_net in (derived, as_in_caffe_1):
        caffe_net.load_state_dict(old_state)
    assert torch.equal(output(derived, x), output(net, x))
    assert not torch.equal(output(as_in_caffe_1, x), output(net, x))  # a crop without offset is one at 0


def test_the_files_of_2015_convert_with_auto_crop(net: FCN8s, old_state: dict[str, Tensor], tmp_path: Path) -> None:
    spec = parse_prototxt(gist(net))
    write_caffemodel(from_state_dict(old_state, spec), tmp_path / "old.caffemodel")
    report = convert(tmp_path / "old.caffemodel", tmp_path / "new.safetensors", auto_crop_offsets=True)
    assert {tuple(offset) for offset in report.crops.values()} <= {(5,), (9,), (31,)} and not report.unused
    x = random_inputs(net, (64, 80))["data"]
    assert torch.equal(output(fcn_port.load(tmp_path / "new.safetensors"), x), output(net, x))


def grouped(spec: NetSpec, classes: int) -> NetSpec:
    """The net with a group for each class in its deconvolutions, as many people wrote it."""
    lines = format_prototxt(spec).splitlines()
    deconvolution = False
    for i, line in enumerate(lines):
        deconvolution = '"Deconvolution"' in line or (deconvolution and "layer {" not in line)
        if deconvolution and "num_output" in line:
            lines[i] = f"{line} group: {classes}"
    return parse_prototxt("\n".join(lines))


def test_grouped_deconvolutions_interpolate_the_same(tmp_path: Path) -> None:
    net = narrow_net("voc-fcn8s")  # its deconvolutions are bilinear, each class by itself
    spec = grouped(to_spec(net, input_shapes(net, (64, 80)), name="grouped"), 21)
    state = {
        key: torch.from_numpy(bilinear_weight((21, 1, *w.shape[2:]))) if key.startswith("upscore") else w
        for key, w in net.state_dict().items()
    }
    model = from_state_dict(state, spec)
    assert model.blobs["upscore8"][0].shape == (21, 1, 16, 16)
    write_caffemodel(model, tmp_path / "grouped.caffemodel")
    loaded = fcn_port.load(tmp_path / "grouped.caffemodel")
    assert isinstance(loaded, CaffeNet)
    x = random_inputs(net, (64, 80))["data"]
    assert compare(output(loaded, x).numpy(), output(net, x).numpy()) <= tolerance("format-blobs")


@pytest.mark.parametrize("name", ["voc-fcn32s", "voc-fcn16s", "voc-fcn8s", "voc-fcn8s-atonce"])
@pytest.mark.parametrize("in_checkpoint", [False, True])
def test_what_torchfcn_published_and_what_it_saves(name: str, in_checkpoint: bool, tmp_path: Path) -> None:
    net = narrow_net(name)
    state = {key: value for key, value in net.state_dict().items() if not key.startswith("scale_")}
    path = tmp_path / f"{name.removeprefix('voc-')}_from_caffe.pth"
    torch.save({"epoch": 3, "arch": "FCN", "model_state_dict": state} if in_checkpoint else state, path)
    loaded = fcn_port.load(path)
    assert type(loaded) is type(net)
    x = random_inputs(net, (40, 56))["data"]
    assert torch.equal(output(loaded, x), output(net, x))


def test_only_the_name_tells_torchfcns_two_nets_apart(tmp_path: Path) -> None:
    state = narrow_net("voc-fcn8s").state_dict()
    for name, net_class in (("fcn8s_from_caffe.pth", FCN8s), ("fcn8s-atonce_from_caffe.pth", FCN8sAtOnce)):
        torch.save(state, tmp_path / name)
        assert type(fcn_port.load(tmp_path / name)) is net_class
