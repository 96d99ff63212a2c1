"""merge_splits: the copies that Caffe inserted go (insert_splits.cpp), what somebody wrote stays."""

from __future__ import annotations

import pytest

from converters import NetSpec, read_caffemodel, read_prototxt
from converters.passes.merge_splits import merge_splits
from parity_tests.goldens import formats
from parity_tests.passes.texts import INPUT, layer, net


@pytest.mark.parametrize("name", ["fcn8s-mini", "layer-zoo-0", "layer-zoo-1"])
def test_the_splits_of_a_caffemodel_are_undone(name: str) -> None:
    """Caffe wrote its copies into the file; without them it has the wires of the prototxt again."""

    def wires(spec: NetSpec) -> list[tuple]:
        return [(layer.name, layer.type, layer.bottoms, layer.tops) for layer in spec.layers]

    written = read_caffemodel(formats(f"{name}.caffemodel")).spec
    given_ = read_prototxt(formats(f"{name}.prototxt"))
    assert written is not None and wires(written) != wires(given_)
    assert wires(merge_splits(written)) == wires(given_)
    assert merge_splits(given_) == given_


def test_a_copy_that_is_an_output_keeps_its_split() -> None:
    first, second = "data_data_0_split", "data_data_0_split_0_x_0_split"
    spec = merge_splits(
        net(
            INPUT,
            layer(first, "Split", "data", f"{first}_0 {first}_1 {first}_2"),
            layer(second, "Split", f"{first}_0", f"{second}_0 {second}_1"),
            layer("r", "ReLU", f"{second}_0", "f"),
        )
    )
    assert [(layer.name, layer.bottoms, layer.tops) for layer in spec.layers] == [
        ("data", (), ("data",)),
        (first, ("data",), (f"{first}_1", f"{first}_2")),
        (second, ("data",), (f"{second}_1",)),
        ("r", ("data",), ("f",)),
    ]
    assert set(spec.outputs) == {f"{first}_1", f"{first}_2", f"{second}_1", "f"}


@pytest.mark.parametrize(
    ("name", "tops"),
    [("s_split", "a b"), ("data_split", "a b"), ("data_data_0_split", "a b"), ("other_data_0_split", "a b")],
)
def test_a_split_that_somebody_wrote_stays(name: str, tops: str) -> None:
    """insert_splits.cpp names a Split and its tops after blob, layer and place; any other name is somebody's."""
    spec = net(INPUT, layer(name, "Split", "data", tops), layer("r", "ReLU", "a", "c"))
    assert merge_splits(spec) == spec
