"""Shapes of a flow whose layers are merged: those that the layers give one after the other."""

from __future__ import annotations

import pytest

from converters import CaffeNet
from converters.formats import parse_prototxt
from converters.net import Shape
from fcn_port.fastpath.flow import merge, read
from fcn_port.fastpath.program.shapes import shapes_of
from parity_tests.fastpath.random_nets import random_net


@pytest.mark.parametrize("seed", range(40))
def test_as_layer_by_layer(seed: int) -> None:
    net = random_net(seed)
    flow = read(net.spec, net.outputs)
    for more in (0, 1, 6):
        inputs = {name: (*shape[:2], *(size + more for size in shape[2:])) for name, shape in net.inputs.items()}
        assert shapes_of(merge(flow), inputs) == shapes_of(flow, inputs)


BEHIND = {
    "a sum with what has other sizes": (
        """layer { name: "a" type: "Convolution" bottom: "x" top: "a"
             convolution_param { num_output: 4 kernel_size: 1 } }
           layer { name: "s" type: "Eltwise" bottom: "z" bottom: "a" top: "y" }""",
        {"x": (1, 4, 6, 6), "z": (1, 4, 6, 6)},
        {"x": (1, 4, 6, 6), "z": (1, 4, 6, 7)},
    ),
    "factors for what is no channel of the outputs": (
        """layer { name: "a" type: "Convolution" bottom: "x" top: "a"
             convolution_param { num_output: 4 kernel_size: 1 axis: 2 } }
           layer { name: "s" type: "Scale" bottom: "a" top: "b" }
           layer { name: "e" type: "Eltwise" bottom: "b" bottom: "z" top: "y" eltwise_param { operation: PROD } }""",
        {"x": (1, 4, 6, 6), "z": (1, 4, 4, 6)},
        {"x": (1, 5, 6, 6), "z": (1, 5, 4, 6)},
    ),
}


@pytest.mark.parametrize(("layers", "own", "others"), BEHIND.values(), ids=BEHIND)
def test_inputs_that_do_not_fit_layers_behind_a_convolution(
    layers: str, own: dict[str, Shape], others: dict[str, Shape]
) -> None:
    inputs = " ".join(f'input: "{name}" input_shape {{ dim: {list(shape)} }}' for name, shape in own.items())
    net = CaffeNet(parse_prototxt(f"{inputs} {layers}"))
    flow = merge(read(net.spec, net.outputs))
    assert "s" in [part.name for part in flow.operations[0].parts] and shapes_of(flow, own)["y"] == own["z"]
    with pytest.raises(ValueError):
        shapes_of(flow, others)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5)])
def test_a_norm_behind_a_convolution_that_makes_images_of_its_rows(shape: Shape) -> None:
    """As SegNet's BN does; what reads them was planned for rows, and refused."""
    text = f"""input: "x" input_shape {{ dim: {list(shape)} }}
        layer {{ name: "c" type: "Convolution" bottom: "x" top: "c"
            convolution_param {{ num_output: 4 kernel_size: 1 }} }}
        layer {{ name: "b" type: "BN" bottom: "c" top: "b" bn_param {{ bn_mode: INFERENCE }} }}
        layer {{ name: "p" type: "Pooling" bottom: "b" top: "p" pooling_param {{ global_pooling: true }} }}"""
    net = CaffeNet(parse_prototxt(text))
    flow = read(net.spec, net.outputs)
    assert shapes_of(merge(flow), {"x": shape}) == shapes_of(flow, {"x": shape})
