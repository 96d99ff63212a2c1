"""The nets written out by hand and CaffeNet on their definitions are each other's oracle: the same, to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import fcn_port
from converters.conversion import convert
from converters.execution.caffe_net import CaffeNet
from converters.execution.state_dict import from_state_dict
from converters.formats.caffemodel import write_caffemodel
from converters.formats.prototxt import format_prototxt, parse_prototxt
from converters.net.spec import NetSpec
from fcn_port.inspection import input_shapes
from fcn_port.loading import attach
from fcn_port.nets import FCN, NETS
from fcn_port.nets.record import to_spec
from parity_tests.nets import narrow_net, random_inputs, with_random_weights
from weights.card import Card
from weights.catalogue import release


def definition(net: FCN, name: str) -> NetSpec:
    return to_spec(net, input_shapes(net, (100, 100)), name=name)


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected)
    for blob, value in expected.items():
        assert torch.equal(found[blob], value), blob


@pytest.mark.parametrize("name", NETS)
def test_caffenet_equals_the_hand_written_net_in_every_blob(name: str) -> None:
    net = with_random_weights(narrow_net(name))
    caffe_net = CaffeNet(parse_prototxt(format_prototxt(definition(net, name))))
    caffe_net.load_state_dict(net.state_dict())
    inputs = random_inputs(net, (75, 122), batch=2)
    assert_same(fcn_port.blobs(caffe_net, **inputs), fcn_port.blobs(net, **inputs))


@pytest.mark.parametrize("name", NETS)
def test_the_output_is_a_tensor_or_one_for_each_head(name: str) -> None:
    net = with_random_weights(narrow_net(name))
    inputs = random_inputs(net, (40, 56))
    blobs = fcn_port.blobs(net, **inputs)
    with torch.no_grad():
        output = net(**inputs)
    if name.startswith("siftflow"):
        assert_same(output, {head: blobs[head] for head in ("score_sem", "score_geo")})
    else:
        assert torch.equal(output, blobs["score"])


def test_segment_labels_for_each_head() -> None:
    net = with_random_weights(narrow_net("siftflow-fcn16s"))
    attach(net, Card.of(release("siftflow-fcn16s")))
    pixels = np.random.default_rng(5).integers(0, 256, (41, 57, 3), np.uint8)
    seen = fcn_port.segment(net, pixels)
    assert {head: found.scores.shape for head, found in seen.items()} == {
        "score_sem": (33, 41, 57),
        "score_geo": (3, 41, 57),
    }
    assert set(seen["score_geo"].share_of_classes()) <= {"sky", "horizontal", "vertical"}


@pytest.mark.parametrize("name", NETS)
def test_load_recognises_each_net_in_every_kind_of_file(name: str, tmp_path: Path) -> None:
    net = with_random_weights(narrow_net(name))
    caffemodel, safetensors, pth = (tmp_path / f"net.{ending}" for ending in ("caffemodel", "safetensors", "pth"))
    write_caffemodel(from_state_dict(net.state_dict(), definition(net, name)), caffemodel)
    convert(caffemodel, safetensors)
    torch.save(net.state_dict(), pth)
    for path in (caffemodel, safetensors, pth):
        loaded = fcn_port.load(path)
        assert type(loaded) is type(net), path
        assert_same(loaded.state_dict(), net.state_dict())
