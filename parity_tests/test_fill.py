"""The fill rule gives, to the last bit, the inputs and the weights with which Caffe recorded the goldens."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from parity_tests import goldens
from parity_tests.fill import (
    bilinear_blob,
    bilinear_kernel,
    fcn_layer_types,
    fill_blob,
    fill_state,
    input_blob,
    zoo_blob,
)
from parity_tests.goldens import GoldenId

INPUTS = ("data", "color", "hha", "depth")


def input_cases() -> list[tuple[GoldenId, str]]:
    """Every (golden, input blob); ``data`` of a net with a `color` input is a Concat, not an input."""
    return [
        (id_, name)
        for id_ in goldens.golden_ids()
        for name in INPUTS
        if name in (blobs := goldens.golden(id_.net, id_.size, id_.fill).blobs)
        and not (name == "data" and "color" in blobs)
    ]


@pytest.mark.parametrize(("id_", "name"), input_cases(), ids=str)
def test_inputs_are_those_that_caffe_was_fed(id_: GoldenId, name: str) -> None:
    golden = goldens.golden(id_.net, id_.size, id_.fill).blobs[name]
    blob = input_blob(name, golden.shape)
    np.testing.assert_array_equal(blob.ravel()[golden.index], golden.value)
    assert goldens.sample(name, blob).l2 == pytest.approx(golden.l2, rel=1e-14)  # summed in another order


def saved_by_caffe(net: str) -> dict[str, tuple[np.ndarray, ...]]:
    with h5py.File(goldens.formats(f"{net}.caffemodel.h5")) as file:
        return {
            layer: tuple(blobs[str(i)][()] for i in range(len(blobs)))
            for layer, blobs in file["data"].items()
            if len(blobs)
        }


def test_weights_are_those_of_fcn8s_mini() -> None:
    saved = saved_by_caffe("fcn8s-mini")
    params = {layer: [blob.shape for blob in blobs] for layer, blobs in saved.items()}
    assert_same(fill_state(params, deconvolution="random"), saved)


def test_weights_are_those_of_the_layer_zoo() -> None:
    types = {"bn": "BatchNorm", "deconv": "Deconvolution", "ip": "InnerProduct", "ip_t": "InnerProduct"}
    types |= {"scale": "Scale", "prelu": "PReLU", "bias": "Bias"}
    saved = saved_by_caffe("layer-zoo-0")
    ours = {
        layer: tuple(zoo_blob(layer, types.get(layer, "Convolution"), i, blob.shape) for i, blob in enumerate(blobs))
        for layer, blobs in saved.items()
    }
    assert_same(ours, saved)


def assert_same(ours: dict[str, tuple[np.ndarray, ...]], saved: dict[str, tuple[np.ndarray, ...]]) -> None:
    assert ours.keys() == saved.keys()
    for layer, blobs in saved.items():
        for position, blob in enumerate(blobs):
            np.testing.assert_array_equal(ours[layer][position], blob, err_msg=f"{layer}/{position}")


@pytest.mark.parametrize(
    ("size", "ramp"), [(1, [1]), (2, [0.5, 0.5]), (3, [0.5, 1, 0.5]), (4, [0.25, 0.75, 0.75, 0.25])]
)
def test_bilinear_kernel_by_hand(size: int, ramp: list[float]) -> None:
    np.testing.assert_array_equal(bilinear_kernel(size), np.outer(ramp, ramp))


def test_bilinear_kernel_is_not_caffes_filler_at_odd_sizes() -> None:
    """AlexNet's 63: the release wrote symmetric kernels, where Caffe's BilinearFiller leans to one side."""
    size, factor = 63, 32
    center = (2 * factor - 1 - factor % 2) / (2 * factor)
    caffe_ramp = 1 - np.abs(np.arange(size) / factor - center)
    ours = bilinear_kernel(size)
    np.testing.assert_array_equal(ours, ours[::-1, ::-1])
    assert np.abs(np.outer(caffe_ramp, caffe_ramp) - ours).max() > 0.01


def test_bilinear_blob_keeps_each_channel_to_itself() -> None:
    dense, grouped = bilinear_blob((6, 6, 4, 4)), bilinear_blob((6, 1, 4, 4), group=6)
    halves = bilinear_blob((6, 3, 4, 4), group=2)
    for channel in range(6):
        np.testing.assert_array_equal(np.flatnonzero(dense[channel].any(axis=(1, 2))), [channel])
        np.testing.assert_array_equal(grouped[channel, 0], dense[channel, channel])
        np.testing.assert_array_equal(halves[channel, channel % 3], dense[channel, channel])
    assert np.count_nonzero(halves) == np.count_nonzero(grouped)


def test_a_scale_holds_its_constant() -> None:
    np.testing.assert_array_equal(fill_state({"scale_pool4": [(5,)]})["scale_pool4"][0], np.full(5, np.float32(0.01)))
    with pytest.raises(ValueError, match="constant"):
        fill_blob("scale_x", "Scale", 0, (5,))


@pytest.mark.parametrize("net", goldens.shapes())
def test_every_layer_of_the_release_is_covered(net: str) -> None:
    params = goldens.shapes()[net].params
    types = fcn_layer_types(list(params))
    for layer, blobs in params.items():
        (weight, *bias) = blobs
        if types[layer] == "Convolution":
            assert len(weight) == 4 and bias == [(weight[0],)]
        else:
            assert not bias and len(weight) == {"Deconvolution": 4, "Scale": 1}[types[layer]]


def test_what_the_rule_does_not_cover_is_an_error() -> None:
    with pytest.raises(ValueError, match="PReLU"):
        fill_blob("prelu1", "PReLU", 0, (4,))
    with pytest.raises(ValueError, match="bilinear"):
        fill_blob("up", "Deconvolution", 0, (4, 4, 4, 4), deconvolution="nearest")
