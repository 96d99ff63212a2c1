"""Crop offsets follow from the layers: the derivation, its explanation, and what it refuses."""

from __future__ import annotations

import pytest

from converters.errors import NetError
from converters.formats.prototxt import parse_prototxt, read_prototxt
from converters.net.coord_map import CoordMap, crops_of, derive_crops
from converters.net.shapes import infer_shapes
from converters.passes.auto_crop import auto_crop
from fcn_port.cli.explain import explain_crop
from fcn_port.porting import net_definition
from parity_tests.goldens import formats


def net(*layers: str) -> str:
    data = 'name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 40 dim: 56 } }'
    return "".join(f" layer {{ {layer} }}" for layer in (data, *layers))


def conv(bottom: str, top: str, settings: str) -> str:
    settings = f"num_output: 2 {settings}"
    return f'name: "{top}" type: "Convolution" bottom: "{bottom}" top: "{top}" convolution_param {{ {settings} }}'


def deconv(bottom: str, top: str, settings: str) -> str:
    return conv(bottom, top, settings).replace("Convolution", "Deconvolution")


def crop(bottom: str, reference: str, top: str, settings: str = "") -> str:
    given = f"crop_param {{ {settings} }}" if settings else ""
    return f'name: "{top}" type: "Crop" bottom: "{bottom}" bottom: "{reference}" top: "{top}" {given}'


FCN8S = {"score_pool4c": (5, 5), "score_pool3c": (9, 9), "score": (31, 31)}


def test_fcn8s_offsets_are_derived() -> None:
    spec = read_prototxt(formats("fcn8s-mini.prototxt"))
    assert {d.layer.name: d.derived for d in derive_crops(spec)} == FCN8S


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        # Rows and columns that behave differently, as kernels, strides and pads of each their own.
        (
            [
                conv("data", "a", "kernel_h: 3 kernel_w: 5 pad_h: 4 pad_w: 9 stride: 2"),
                deconv("a", "up", "kernel_size: 3 stride: 2"),
            ],
            (4, 8),
        ),
        # A dilated kernel reaches further.
        ([conv("data", "a", "kernel_size: 3 pad: 9 dilation: 4"), deconv("a", "up", "kernel_size: 1")], (5, 5)),
        # So does a dilated pooling: kernel 3, pad 2, hole 3 shifts by 2 - 3 = -1, and the pad of 4 after it by 4.
        (
            [
                'name: "a" type: "Pooling" bottom: "data" top: "a" pooling_param { kernel_size: 3 pad: 2 hole: 3 }',
                conv("a", "b", "kernel_size: 1 pad: 4"),
                deconv("b", "up", "kernel_size: 1"),
            ],
            (3, 3),
        ),
        # A crop on the way counts.
        (
            [
                conv("data", "a", "kernel_size: 1 pad: 7"),
                crop("a", "data", "b", "offset: 3"),
                deconv("b", "up", "kernel_size: 3"),
            ],
            (5, 5),
        ),
    ],
)
def test_offsets_of_small_nets(layers: list[str], expected: tuple[int, int]) -> None:
    spec = parse_prototxt(net(*layers, crop("up", "data", "score")))
    (*_, derivation) = derive_crops(spec)
    assert derivation.derived == expected
    assert crops_of(auto_crop(spec))["score"] == (expected if expected[0] != expected[1] else expected[:1])


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([conv("data", "a", "kernel_size: 1 stride: 2")], "1/2 of the pixels"),
        ([conv("data", "a", "kernel_size: 2 pad: 1")], "1/2 and 1/2 pixels"),
        ([conv("data", "a", "kernel_h: 1 kernel_w: 2 pad_h: 0 pad_w: 1")], "0 and 1/2 pixels"),
        ([conv("data", "a", "kernel_size: 5")], "-2 and -2 pixels"),
        ([conv("data", "a", "kernel_h: 5 kernel_w: 1")], "-2 and 0 pixels"),
        (['name: "a" type: "Reshape" bottom: "data" top: "a"'], "no common blob"),
        ([conv("data", "a", "kernel_size: 1 axis: 2")], r"no common blob.*; layer 'a' .* does not say"),
    ],
)
def test_what_has_no_offset_is_refused(layers: list[str], reason: str) -> None:
    with pytest.raises(NetError, match=reason):
        auto_crop(parse_prototxt(net(*layers, crop("a", "data", "score"))))


def test_a_layer_of_a_python_class_is_asked_too() -> None:
    """ENet's SpatialDropout, which lies on its bottom pixel by pixel."""
    python = 'name: "b" type: "Python" bottom: "a" top: "b" python_param { module: "d" layer: "SpatialDropoutLayer" }'
    layers = conv("data", "a", "kernel_size: 1 pad: 4"), python, crop("b", "data", "score")
    assert crops_of(auto_crop(parse_prototxt(net(*layers)))) == {"score": (4,)}


def test_an_offset_that_is_not_whole_is_told_and_rounded_up() -> None:
    googlenet = net_definition("voc-fcn-googlenet")
    (derivation,) = derive_crops(googlenet)
    assert derivation.exact == (1.5, 1.5)
    assert derivation.derived == derivation.written == (2, 2)
    assert "= 1.5\n  which is no whole number of pixels; rounded, 2\n" in explain_crop(
        derivation, infer_shapes(googlenet)
    )


def test_composition_is_applied_from_the_inside_out() -> None:
    from fractions import Fraction as F

    inner = CoordMap((F(1, 2), F(1)), (F(3), F(0)))
    outer = CoordMap((F(4), F(1)), (F(5), F(7)))
    assert outer.after(inner) == CoordMap((F(2), F(1)), (F(17), F(7)))


def test_the_explanation_says_why_31_and_how_far_a_centred_crop_is_off() -> None:
    spec = read_prototxt(formats("fcn8s-mini.prototxt"))
    shapes = infer_shapes(spec, {"data": (1, 3, 500, 500)})
    text = explain_crop(derive_crops(spec)[-1], shapes)
    assert "x -> x + 99" in text and "x -> x + 31" in text
    assert "the offset is 31 - 0 = 31" in text and "that is what the net says" in text
    assert "begin at 34 for this size, 3 pixels off" in text

    wrong = parse_prototxt(formats("fcn8s-mini.prototxt").read_text().replace("offset: 31", "offset: 34"))
    assert "BUT the net says 34" in explain_crop(derive_crops(wrong)[-1], shapes)
