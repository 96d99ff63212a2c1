"""Shapes without computing: as Caffe has them, with errors that name the layer, and bounded whatever the net says."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from converters import NetError, UnknownLayerError, parse_prototxt, read_caffemodel, read_prototxt
from converters.net.shapes import infer_blobs, infer_shapes, iter_layer_shapes
from converters.passes.merge_splits import merge_splits
from fcn_port.nets import NETS as NETS_BY_HAND
from fcn_port.porting import net_definition
from parity_tests.goldens import format_blobs, formats, shapes

NETS = ("fcn8s-mini", "layer-zoo-0", "layer-zoo-1", "v1-mini", "v0-mini")
FILTERED = ("chosen_rows", "chosen_few")
"""What a Filter lets through is known only when it runs; its shape rule gives the most."""

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 20 dim: 30 } } }\n'


def net_of(*layers: str, given: str = INPUT) -> str:
    return given + "\n".join(f"layer {{ {layer} }}" for layer in layers)


@pytest.mark.parametrize("net", NETS)
def test_every_blob_has_caffes_shape(net: str) -> None:
    """In Caffe's order too, which is that of the recording."""
    found = infer_shapes(read_prototxt(formats(f"{net}.prototxt")))
    expected = {name: blob.shape for name, blob in format_blobs(net).items()}
    assert {k: v for k, v in found.items() if k not in FILTERED} == {
        k: v for k, v in expected.items() if k not in FILTERED
    }
    assert list(found) == list(expected)


@pytest.mark.parametrize("net", ("fcn8s-mini", "layer-zoo-0", "layer-zoo-1"))
def test_every_learnable_blob_has_caffes_shape(net: str) -> None:
    model = read_caffemodel(formats(f"{net}.caffemodel"))
    expected = {layer: tuple(blob.shape for blob in blobs) for layer, blobs in model.blobs.items() if blobs}
    assert infer_blobs(read_prototxt(formats(f"{net}.prototxt"))) == expected


@pytest.mark.parametrize("name", [name for name in NETS_BY_HAND if name in shapes()])
def test_the_fcns_have_caffes_shapes(name: str) -> None:
    """Every blob at eleven sizes, in Caffe's order, and every learnable blob, from our own definitions."""
    spec = net_definition(name)
    assert infer_blobs(spec) == shapes()[name].params
    for (h, w), expected in shapes()[name].blobs.items():
        given = {blob: (1, channels, h, w) for blob, (_, channels, _, _) in spec.inputs.items()}
        assert list(infer_shapes(spec, given).items()) == list(expected.items())


def test_the_net_in_a_caffemodel_has_the_same_shapes() -> None:
    """There Caffe wrote its Split layers too."""
    spec = read_caffemodel(formats("fcn8s-mini.caffemodel")).spec
    assert spec is not None
    expected = {name: blob.shape for name, blob in format_blobs("fcn8s-mini").items()}
    assert infer_shapes(merge_splits(spec)) == expected


def test_input_shapes_can_be_replaced() -> None:
    spec = read_prototxt(formats("fcn8s-mini.prototxt"))
    found = infer_shapes(spec, {"data": (2, 3, 75, 122)})
    assert found["data"] == (2, 3, 75, 122)
    assert found["pool5"] == (2, infer_shapes(spec)["pool5"][1], 9, 10)
    assert found["score"] == (2, 7, 75, 122)
    with pytest.raises(NetError, match="no input 'image'"):
        infer_shapes(spec, {"image": (1, 3, 10, 10)})


def test_multiply_accumulates() -> None:
    spec = parse_prototxt(
        net_of(
            'name: "c" type: "Convolution" bottom: "data" top: "c" '
            "convolution_param { num_output: 8 kernel_size: 3 stride: 2 }",
            'name: "d" type: "Deconvolution" bottom: "c" top: "d" '
            "convolution_param { num_output: 8 group: 8 kernel_size: 4 stride: 2 }",
            'name: "i" type: "InnerProduct" bottom: "data" top: "i" inner_product_param { num_output: 10 }',
        )
    )
    macs = {row.layer.name: row.macs for row in iter_layer_shapes(spec)}
    assert macs == {"data": 0, "c": 9 * 14 * 8 * 3 * 9, "d": 9 * 14 * 8 * 16, "i": 10 * 1800}


CONV = 'name: "c" type: "Convolution" bottom: "data" top: "c"'

POOLED = 'name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { kernel_size: 2 stride: 2 } }'
CROP = 'name: "c" type: "Crop" bottom: "data" bottom: "data" top: "c"'
SLICE = 'name: "s" type: "Slice" bottom: "data" top: "a" top: "b"'

REFUSED = [
    ('name: "r" type: "ReLU" bottom: "nothing" top: "r"', "no layer before makes bottom 'nothing'"),
    (f'{POOLED} layer {{ name: "q" type: "ReLU" bottom: "data" top: "p"', "a layer before makes top 'p' too"),
    ('name: "c" type: "Crop" bottom: "data" top: "c"', "1 bottoms; Crop takes 2"),
    ('name: "r" type: "ReLU" bottom: "data" top: "a" top: "b"', "2 tops; ReLU takes 1"),
    (
        f"{CONV} convolution_param {{ num_output: 4 kernel_size: 50 }}",
        r"top 'c' would be \(1, 4, -29, -19\).*\(bottoms: 'data' \(1, 3, 20, 30\)\)(?s:.)*feed a larger one",
    ),
    (f"{CONV} convolution_param {{ num_output: 4 kernel_size: 1 group: 2 }}", "3 channels are not a multiple"),
    (f"{CROP} crop_param {{ offset: 1 }}", "20 from offset 1 on does not fit into 20"),
    (f"{CROP} crop_param {{ offset: 0 offset: 0 offset: 0 }}", "3 offsets for the 2 axes from axis 2 on"),
    (SLICE, "axis 1 of 3 cannot be cut in 2 equal parts"),
    (f"{SLICE} slice_param {{ slice_point: 3 }}", "slice point 3 is not inside axis 1 of 3"),
    (
        'name: "r" type: "Reshape" bottom: "data" top: "r" reshape_param { shape { dim: 7 dim: -1 } }',
        "1800 elements do not fit",
    ),
    ('name: "f" type: "Flatten" bottom: "data" top: "f" flatten_param { axis: 4 }', "axis 4 of a blob with 4 axes"),
    (f'{POOLED} layer {{ name: "s" type: "Scale" bottom: "data" bottom: "p" top: "s"', "does not match the first"),
    (f'{POOLED} layer {{ name: "e" type: "Eltwise" bottom: "data" bottom: "p" top: "e"', "must have one shape"),
    (f'{POOLED} layer {{ name: "e" type: "Concat" bottom: "data" bottom: "p" top: "e"', "equal but for axis 1"),
    ('name: "a" type: "ArgMax" bottom: "data" top: "a" argmax_param { axis: 1 top_k: 4 }', "top_k 4 of 3 values"),
    ('name: "s" type: "SPP" bottom: "data" top: "s" spp_param { pyramid_height: 4000000000 }', "need pad"),
    (
        'name: "t" type: "Tile" bottom: "data" top: "t" tile_param { tiles: 100000000 } } '
        'layer { name: "u" type: "Tile" bottom: "t" top: "u" tile_param { axis: 2 tiles: 100000000 } } '
        'layer { name: "v" type: "Tile" bottom: "u" top: "v" tile_param { axis: 3 tiles: 10000000 }',
        r"more than 2\^63 elements",
    ),
    (
        f"{CONV} convolution_param {{ num_output: 4000000000 kernel_size: 1 }}",
        r"Caffe counts to 2\^31 - 1 along an axis",
    ),
]


@pytest.mark.parametrize(("layer", "problem"), REFUSED)
def test_a_net_that_caffe_refuses(layer: str, problem: str) -> None:
    """The error names the layer, its line, its bottoms and the reason."""
    spec = parse_prototxt(net_of(layer), path="nets/odd.prototxt")
    with pytest.raises(NetError, match=problem) as caught:
        infer_shapes(spec)
    assert str(caught.value).startswith("nets/odd.prototxt: layer '")
    assert ", line 2)" in str(caught.value)


def test_input_dims_are_bounded() -> None:
    """Dims whose product passes 2^63, and none at all."""
    for shape, problem in (("dim: 2147483647 " * 3, r"more than 2\^63"), ("dim: 0 dim: 3", "--input data=")):
        given = f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {shape} }} }} }}'
        with pytest.raises(NetError, match=problem):
            infer_shapes(parse_prototxt(given))
    with pytest.raises(NetError, match="no shape for its input"):
        infer_shapes(parse_prototxt('layer { name: "data" type: "Input" top: "data" }'))


def test_unknown_layer_type_names_layer_type_and_line() -> None:
    spec = parse_prototxt(net_of('name: "prior"\n type: "Prioritise" bottom: "data" top: "p"'), path="ssd.prototxt")
    with pytest.raises(UnknownLayerError) as caught:
        infer_shapes(spec)
    assert str(caught.value) == (
        "ssd.prototxt: layer 'prior' (Prioritise, line 2): unsupported layer type 'Prioritise'\n"
        '  add it with @register_layer("Prioritise"), on the command line by --register FILE.py '
        "(converters/net/layer.py shows how), or compute only what does not need it: CaffeNet(spec, outputs=[BLOB])"
    )


@pytest.mark.parametrize(
    ("kind", "meant"),
    [
        ("Relu", "ReLU"),
        ("BatchNormal", "BatchNorm"),
        ("ROIPoolling", "ROIPooling"),
        ("IP", None),
        *((kind, None) for kind in ("ROIPooling2", "OuterProduct", "RegionLoss", "Resize", "FrcnnProposalTarget")),
    ],
)
def test_a_misspelt_layer_type_is_told_what_is_meant(kind: str, meant: str | None) -> None:
    with pytest.raises(UnknownLayerError) as caught:
        infer_shapes(parse_prototxt(net_of(f'name: "it" type: "{kind}" bottom: "data" top: "t"')))
    assert f"did you mean '{meant}'" in str(caught.value) if meant else "did you mean" not in str(caught.value)


@pytest.mark.parametrize(("name", "meant"), [("ProposalLayr", "Python:ProposalLayer"), ("MyLayer", None)])
def test_classes_of_python_layers_are_not_alike_for_being_layers(name: str, meant: str | None) -> None:
    layer = f'name: "p" type: "Python" bottom: "data" top: "p" python_param {{ module: "m" layer: "{name}" }}'
    with pytest.raises(UnknownLayerError) as caught:
        infer_shapes(parse_prototxt(net_of(layer)))
    assert f"did you mean '{meant}'" in str(caught.value) if meant else "did you mean" not in str(caught.value)


def test_a_python_layer_without_a_class_is_told_so() -> None:
    with pytest.raises(UnknownLayerError, match="python_param does not name a layer"):
        infer_shapes(parse_prototxt(net_of('name: "p" type: "Python" bottom: "data" top: "p"')))


def test_unknown_python_layer_names_its_class() -> None:
    layer = 'name: "p" type: "Python" bottom: "data" top: "p" python_param { module: "my_layers" layer: "Mystery" }'
    with pytest.raises(UnknownLayerError, match=r"my_layers\.Mystery"):
        infer_shapes(parse_prototxt(net_of(layer)))


def test_shapes_need_no_torch() -> None:
    """Reading a net and working out its shapes must not pay for importing torch."""
    code = (
        "import sys; from converters import read_prototxt; from converters.net.shapes import infer_shapes; "
        f"infer_shapes(read_prototxt({str(formats('layer-zoo-1.prototxt'))!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_wrong_rounding_is_noticed() -> None:
    """The recording tells a pooling that rounds down from Caffe's."""
    text = formats("fcn8s-mini.prototxt").read_text().replace("pool: MAX", "pool: MAX round_mode: FLOOR")
    found = infer_shapes(parse_prototxt(text))
    assert np.any([found[name] != blob.shape for name, blob in format_blobs("fcn8s-mini").items()])
