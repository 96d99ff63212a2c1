"""Every way out: checked against the module, written whole or not at all, and right at sizes it was not made at."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from converters.errors import NetError
from converters.execution.caffe_net import CaffeNet
from converters.export import checking as check
from converters.export.checking import ExportError
from converters.formats.prototxt import parse_prototxt
from converters.safety import remove_abandoned
from fcn_port.cli import run
from fcn_port.export_files import SUFFIXES
from fcn_port.exporting import _WRITERS, definition, export, export_net
from fcn_port.loading import load
from fcn_port.nets.record import NotCaffes
from parity_tests.export.test_export_python import ODD
from parity_tests.goldens import SAMPLE_GOLDEN, compare, formats
from parity_tests.nets import CentredCrop, narrow_net, random_inputs, with_random_weights
from parity_tests.test_architecture import ROOT
from parity_tests.tolerances import tolerance

OTHER_SIZES = [(32, 32), (67, 101), (96, 160), (141, 50), (200, 131)]
"""None of them is one that `export` looks at."""

MINI = formats("fcn8s-mini.caffemodel")
SAMPLE = ROOT / "weights" / "sample" / "shapes-fcn8s.caffemodel"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """fcn8s-mini in every format."""
    folder = tmp_path_factory.mktemp("written")
    return {to: Path(export(MINI, to=to, out=folder / f"mini{end}").files[0]) for to, end in SUFFIXES.items()}


@pytest.mark.parametrize("to", SUFFIXES)
def test_another_export_takes_no_part_away(to: str, tmp_path: Path) -> None:
    """Whoever begins to write the same files takes away what killed ones left, and nothing that is being written."""
    out = tmp_path / f"mini{SUFFIXES[to]}"

    def another(done: int, total: int) -> None:
        for path in (out, out.with_suffix(".prototxt")):
            remove_abandoned(path)

    report = export(MINI, to=to, out=out, progress=another)
    assert sorted(map(str, tmp_path.iterdir())) == sorted(report.files)


def as_caffe_net(net: nn.Module) -> CaffeNet:
    caffe_net = CaffeNet(definition(net, name="net"))
    caffe_net.load_state_dict(net.state_dict())
    return caffe_net


def onnx_outputs(path: Path, inputs: dict[str, Tensor]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == list(inputs)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {k: x.numpy() for k, x in inputs.items()}), strict=True))


def outputs(net: nn.Module, inputs: dict[str, Tensor]) -> dict[str, np.ndarray]:
    with torch.no_grad():
        found = net(*inputs.values())
    return {name: x.numpy() for name, x in (found if isinstance(found, dict) else {"score": found}).items()}


# ONNX and torch.export


@pytest.mark.parametrize(
    ("name", "kind"),
    [("voc-fcn8s", "hand-written"), ("siftflow-fcn16s", "CaffeNet"), ("nyud-fcn32s-color-hha", "hand-written")],
)
def test_onnx_is_right_at_any_size(name: str, kind: str, tmp_path: Path) -> None:
    hand_written = with_random_weights(narrow_net(name))
    net = hand_written if kind == "hand-written" else as_caffe_net(hand_written)
    report = export_net(net, to="onnx", out=tmp_path / "net.onnx")
    assert report.any_size and report.error <= tolerance("onnx")
    for size in OTHER_SIZES:
        inputs = random_inputs(hand_written, size)
        found, expected = onnx_outputs(tmp_path / "net.onnx", inputs), outputs(hand_written, inputs)
        assert list(found) == list(expected)
        for key, blob in expected.items():
            assert compare(found[key], blob) <= tolerance("onnx"), size


def test_onnx_gives_caffes_numbers_and_says_where_it_is_from(tmp_path: Path) -> None:
    (file,) = export(SAMPLE, to="onnx", out=tmp_path / "sample.onnx").files
    with np.load(SAMPLE_GOLDEN) as recorded:
        found = onnx_outputs(Path(file), {"data": torch.from_numpy(recorded["data"])})
        assert compare(found["score"], recorded["score"]) <= tolerance("onnx")
    model = onnx.load(file)
    assert {p.key for p in model.metadata_props} >= {"tool", "release", "preprocessing", "classes"}
    data = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in data] == ["batch", 3, "height", "width"]


def test_torch_export_is_right_at_any_size(written: dict[str, Path]) -> None:
    program = torch.export.load(str(written["torch-export"])).module()
    net = load(MINI)
    for size in OTHER_SIZES:
        inputs = random_inputs(net, size)
        assert compare(outputs(program, inputs)["score"], outputs(net, inputs)["score"]) <= tolerance("columns")


ONE_PLACE = """
layer { name: "i" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 64 dim: 64 } } }
layer { name: "score_fr" type: "Convolution" bottom: "data" top: "score_fr"
        convolution_param { num_output: 5 kernel_size: 7 stride: 32 pad: 3 } }
layer { name: "upscore" type: "Deconvolution" bottom: "score_fr" top: "upscore"
        convolution_param { num_output: 5 kernel_size: 64 stride: 32 bias_term: false } }
layer { name: "score" type: "Crop" bottom: "upscore" bottom: "data" top: "score" crop_param { axis: 2 offset: 16 } }
"""


@pytest.mark.parametrize("to", ["onnx", "torch-export"])
def test_a_map_of_one_place_is_no_special_size(to: str, tmp_path: Path) -> None:
    """An image of 32 has one place at a stride of 32, and torch.export makes much of sizes of one."""
    net = with_random_weights(CaffeNet(parse_prototxt(ONE_PLACE)))
    assert export_net(net, to=to, out=tmp_path / "net").any_size
    program = None if to == "onnx" else torch.export.load((tmp_path / "net").open("rb")).module()
    for size in ((32, 32), (32, 90)):
        inputs = {"data": torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(5))}
        found = outputs(program, inputs) if program else onnx_outputs(tmp_path / "net", inputs)
        assert compare(found["score"], outputs(net, inputs)["score"]) <= tolerance("onnx")


WIDE = """
layer { name: "i" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 64 dim: 64 } } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c"
        convolution_param { num_output: 2 kernel_size: 11 stride: 4 } }
layer { name: "score" type: "Convolution" bottom: "c" top: "score" convolution_param { num_output: 2 kernel_size: 10 } }
"""
"""Ten places at a stride of four, the first of which needs eleven pixels: 47, and none fewer."""


@pytest.mark.parametrize("to", ["onnx", "torch-export", "python"])
def test_the_least_size_is_said_and_true(to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = with_random_weights(CaffeNet(parse_prototxt(WIDE)))
    report = export_net(net, to=to, out=tmp_path / "net")
    assert report.any_size and report.least_size == 47 and len({*map(str, report.inputs)}) >= 4
    program = torch.export.load((tmp_path / "net").open("rb")).module() if to == "torch-export" else None
    inputs = {"data": torch.randn(1, 3, 47, 51, generator=torch.Generator().manual_seed(5))}
    if to != "python":
        found = outputs(program, inputs) if program else onnx_outputs(tmp_path / "net", inputs)
        assert compare(found["score"], outputs(net, inputs)["score"]) <= tolerance("onnx")
    with pytest.raises(NetError, match="nothing is left"):
        net(torch.zeros(1, 3, 46, 51))
    (tmp_path / "net.prototxt").write_text(WIDE)
    if to == "python":
        assert run(["export", str(tmp_path / "net.prototxt"), "--to", to, "--out", str(tmp_path / "a.py")]) == 0
        assert "takes images from 47x47 up" in capsys.readouterr().err


@pytest.mark.parametrize("to", ["onnx", "torch-export"])
def test_a_net_that_counts_its_places_takes_its_own_size_only(to: str, tmp_path: Path) -> None:
    report = export(formats("v1-mini.caffemodel"), to=to, prototxt=formats("v1-mini.prototxt"), out=tmp_path / "net")
    assert not report.any_size and len({shape[2:] for each in report.inputs for shape in each.values()}) == 1


def test_a_size_can_be_fixed(tmp_path: Path) -> None:
    report = export(MINI, to="onnx", out=tmp_path / "net.onnx", size=(50, 64))
    assert report.inputs == ({"data": (1, 3, 50, 64)}, {"data": (3, 3, 50, 64)}) and not report.any_size
    shape = onnx.load(tmp_path / "net.onnx").graph.output[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in shape] == ["batch", 7, 50, 64]


NAMES_OF_OPERATORS = """
layer { name: "i" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 8 dim: 8 } } }
layer { name: "exp" type: "TanH" bottom: "data" top: "exp" }
layer { name: "tanh" type: "Exp" bottom: "exp" top: "tanh" }
layer { name: "relu" type: "ReLU" bottom: "exp" top: "relu" }
"""


@pytest.mark.parametrize("text", [NAMES_OF_OPERATORS, ODD], ids=["operators", "odd"])
def test_onnx_outputs_have_caffes_names_whatever_they_are(text: str, tmp_path: Path) -> None:
    net = CaffeNet(parse_prototxt(text))
    export_net(net, to="onnx", out=tmp_path / "net.onnx")
    assert [output.name for output in onnx.load(tmp_path / "net.onnx").graph.output] == list(net.outputs)


# The others


@pytest.mark.parametrize("to", ["caffe", "hdf5", "safetensors"])
def test_files_of_weights_hold_the_same_bits(to: str, written: dict[str, Path]) -> None:
    expected, found = load(MINI).state_dict(), load(written[to]).state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_safetensors_keeps_the_card(tmp_path: Path) -> None:
    first, again = tmp_path / "first.safetensors", tmp_path / "again.safetensors"
    export(SAMPLE, to="safetensors", out=first)
    export(first, to="safetensors", out=again)
    assert again.read_bytes() == first.read_bytes()
    assert load(again).card == load(SAMPLE).card and load(again).card.release == "sample"


# Checked before it is called done


def test_a_layer_that_is_none_of_caffes_is_named(tmp_path: Path) -> None:
    net = load(MINI)
    net.score = CentredCrop(31)
    with pytest.raises(NotCaffes, match="layer 'score': no Caffe layer is known for CentredCrop"):
        export_net(net, to="caffe", out=tmp_path / "net.caffemodel")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("to", SUFFIXES)
def test_what_computes_something_else_is_never_written(to: str, tmp_path: Path) -> None:
    """A net whose class turns the scores afterwards, in their own memory, which no definition tells."""
    net = load(MINI)
    kind: Any = type(net)

    def forward(self: nn.Module, *given: Tensor, **named: Tensor) -> Tensor:
        found: Tensor = kind.forward(self, *given, **named)
        return found.copy_(found.roll(1, -1))

    net.__class__ = type("Turned", (kind,), {"forward": forward})
    out = tmp_path / f"net{SUFFIXES[to]}"
    out.write_text("an earlier file")
    with pytest.raises(ExportError, match="differs by"):
        export_net(net, to=to, out=out)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert out.read_text() == "an earlier file"


def test_rounding_that_a_softmax_magnifies_is_no_error() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softmax(1)).eval()
    shapes = [{"data": (1, 3, 64, 64)}]
    with torch.no_grad():
        net[0].weight *= 3

    def changed(x: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return {"": net(x)}

    rounded = check.check(net, lambda inputs: changed(inputs["data"] * (1 + 1e-7)), shapes, outputs=[""])
    assert rounded.error > check.TOLERANCE
    with pytest.raises(ExportError, match="differs"):
        check.check(net, lambda inputs: changed(inputs["data"] * 1.01), shapes, outputs=[""])


def test_a_net_in_training_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"call eval\(\)"):
        export_net(load(MINI).train(), to="onnx", out=tmp_path / "net.onnx")


# The verb


def test_python_of_a_prototxt_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "net.py"
    assert run(["export", "--to", "python", str(formats("fcn8s-mini.prototxt")), "-o", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{out}  (")
    error = re.search(r"largest difference from the module (\S+)", said.err)
    assert error is not None and float(error[1]) <= tolerance("columns")
    assert "class Fcn8sMini(nn.Module):" in out.read_text()


def test_every_format_of_the_table_has_a_writer() -> None:
    assert set(_WRITERS) | {"onnx"} == set(SUFFIXES)


def test_the_report_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "mini.caffemodel.h5")
    assert run(["export", str(MINI), "--to", "caffe", "-o", out, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["files"] == [out, str(tmp_path / "mini.prototxt")]
    assert report["format"] == "caffe" and report["error"] == 0 and len(report["inputs"]) == 5


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(check, "find_spec", lambda name: None)
    assert run(["export", str(MINI), "--to", "onnx", "-o", str(tmp_path / "net.onnx")]) == 1
    assert "pip install 'fcn-port[onnx]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def of_one_size(folder: Path) -> bytes:
    """A .caffemodel whose layer has a weight for each place."""
    given = 'input: "data" input_shape { dim: 1 dim: 3 dim: 6 dim: 6 } layer { name: "ip" type: "InnerProduct" '
    spec = parse_prototxt(given + 'bottom: "data" top: "ip" inner_product_param { num_output: 2 } }')
    export_net(with_random_weights(CaffeNet(spec)), to="caffe", out=folder / "fixed.caffemodel")
    return (folder / "fixed.caffemodel").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["PROTOTXT", "--to", "onnx"], 3, "a net without weights"),
        (["MINI", "--to", "caffe", "-o", "MINI"], 2, "this file is read, and would be"),
        (["no-such-release", "--to", "caffe"], 2, "no-such-release"),
        (["missing.caffemodel", "--to", "caffe"], 2, "missing.caffemodel"),
        (["MINI", "--to", "coreml"], 2, "coreml"),
        (["MINI", "--to", "caffe", "--size", "64"], 2, "--size is for onnx"),
        (["MINI", "--to", "onnx", "--outputs", "nope"], 2, "the net makes no blob 'nope'"),
        (["MINI", "--to", "onnx", "--input", "nope=1x3x9x9"], 2, "the net has no input 'nope'"),
        (["FIXED", "--to", "onnx", "--size", "9x8"], 2, "layer 'ip' has weights 2x108, and at this size they would be"),
        (["FIXED", "--to", "torch-export", "--size", "9x8"], 2, "layer 'ip' has weights 2x108, and at this size"),
        (["MINI", "--to", "caffe", "-o", "PROTOTXT"], 2, "would replace this file"),
        (["MINI", "--to", "caffe", "-o", "new.prototxt"], 2, "weights and definition would be one file"),
        (["MINI", "--prototxt", "PROTOTXT", "--to", "onnx", "-o", "PROTOTXT"], 2, "this file is read, and would be"),
        (["MINI", "--prototxt", "PROTOTXT", "--to", "hdf5", "-o", "PROTOTXT"], 2, "this file is read, and would be"),
        (["DATA", "--to", "onnx", "--external-data", "-o", "net.onnx"], 2, "net.onnx.data: source and destination"),
        (["sample", "--to", "onnx"], 2, "sample.onnx: this file is there already"),
    ],
)
def test_wrong_use(arguments: list[str], status: int, said: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("FCN_PORT_WEIGHTS", str(tmp_path / "weights"))
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    contents = {"mini.caffemodel": MINI.read_bytes(), "mini.prototxt": formats("fcn8s-mini.prototxt").read_bytes()}
    contents["fixed.caffemodel"] = of_one_size(tmp_path)
    contents |= {"sample.onnx": b"an earlier file", "net.onnx": b"another", "net.onnx.data": MINI.read_bytes()}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    names = {
        "MINI": "mini.caffemodel",
        "PROTOTXT": "mini.prototxt",
        "DATA": "net.onnx.data",
        "FIXED": "fixed.caffemodel",
    }
    assert run(["export", *(names.get(word, word) for word in arguments)]) == status
    assert said in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents
