"""Python source written of a net stands alone, loads the same state dict and gives the same numbers."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from converters.errors import NetError
from converters.execution.caffe_net import CaffeNet
from converters.execution.state_dict import to_state_dict
from converters.export.python import Form, Site, class_name, form, python_source
from converters.formats.caffemodel import read_caffemodel
from converters.formats.prototxt import parse_prototxt, read_prototxt
from converters.layers import Layer, register_layer
from converters.layers import im2col as columns
from converters.net.spec import NetSpec
from fcn_port.inspection import input_shapes
from fcn_port.nets import NETS
from fcn_port.nets.record import to_spec
from parity_tests.goldens import compare, format_blobs, formats
from parity_tests.nets import narrow_net, random_inputs, with_random_weights
from parity_tests.tolerances import tolerance

FORMATS = ("fcn8s-mini", "layer-zoo-0", "layer-zoo-1", "v0-mini", "v1-mini")


@pytest.fixture(autouse=True)
def plain_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source has nn.Conv2d, and beside the same in CaffeNet it is held to the last bit."""
    monkeypatch.setattr(columns, "is_faster_by_im2col", lambda *layer: False)


def module_of(text: str) -> ModuleType:
    """The source as a module, as if it had been imported."""
    module = ModuleType("exported")
    exec(compile(text, "exported.py", "exec"), module.__dict__)
    return module


def made_from(spec: NetSpec) -> nn.Module:
    """The net of the source that is written of `spec`."""
    net: nn.Module = getattr(module_of(python_source(spec)), class_name(spec))()
    return net


def outputs(net: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    with torch.no_grad():
        found = net(*inputs.values())
    return found if isinstance(found, dict) else {"": found}


def assert_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Equal to the last bit."""
    assert list(found) == list(expected)
    for name, blob in expected.items():
        torch.testing.assert_close(found[name], blob, rtol=0, atol=0, equal_nan=True, msg=f"{name} differs")


@dataclass(frozen=True)
class Case:
    """A net with weights and inputs."""

    spec: NetSpec
    state: Mapping[str, Tensor]
    inputs: Mapping[str, Tensor]


def format_case(name: str) -> Case:
    model, blobs = read_caffemodel(formats(f"{name}.caffemodel")), format_blobs(name)
    spec = read_prototxt(formats(f"{name}.prototxt"))
    inputs = {key: torch.from_numpy(np.array(blobs[key])) for key in CaffeNet(spec).inputs}
    return Case(spec, to_state_dict(model, spec=spec), inputs)


@pytest.mark.parametrize("name", FORMATS)
def test_nets_in_files_give_caffes_numbers(name: str) -> None:
    case = format_case(name)
    net, reference = made_from(case.spec), CaffeNet(case.spec)
    for each in (net, reference):
        each.load_state_dict(case.state)
    assert list(net.state_dict()) == list(reference.state_dict())
    found = outputs(net, case.inputs)
    assert_same(found, outputs(reference, case.inputs))
    recorded = format_blobs(name)
    for blob, values in found.items():
        blob = blob or reference.outputs[0]
        if values.numel() == recorded[blob].size:  # Filter's tops are as large as they happen to be
            assert compare(values.numpy(), recorded[blob]) <= tolerance("caffenet-zoo"), blob


@pytest.mark.parametrize("name", NETS)
def test_hand_written_nets(name: str) -> None:
    hand_written = with_random_weights(narrow_net(name))
    net = made_from(to_spec(hand_written, input_shapes(hand_written, (64, 64)), name=name))
    net.load_state_dict(hand_written.state_dict())
    assert list(net.state_dict()) == list(hand_written.state_dict())
    for size in ((64, 64), (75, 101)):
        inputs = random_inputs(hand_written, size)
        assert_same(outputs(net, inputs), outputs(hand_written, inputs))


def all_sources() -> dict[str, str]:
    texts = {name: python_source(read_prototxt(formats(f"{name}.prototxt"))) for name in FORMATS}
    for name in NETS:
        with torch.device("meta"):
            net = narrow_net(name)
        texts[name] = python_source(to_spec(net, input_shapes(net, (64, 64)), name=name))
    texts["odd"] = python_source(parse_prototxt(ODD))
    return texts


def test_sources_are_formatted_and_stand_alone(tmp_path) -> None:
    for name, text in all_sources().items():
        (tmp_path / f"{name.replace('-', '_')}.py").write_text(text)
        for node in ast.walk(ast.parse(text)):
            imported = [node.module] if isinstance(node, ast.ImportFrom) else []
            imported += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert {str(module).partition(".")[0] for module in imported} <= {"torch", "typing"}
    for arguments in (["format", "--check"], ["check", "--select", "E,F,W,I,B,UP", "--ignore", "E501,B905"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "--isolated", str(tmp_path)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_source_of_fcn8s_reads_as_if_written_by_hand() -> None:
    text = python_source(read_prototxt(formats("fcn8s-mini.prototxt")))
    assert "self.conv1_1 = nn.Conv2d(3, 4, 3, padding=100)" in text
    assert "        x = F.relu(self.conv1_2(x))\n        x = F.max_pool2d(x, 2, ceil_mode=True)\n\n" in text
    assert "        score_pool4c = crop(score_pool4, upscore2, axis=2, offsets=(5, 5))\n" in text
    assert text.count("\ndef ") == 1, "only crop is not in PyTorch"
    assert len(text.splitlines()) < 100


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("ceil_mode=True", "ceil_mode=False"),
        ("offsets=(5, 5)", "offsets=(4, 4)"),
        ("padding=100", "padding=98"),
        ("upscore2 + score_pool4c", "upscore2"),
    ],
)
def test_a_wrong_source_is_seen(right: str, wrong: str) -> None:
    case = format_case("fcn8s-mini")
    text = python_source(case.spec)
    assert right in text
    net = getattr(module_of(text.replace(right, wrong)), class_name(case.spec))()
    net.load_state_dict(case.state)
    try:
        found = outputs(net, case.inputs)[""].numpy()
        assert compare(found, format_blobs("fcn8s-mini")["score"]) > tolerance("caffenet-zoo")
    except (AssertionError, RuntimeError):  # another shape, or a crop that reaches past the end
        pass


# Names that Python would not have

ODD = r"""
name: "2 \"\"\" nets\n"
layer { name: "in" type: "Input" top: "x" top: "crop" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }
layer { name: "forward" type: "Convolution" bottom: "x" top: "for"
        convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "conv1/7x7_s2.a" type: "Convolution" bottom: "for" top: "conv1/7x7"
        convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "conv1_7x7_s2_a" type: "PReLU" bottom: "conv1/7x7" top: "conv1/7x7" }
layer { name: "\"); raise SystemExit(7) #" type: "Convolution" bottom: "crop" top: "import os; F"
        convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "__private" type: "Scale" bottom: "import os; F" top: "self" scale_param { bias_term: true } }
layer { name: "1x1" type: "Eltwise" bottom: "conv1/7x7" bottom: "self" top: "\303\251t\303\251" }
layer { name: "training" type: "InnerProduct" bottom: "self" top: "'\\\"\n" inner_product_param { num_output: 2 } }
"""


def test_odd_names_keep_their_keys() -> None:
    spec = parse_prototxt(ODD)
    net, reference = made_from(spec), CaffeNet(spec)
    generator = torch.Generator().manual_seed(2)
    state = {key: torch.randn(value.shape, generator=generator) for key, value in reference.state_dict().items()}
    for each in (net, reference):
        each.load_state_dict(state)
    assert list(net.state_dict()) == list(reference.state_dict()) == list(state)
    inputs = {name: torch.randn(1, 3, 9, 9, generator=generator) for name in ("x", "crop")}
    assert_same(outputs(net, inputs), outputs(reference, inputs))
    whole = nn.Sequential(nn.Identity(), net)
    assert list(whole.state_dict()) == [f"1.{key}" for key in state]
    whole.load_state_dict({f"1.{key}": value for key, value in state.items()})


def test_blobs_that_layers_share_are_there_once_and_the_last_of_a_file_counts() -> None:
    case = format_case("layer-zoo-1")
    net = made_from(case.spec)
    assert "shared_b.weight" not in net.state_dict()
    net.load_state_dict({**case.state, "shared_ip.weight": torch.full((4, 4), 3.0)})
    assert (net.state_dict()["shared_a.weight"] == 3).all()


BATCH_NORM = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 5 dim: 6 } } }
layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" batch_norm_param { moving_average_fraction: 0.9 } }
layer { name: "frozen" type: "BatchNorm" bottom: "bn" top: "frozen" batch_norm_param { use_global_stats: true } }
"""


def test_training_gathers_statistics_as_caffe_does() -> None:
    spec = parse_prototxt(BATCH_NORM)
    net, reference = made_from(spec), CaffeNet(spec)
    assert not net.training
    generator = torch.Generator().manual_seed(3)
    for _ in range(2):
        inputs = {"data": torch.randn(4, 3, 5, 6, generator=generator)}
        assert_same(outputs(net.train(), inputs), outputs(reference.train(), inputs))
    for key, value in reference.state_dict().items():
        torch.testing.assert_close(net.state_dict()[key], value, rtol=0, atol=0)
    assert_same(outputs(net.eval(), inputs), outputs(reference.eval(), inputs))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        ('"BatchNorm" batch_norm_param { use_global_stats: false }', (1, 3)),
        ('"BatchNorm" batch_norm_param { eps: 0.0 }', (2, 3)),
        ('"BN"', (1, 3, 1, 1)),
        ('"BN" bn_param { eps: 0.0 frozen: true }', (2, 3, 4, 5)),
    ],
)
def test_what_pytorch_refuses_to_normalize_is_normalized(layer: str, shape: tuple[int, ...]) -> None:
    """A variance of one number is 0, and an epsilon of 0 is none, as in Caffe."""
    text = f'layer {{ name: "in" type: "Input" top: "data" input_param {{ shape {{ dim: {list(shape)} }} }} }}\n'
    spec = parse_prototxt(f'{text} layer {{ name: "l" bottom: "data" top: "l" type: {layer} }}')
    net = made_from(spec)
    state = {key: torch.full_like(value, 1.0 + place) for place, (key, value) in enumerate(net.state_dict().items())}
    net.load_state_dict(state)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    expected = {
        '"BatchNorm" batch_norm_param { use_global_stats: false }': 0 * x,
        '"BatchNorm" batch_norm_param { eps: 0.0 }': (x - 1 / 3) / (2 / 3) ** 0.5,  # the sums by the factor, 3
        '"BN"': 0 * x + 2,
        '"BN" bn_param { eps: 0.0 frozen: true }': (x - 3) / 2 + 2,
    }
    (found,) = outputs(net, {"data": x}).values()
    torch.testing.assert_close(found, expected[layer])


@register_layer("Cube")
class Cube(Layer):
    """A layer type from outside."""

    def top_shapes(self, bottoms):
        return (bottoms[0],)

    def forward(self, bottoms, blobs, *, training=False):
        return (bottoms[0] ** 3,)


def test_a_type_without_a_form_is_named_and_gets_one() -> None:
    spec = parse_prototxt(BATCH_NORM + 'layer { name: "cubed" type: "Cube" bottom: "frozen" top: "cubed" }')
    with pytest.raises(
        NetError, match=r"layer 'cubed' \(Cube, line 5\): unsupported layer type in Python source: Cube has no form"
    ):
        python_source(spec)

    with pytest.warns(DeprecationWarning, match="the method to_python"):  # as types were given a form up to 0.1

        @form.register
        def _(params: Cube, site: Site) -> Form:
            return Form((f"{site.x}.pow(3)",))

    inputs = {"data": torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(4))}
    assert_same(outputs(made_from(spec), inputs), outputs(CaffeNet(spec), inputs))
