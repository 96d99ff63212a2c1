"""What a layer must have its bottom in is the shape of the input that stands for a data layer."""

from __future__ import annotations

import pytest

from converters import CaffeNet, parse_prototxt
from converters.net.layer import Layer, all_layers
from converters.passes import prepare

FAST = """
layer { name: "data" type: "Python" top: "data" top: "rois" top: "labels"
  python_param { module: "roi_data_layer.layer" layer: "RoIDataLayer" param_str: "'num_classes': 21" } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "pool" type: "ROIPooling" bottom: "conv" bottom: "rois" top: "pool"
  roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 0.0625 } }
layer { name: "score" type: "InnerProduct" bottom: "pool" top: "score" inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "labels" }
"""


def test_regions_of_a_training_net() -> None:
    deploy = prepare(parse_prototxt(FAST))
    assert deploy.inputs == {"data": (1, 3, 500, 500), "rois": (1, 5)}
    assert "the net does not give the size of input 'rois'; 1x5 is what reads it" in deploy.notes
    assert CaffeNet(deploy).spec.outputs == ("score",)


def test_a_shape_that_the_net_gives_stays() -> None:
    shapes = "shape { dim: 1 dim: 3 dim: 40 dim: 40 } shape { dim: 7 dim: 5 dim: 1 dim: 1 } shape { dim: 7 }"
    given = FAST.replace('type: "Python"', f'type: "DummyData" dummy_data_param {{ {shapes} }}')
    assert prepare(parse_prototxt(given)).inputs["rois"] == (7, 5, 1, 1)


@pytest.mark.parametrize(
    ("kind", "bottoms", "settings", "expected"),
    [
        ("Proposal", 3, "proposal_param { ratio: 1 scale: 8 }", {2: (1, 3)}),
        ("FrcnnOutput", 4, "", {2: (None, 5), 3: (1, 2)}),
        ("DecodeBBox", 2, "", {1: (None, 5)}),
        ("ScaleRoute", 2, "", {0: (None, 5)}),
        ("Convolution", 1, "convolution_param { num_output: 1 kernel_size: 1 }", {}),
    ],
)
def test_what_types_say(kind: str, bottoms: int, settings: str, expected: dict) -> None:
    wires = " ".join(f'bottom: "b{i}"' for i in range(bottoms))
    params = parse_prototxt(f'layer {{ name: "it" type: "{kind}" {wires} top: "t" {settings} }}').layers[0].params
    assert params is not None
    assert params.bottom_shapes() == expected


def test_a_type_from_outside_says_nothing() -> None:
    assert Layer().bottom_shapes() == {}
    assert {name for name, each in all_layers().items() if each.bottom_shapes is not Layer.bottom_shapes} >= {
        "ROIPooling"
    }
