"""diff_nets and diff_blobs: what differs is told, layer by layer, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from converters import parse_prototxt, read_prototxt
from converters.diff import Difference, diff_blobs, diff_nets
from converters.net import NetSpec
from parity_tests.goldens import GOLDEN

TEXT = """input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "a" type: "Convolution" bottom: "data" top: "a" param { lr_mult: 1 } convolution_param { num_output: 4
  kernel_size: 3 } }
layer { name: "b" type: "ReLU" bottom: "a" top: "b" }
layer { name: "c" type: "TanH" bottom: "a" top: "c" }
layer { name: "d" type: "Dropout" bottom: "c" top: "c" }
layer { name: "it" type: "Pooling" bottom: "c" top: "it" pooling_param { kernel_size: 2 } }
"""
B, C, D = TEXT.splitlines()[3:6]
IT = "layer 'it'"
CHANGES: dict[tuple[str, str], tuple[set[str], set[str]]] = {
    ("", ""): (set(), set()),
    ("lr_mult: 1", "lr_mult: 2"): ({"layer 'a': param: [lr_mult: 1"}, set()),
    (f"{B}\n{C}", f"{C}\n{B}"): ({"net: order of layers: input, a, b, c, d, it | input, a, c, b, d, it"}, set()),
    (D, ""): ({"layer 'd': is there: yes | no"}, set()),
    (B, ""): ({"layer 'b': is there: yes | no", "net: outputs: b, it | it"},) * 2,
    ('"TanH"', '"Sigmoid"'): ({"layer 'c': type: TanH | Sigmoid"},) * 2,
    ('bottom: "c" top: "it"', 'bottom: "b" top: "it"'): ({f"{IT}: bottoms: c | b", "net: outputs: b, it | c, it"},) * 2,
    ("dim: 8 dim: 8", "dim: 8 dim: 9"): ({"layer 'input': shapes: ((1, 3, 8, 8),) | ((1, 3, 8, 9),)"}, set()),
    ("kernel_size: 2", "kernel_size: 3"): ({f"{IT}: kernel: (2, 2) | (3, 3)"},) * 2,
    ("kernel_size: 2", "kernel_size: 2 pad_b: 1"): ({f"{IT}: computed as: Pooling | PaddedPooling"},) * 2,
}


@pytest.mark.parametrize("meaning_only", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_what_differs_is_told(change: tuple[str, str], meaning_only: bool) -> None:
    first, second = parse_prototxt(TEXT), parse_prototxt(TEXT.replace(*change, 1) if change[0] else TEXT)
    found = {str(each) for each in diff_nets(first, second, meaning_only=meaning_only)}
    expected = CHANGES[change][meaning_only]
    assert all(any(each.startswith(told) for each in found) for told in expected)
    assert expected or not found


def examples() -> list[tuple[NetSpec, NetSpec]]:
    """Pairs of nets of one layer, both of the same type and name, with other settings."""
    kinds: dict[str, list[NetSpec]] = {}
    for path in sorted((GOLDEN / "layers").glob("*.prototxt")):
        spec = read_prototxt(path)
        for layer in spec.layers:
            kinds.setdefault(layer.type, []).append(spec.replace_layers((replace(layer, name="it"),)))
    return [pair for found in kinds.values() for pair in pairwise(found)]


def test_layers_of_one_type_that_are_computed_otherwise_are_compared() -> None:
    """A fork's settings make another layer of a type, whose fields are others; a Python layer can be anything."""
    told = {type(b.layers[0].params) for a, b in examples() if diff_nets(a, b) and a.layers != b.layers}
    for first, second in examples():
        kinds = [type(net.layers[0].params).__name__ for net in (first, second)]
        named = Difference(IT, "computed as", *kinds) in diff_nets(first, second)
        assert named == (kinds[0] != kinds[1])
    assert len(told) > 40


def test_blobs_are_compared_to_the_last_bit() -> None:
    one = np.array([[1, np.nan, np.inf], [0, 2, 3]], np.float32)
    assert diff_blobs({"a": (one,)}, {"a": (one.copy(),)}) == ()
    other = one.copy()
    other[1, 2] = np.nextafter(other[1, 2], np.float32(9))
    other[0, 0] = 0.5
    changes = {
        "2 of 6 values, most at (0, 0): 1 | 0.5": {"a": (other,)},
        "shape: (2, 3) | (3, 2)": {"a": (one.reshape(3, 2),)},
        "layer 'a': blobs: 1 | 2": {"a": (one, one)},
        "layer 'b': blobs: 0 | 1": {"a": (one,), "b": (one,)},
    }
    for told, blobs in changes.items():
        (found,) = diff_blobs({"a": (one,)}, blobs)
        assert told in str(found)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_beside_none_is_the_largest_difference(value: float) -> None:
    one = np.arange(6, dtype=np.float32).reshape(2, 3)
    for x, y in ((one + 100, one), (one, one + 100)):
        changed = y.copy()
        changed[1, 0] = value
        (found,) = diff_blobs({"a": (x,)}, {"a": (changed,)})
        assert f"6 of 6 values, most at (1, 0): {x[1, 0]:.9g} | {value}" in str(found)
