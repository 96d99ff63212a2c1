"""The trace that this project started from: 100x100 into an FCN-8s of 7 classes, read from top to bottom."""

from __future__ import annotations

import fcn_port
from parity_tests.goldens import formats


def test_the_trace_of_the_summary() -> None:
    net = fcn_port.load(formats("fcn8s-mini.caffemodel"))
    side = {name: shape[-1] for name, shape in fcn_port.trace(net, (100, 100)).items()}

    assert side["data"] == 100
    assert side["conv1_1"] == 298  # the padding of 100 on each side, less 2 for the kernel

    assert side["pool3"] == 38
    assert side["pool4"] == 19
    assert side["pool5"] == 10
    assert side["score_fr"] == 4

    assert side["upscore2"] == 10
    assert side["score_pool4"] == 19
    assert range(side["score_pool4"])[5:15] == range(5, 5 + side["score_pool4c"])

    assert side["upscore_pool4"] == 22
    assert side["score_pool3"] == 38
    assert range(side["score_pool3"])[9:31] == range(9, 9 + side["score_pool3c"])

    assert side["upscore8"] == 184
    assert range(side["upscore8"])[31:131] == range(31, 31 + side["score"])
    assert side["score"] == 100
