"""validate: wiring that Caffe refuses is refused (net.cpp, AppendTop and AppendBottom; insert_splits.cpp)."""

from __future__ import annotations

import pytest

from converters import NetError, read_prototxt
from converters.net.validate import validate
from parity_tests.goldens import formats
from parity_tests.passes.texts import INPUT, NETS, layer, net


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (layer("r", "ReLU", "dat", "a"), r"layer 'r' \(ReLU, line 2\): no layer .* bottom 'dat'\n.* mean 'data'"),
        (layer("r", "ReLU", "xyz", "a"), "blobs so far: data"),
        (layer("r", "ReLU", "b", "a") + layer("s", "ReLU", "data", "b"), "layer 's', which makes it, comes later"),
        (layer("r", "ReLU", "a", "a"), "no layer before it makes its bottom 'a'"),
        (layer("r", "ReLU", "data", "a") + layer("s", "ReLU", "data", "a"), r"top 'a' is made by two.*\n.*layer 'r'"),
        (layer("r", "Split", "data", "a a"), "top 'a' is made by two layers"),
        (layer("r", "Eltwise", "data data", "data"), "changes 'data' in place, which another layer reads"),
        (layer("r", "ReLU", "data", "a") + layer("s", "ReLU", "data", "data"), "changes 'data' in place"),
        (
            layer("r", "ReLU", "data", "a") + layer("s", "Eltwise", "data a", "a"),
            r"layer 's' \(Eltwise, line 3\): top 'a' is made by two layers\n.*bottom in the same position",
        ),
        (layer("r", "ReLU", "data", "a", "propagate_down: [true, true]"), "is given 2 times; expected 0 or 1"),
    ],
)
def test_wiring_that_caffe_refuses_is_refused(text: str, problem: str) -> None:
    with pytest.raises(NetError, match=problem):
        validate(net(INPUT, text))


@pytest.mark.parametrize("name", NETS)
def test_nets_that_caffe_runs_are_valid(name: str) -> None:
    validate(read_prototxt(formats(f"{name}.prototxt")))
