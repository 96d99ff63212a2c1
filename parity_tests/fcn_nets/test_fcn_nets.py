"""The hand-written FCNs give Caffe's shapes and Caffe's numbers, blob by blob."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch

import fcn_port
from fcn_port.errors import ImageError
from fcn_port.inspection import input_shapes
from fcn_port.nets import NETS, FCN8s
from fcn_port.nets.parts import ResponseNorm
from fcn_port.nets.record import to_spec
from parity_tests.fill import SCALE_CONSTANTS, fcn_layer_types, fill_blob
from parity_tests.goldens import compare, golden, golden_ids, shapes, wrong_labels
from parity_tests.narrow import NARROW
from parity_tests.nets import filled_inputs, filled_net, narrow_net
from parity_tests.tolerances import tolerance


def test_every_recorded_net_is_written_out() -> None:
    assert {name.removesuffix("-deploy") for name in shapes()} == set(NETS)


@pytest.mark.parametrize("name", NETS)
def test_shapes_at_every_recorded_size(name: str) -> None:
    with torch.device("meta"):
        net = fcn_port.build(name)
    for size, expected in shapes()[name].blobs.items():
        assert fcn_port.trace(net, size) == dict(expected), size


def test_shapes_and_a_fast_pass_do_not_wait_for_torch_compile() -> None:
    """PyTorch's meta device imports it for a sum: a second, and 70 MB."""
    code = (
        "import sys, torch, fcn_port; from fcn_port.nets import NETS; from parity_tests.nets import narrow_net\n"
        "for name in NETS:\n"
        "    net = fcn_port.fast(narrow_net(name))\n"
        "    with torch.no_grad(): net(*(torch.zeros(1, *shape[1:2], 40, 40) for shape in net.inputs.values()))\n"
        "    fcn_port.trace(net, (50, 60)), net.spec, net.outputs\n"
        "assert not {'sympy', 'torch._dynamo', 'torch.onnx'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)


@pytest.mark.parametrize("name", NETS)
def test_parameter_shapes_under_caffe_names(name: str) -> None:
    with torch.device("meta"):
        state = fcn_port.build(name).state_dict()
    expected = {
        f"{layer}.{('weight', 'bias')[i]}": shape
        for layer, own in shapes()[name].params.items()
        for i, shape in enumerate(own)
    }
    assert {key: tuple(value.shape) for key, value in state.items()} == expected


@pytest.mark.parametrize("id_", golden_ids(), ids=str)
def test_every_blob_equals_caffe(id_) -> None:
    expected = golden(id_.net, id_.size, id_.fill)
    found = fcn_port.blobs(filled_net(id_), **filled_inputs(id_))
    assert list(found) == list(expected.blobs)
    errors = {name: compare(blob.numpy(), expected.blobs[name]) for name, blob in found.items()}
    assert max(errors.values()) <= tolerance("fcn-blobs"), errors
    for output, labels in expected.labels.items():
        assert not len(wrong_labels(found[output].numpy(), labels, tie=tolerance("fcn-labels")))


@pytest.mark.parametrize("name", NETS)
def test_written_crops_are_caffes_and_the_derived_ones(name: str) -> None:
    from converters.net.coord_map import crops_of, derive_crops

    with torch.device("meta"):
        net = fcn_port.build(name)
    spec = to_spec(net, input_shapes(net, (500, 500)), name=name)
    expected = {layer: crop.offset for layer, crop in shapes()[name].crops.items()}
    assert crops_of(spec) == expected
    assert {d.layer.name: d.derived[:1] for d in derive_crops(spec)} == expected


def test_build_takes_any_number_of_classes_and_names_close_nets() -> None:
    with torch.device("meta"):
        assert fcn_port.build("voc-fcn16s", 7).score_fr.out_channels == 7
        siftflow = fcn_port.build("siftflow-fcn16s", {"sem": 5, "geo": 2})
    assert (siftflow.score_fr_sem.out_channels, siftflow.score_fr_geo.out_channels) == (5, 2)
    with pytest.raises(ValueError, match="voc-fcn8s"):
        fcn_port.build("voc-fcn8")


@pytest.mark.parametrize(
    ("name", "classes"),
    [("voc-fcn32s", 0), ("voc-fcn32s", {"sem": 3, "geo": 3}), ("siftflow-fcn8s", 5), ("siftflow-fcn8s", {"sem": 5})],
)
def test_build_refuses_classes_that_are_not_the_nets(name: str, classes: object) -> None:
    with pytest.raises(ValueError, match=f"num_classes of '{name}': expected such as"):
        fcn_port.build(name, classes)


def test_build_interpolates_and_is_in_eval_mode() -> None:
    net = fcn_port.nets.FCN8s(3, widths=fcn_port.nets.Widths(*[2] * 7)).eval()
    constant = torch.ones(1, 3, 5, 5)
    inside = net.upscore8(constant)[:, :, 8:-8, 8:-8]
    np.testing.assert_allclose(inside.detach().numpy(), 1.0, atol=1e-6)
    assert not fcn_port.build("voc-fcn-alexnet", 2).training


def test_build_puts_every_constant_that_the_net_gives() -> None:
    """Deconvolutions at the fill rule's interpolation, which is the release's own, and skip scales at theirs."""
    for name in ("voc-fcn8s-atonce", "voc-fcn-alexnet"):
        weights = {key.removesuffix(".weight"): w.detach().numpy() for key, w in narrow_net(name).named_parameters()}
        constants = {layer: w for layer, w in weights.items() if layer.startswith(("upscore", "scale"))}
        assert len(constants) == {"voc-fcn8s-atonce": 5, "voc-fcn-alexnet": 1}[name]
        for layer, weight in constants.items():
            kind = fcn_layer_types([layer])[layer]
            expected = fill_blob(layer, kind, 0, weight.shape, constant=SCALE_CONSTANTS.get(layer))
            np.testing.assert_array_equal(weight, expected, err_msg=layer)


def test_lrn_agrees_with_torchs() -> None:
    x = torch.randn(2, 7, 5, 6, generator=torch.Generator().manual_seed(0)) * 70
    for size, alpha, beta, k in ((5, 1e-4, 0.75, 1.0), (3, 0.2, 0.5, 2.0)):
        expected = torch.nn.functional.local_response_norm(x, size, alpha, beta, k)
        torch.testing.assert_close(ResponseNorm(size, alpha=alpha, beta=beta, k=k)(x), expected)


def test_an_image_of_which_googlenet_leaves_nothing_is_refused() -> None:
    net = narrow_net("voc-fcn-googlenet")
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 31, 40)).shape == (1, 21, 31, 40)
        with pytest.raises(ImageError, match="30 x 40 pixels; FCN-GoogLeNet takes 31 or more a side"):
            net(torch.zeros(1, 3, 30, 40))


def test_a_net_that_was_looked_into_is_gone_when_nobody_has_it() -> None:
    """Its weights lived on in a cycle until the garbage collector came: half a gigabyte of each FCN."""
    net = FCN8s(3, widths=NARROW).eval()
    weights = [weakref.ref(each) for each in net.parameters()]
    gc.collect()
    gc.disable()
    try:
        assert net.spec.layers
        del net
        assert not any(each() is not None for each in weights)
    finally:
        gc.enable()
