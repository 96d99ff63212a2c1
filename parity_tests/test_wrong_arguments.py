"""Public functions that are given something of another kind say what they take and what they found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import converters
import fcn_port
import weights
from fcn_port.errors import ImageError
from parity_tests.verbs import SAMPLE

PICTURE = np.zeros((40, 50, 3), np.uint8)
OF_A_NET: dict[str, Callable[[Any], object]] = {
    "fast": lambda net: fcn_port.fast(net),
    "segment": lambda net: fcn_port.segment(net, PICTURE),
    "see": lambda net: fcn_port.see(net, PICTURE),
    "classify": lambda net: fcn_port.classify(net, PICTURE),
    "detect": lambda net: fcn_port.detect(net, PICTURE),
    "prepare": lambda net: fcn_port.prepare(net, PICTURE),
    "trace": lambda net: fcn_port.trace(net, (40, 50)),
    "blobs": lambda net: fcn_port.blobs(net),
    "export_net": lambda net: fcn_port.exporting.export_net(net, to="onnx", out="never.onnx"),
    "evaluate": lambda net: fcn_port.evaluation.evaluate(net, None),  # type: ignore[arg-type]
    "parameter_groups": lambda net: fcn_port.training.parameter_groups(net),
}


@pytest.mark.parametrize("given, said", [(None, "None"), (5, "5"), ("voc-fcn8s", "'voc-fcn8s'"), ({}, "type dict")])
@pytest.mark.parametrize("name", OF_A_NET)
def test_what_is_no_net(name: str, given: object, said: str) -> None:
    with pytest.raises(ValueError, match=f"expected a net; found .*{said}; fcn_port.load, fcn_port.build and conv"):
        OF_A_NET[name](given)


@pytest.mark.parametrize("size", [None, 5, "40x40", (40,), (40, 40, 40), (0, 5), (40.0, 40.5), ("a", "b")], ids=repr)
def test_what_is_no_size(size: object) -> None:
    with pytest.raises(ValueError, match=r"expected a size \(h, w\) of two whole numbers above 0; found "):
        fcn_port.trace(fcn_port.build("voc-fcn32s"), size)  # type: ignore[arg-type]


OTHERS: dict[str, tuple[Callable[[], object], str]] = {
    "build(None)": (lambda: fcn_port.build(None), "expected the name of a net, such as 'voc-fcn8s'; found None"),  # type: ignore[call-overload]
    "build([])": (lambda: fcn_port.build([]), "found an object of type list"),  # type: ignore[call-overload]
    "CaffeNet": (
        lambda: converters.CaffeNet("a.prototxt"),
        "expected a NetSpec, as read_prototxt gives it; found",
    ),  # type: ignore[arg-type]
    "to_state_dict": (lambda: converters.to_state_dict(None), "expected a CaffeModel, as read_caffemodel gives it; f"),  # type: ignore[arg-type]
    "from_state_dict": (lambda: converters.from_state_dict(None, None), "expected a state dict, as net.state_dict()"),  # type: ignore[arg-type]
    "from_state_dict, spec": (lambda: converters.from_state_dict({}, 5), "expected a NetSpec, as read_proto.* found 5"),  # type: ignore[arg-type]
    "task_of": (lambda: fcn_port.training.task_of(None), "expected a NetSpec"),  # type: ignore[arg-type]
    "release": (lambda: weights.release(None), "expected the name of a release, such as 'voc-fcn8s'; found None"),  # type: ignore[arg-type]
    "fetch": (lambda: weights.fetch(5), "expected the name of a release, such as 'voc-fcn8s'; found 5"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_of_another_kind(name: str) -> None:
    call, said = OTHERS[name]
    with pytest.raises(TypeError, match=said):
        call()


def test_classes_are_no_yes() -> None:
    with pytest.raises(ValueError, match="expected such as 21, found True"):
        fcn_port.build("voc-fcn8s", num_classes=True)


def test_a_picture_without_a_pixel() -> None:
    net = fcn_port.load(SAMPLE)
    with pytest.raises(ImageError, match=r"an array of uint8 \(0, 50, 3\); expected"):
        fcn_port.segment(net, np.zeros((0, 50, 3), np.uint8), preprocessing=weights.release("sample").preprocessing)
