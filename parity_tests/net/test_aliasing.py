"""Blobs that are one memory: what CaffeNet computes is what happens in one array with several names."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from converters.errors import NetError
from converters.execution.caffe_net import CaffeNet
from converters.formats.prototxt import parse_prototxt
from converters.net.aliasing import aliases

INPUT = 'layer { name: "data" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 4 } } }\n'
ADD_ONE = 'layer {{ name: "{0}" type: "Power" bottom: "{1}" top: "{2}" power_param {{ shift: 1 }} }}\n'
ALIAS = 'layer {{ name: "{0}" type: "{3}" bottom: "{1}" top: "{2}" }}\n'


def random_net(r: random.Random) -> tuple[str, dict[str, np.ndarray]]:
    """A net of Powers that add 1, often in place, and of layers that only give names; and its blobs, by numpy's views.

    (The oracle: a view of an array is that array, so a change in place changes every name.)
    """
    text, blobs = INPUT, {"x": np.zeros(24, np.float32)}
    for number in range(r.randrange(3, 14)):
        bottom = r.choice(list(blobs))
        kind = r.choice(["Power", "in place", "in place", "Flatten", "Split", "Concat"])
        top = bottom if kind == "in place" else f"b{number}"
        if kind in ("Power", "in place"):
            text += ADD_ONE.format(number, bottom, top)
            if kind == "in place":
                blobs[bottom] += 1
            else:
                blobs[top] = blobs[bottom] + 1
        else:
            text += ALIAS.format(number, bottom, top, kind)
            blobs[top] = blobs[bottom].view()
    return text, blobs


@pytest.mark.parametrize("part", range(4))
def test_names_of_one_memory_change_together(part: int) -> None:
    """Nets that Caffe refuses, for a Split's copies would not change together, are passed over."""
    tried = 0
    for seed in range(100 * part, 100 * part + 100):
        text, expected = random_net(random.Random(seed))
        try:
            net = CaffeNet(parse_prototxt(text))
        except NetError as error:
            assert "in place" in str(error), text
            continue
        tried += 1
        found = net.blobs(torch.zeros(1, 2, 3, 4))
        assert {k: v.flatten().tolist() for k, v in found.items()} == {k: v.tolist() for k, v in expected.items()}, text
        x = net(torch.zeros(1, 2, 3, 4))
        outputs = {net.outputs[0]: x} if isinstance(x, torch.Tensor) else x
        assert {k: v.flatten().tolist() for k, v in outputs.items()} == {k: expected[k].tolist() for k in net.outputs}
    assert tried > 20


def test_aliases_and_changes_are_as_many_as_names() -> None:
    """n names of one memory and n layers in place took n * n aliases: 0.43 MiB of text took 1.3 GB."""
    n = 300
    text = INPUT + "".join(ALIAS.format(f"f{i}", f"a{i - 1}" if i else "x", f"a{i}", "Flatten") for i in range(n))
    text += "".join(ADD_ONE.format(f"p{i}", f"a{n - 1}", f"a{n - 1}") for i in range(n))
    found = aliases(parse_prototxt(text))
    assert sum(map(len, found)) <= 3 * n
    net = CaffeNet(parse_prototxt(text))
    assert set(map(float, net.blobs(torch.zeros(1, 2, 3, 4))["x"].flatten())) == {float(n)}


def test_with_outputs_only_they_follow_the_last_change() -> None:
    text = INPUT + ALIAS.format("flat", "x", "y", "Flatten") + ADD_ONE.format("more", "y", "y")
    spec = parse_prototxt(text + ADD_ONE.format("reads", "x", "z") + ADD_ONE.format("last", "y", "y"))
    of_layers = {names: [list(each) for each in aliases(spec, outputs=names)] for names in (("z",), ("z", "x"))}
    assert of_layers["z",] == [[], [], [("x", "y")], [], []]
    assert of_layers["z", "x"] == [[], [], [("x", "y")], [], [("x", "y")]]
    assert aliases(spec) == aliases(spec, outputs=("z", "x"))
