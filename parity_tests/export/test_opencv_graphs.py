"""What is put between nodes for OpenCV: in each layer's form, for kernels of 16 bits, where settings are not said."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import pytest

from converters import CaffeFormatError, CaffeNet, parse_prototxt, read_prototxt
from converters.export import ExportError, OnnxOptions, build_onnx
from converters.passes import to_deploy
from fcn_port.exporting import with_random_weights
from fcn_port.onnx_export import source_of
from parity_tests.goldens import GOLDEN

FILES = sorted([*(GOLDEN / "layers").glob("*.prototxt"), *(GOLDEN / "formats").glob("*.prototxt")])
POINTS = """input: "data" input_shape { dim: 1 dim: 4 dim: 6 dim: 6 }
layer { name: "a" type: "Convolution" bottom: "data" top: "a"
  convolution_param { num_output: 4 kernel_size: 1 pad: 1 } }
layer { name: "b" type: "Convolution" bottom: "a" top: "b"
  convolution_param { num_output: 4 group: 4 kernel_size: 3 pad: 1 dilation: 2 } }
layer { name: "c" type: "Deconvolution" bottom: "b" top: "c"
  convolution_param { num_output: 4 kernel_size: 1 pad: 1 } }
layer { name: "d" type: "Deconvolution" bottom: "c" top: "d"
  convolution_param { num_output: 4 kernel_size: 2 group: 2 } }
layer { name: "e" type: "Scale" bottom: "d" top: "e" }
"""


def operators(net: CaffeNet, target: str, *, fp16: bool) -> Counter[str]:
    """The operators of a net's form by how often each is there; none where it is refused."""
    source = source_of(net)
    with suppress(ExportError):
        made = build_onnx(source.spec, source.arrays, OnnxOptions(target=target, fp16=fp16))
        return Counter(node.op_type for node in made.graph.nodes)
    return Counter()


@pytest.mark.parametrize("fp16", [False, True])
@pytest.mark.parametrize("target", ["opencv4", "opencv5"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_net_is_written_or_refused(path: object, target: str, fp16: bool) -> None:
    """Also where a Conv says neither strides nor dilations, or its kernels are computed."""
    try:
        net = with_random_weights(CaffeNet(to_deploy(read_prototxt(path)))).eval()  # type: ignore[arg-type]
    except CaffeFormatError:
        pytest.skip("a net that is refused")
    operators(net, target, fp16=fp16)


@pytest.mark.parametrize("target", ["opencv4", "opencv5"])
def test_kernels_of_16_bits_have_the_same_nodes_around_them(target: str) -> None:
    net = with_random_weights(CaffeNet(parse_prototxt(POINTS))).eval()
    whole, half = (operators(net, target, fp16=fp16) for fp16 in (False, True))
    names = "Pad", "Slice", "Reshape"
    assert [half[name] for name in names] == [whole[name] for name in names] == [2 - (target == "opencv4"), 1, 1]
