"""`export --to onnx --target`: forms for a program, the check in it, and what is said where it is wrong or missing."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import ModuleType

import cv2
import numpy as np
import onnx
import pytest
import torch

from converters.export import (
    Checked,
    Claim,
    ExportError,
    OnnxOptions,
    ProgramError,
    TargetError,
    TargetProgram,
    check_target,
    programs_of,
    run_model,
)
from converters.export.targets import checking, worker
from converters.export.targets.checking import _compare
from converters.export.targets.running import Answer
from converters.layers import pooling_onnx
from converters.layers.softmax import Reduction
from converters.layers.windows import Windows
from converters.net.onnx_form import OnnxLayer
from fcn_port.cli import run
from fcn_port.onnx_export import IMAGES, export_onnx, source_of, write_onnx
from parity_tests.export.onnx_models import caffe_net, onnx_of, serialized
from parity_tests.goldens import formats

MINI = formats("fcn8s-mini.caffemodel")


def checked(path: Path) -> str:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}["checked"]


@pytest.mark.parametrize("target", ["onnxruntime", "openvino", "opencv4", "web"])
def test_what_was_written_is_run_in_its_target_and_says_so(target: str, tmp_path: Path) -> None:
    out = tmp_path / "net.onnx"
    report = export_onnx(MINI, out, options=OnnxOptions(target=target))
    library = "onnxruntime" if target == "web" else target
    assert report.checked and report.error <= 1e-5 and len(report.inputs) == 4
    assert report.inputs[-1]["data"][0] == IMAGES > 2
    assert report.programs == (checked(out),) and checked(out).startswith(f"{library} ")


@pytest.mark.parametrize("target", [None, "onnxruntime", "openvino"])
def test_a_blob_that_is_named_twice_is_one_output(target: str | None, tmp_path: Path) -> None:
    options = OnnxOptions(outputs=("pool3", "score_pool4", "pool3"), target=target)
    assert export_onnx(MINI, tmp_path / "net.onnx", options=options).checked
    model = onnx.load(tmp_path / "net.onnx")
    assert [output.name for output in model.graph.output] == ["pool3", "score_pool4"]


@pytest.mark.parametrize(
    ("target", "missing"), [("tensorrt", "tensorrt is not installed"), ("opencv5", "OpenCV 5 is not here")]
)
def test_a_program_that_is_not_here_is_told_as_not_checked(
    target: str, missing: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written for TensorRT keeps to the standard, so that ONNX Runtime says whether the numbers are right."""
    monkeypatch.delenv("FCN_PORT_OPENCV5", raising=False)
    out = tmp_path / "net.onnx"
    assert run(["export", str(MINI), "--to", "onnx", "--target", target, "-o", str(out)]) == 0
    said = capfd.readouterr().err
    assert f"{target}" in said and f"not checked ({missing}" in said
    assert ("\nnot checked\n" in f"\n{said}") == (target == "opencv5")
    assert ("onnxruntime 1." in said) == ("onnxruntime 1." in checked(out)) == (target == "tensorrt")
    assert "not checked" in checked(out)


def test_a_python_that_is_named_and_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCN_PORT_OPENCV5", "/nowhere/python")
    assert {program.missing for program in programs_of("opencv5")} == {
        "FCN_PORT_OPENCV5 is /nowhere/python, which is neither a Python nor the folder of one"
    }


def test_another_opencv_than_the_targets_is_no_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its word would stand in the file as that of the other one."""
    monkeypatch.setenv("FCN_PORT_OPENCV5", sys.executable)  # which has OpenCV 4
    out = tmp_path / "net.onnx"
    assert run(["export", str(MINI), "--to", "onnx", "--target", "opencv5", "-o", str(out)]) == 0
    why = f"not checked (FCN_PORT_OPENCV5 names a Python with OpenCV {cv2.__version__})"
    assert f"opencv5 ENGINE_NEW: {why}" in capfd.readouterr().err
    assert checked(out) == f"opencv5 ENGINE_NEW: {why}; opencv5 ENGINE_CLASSIC: {why}"


def test_the_folder_of_an_environment_is_its_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.touch()
    monkeypatch.setenv("FCN_PORT_OPENCV5", str(tmp_path))
    assert {program.python for program in programs_of("opencv5")} == {str(python)}


def test_a_wrong_target_is_an_error_that_names_the_first_blob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """ResNet's, GoogLeNet's and SqueezeNet's mistake: a pooling that rounds down."""
    zoo = formats("layer-zoo-0.caffemodel")
    right = pooling_onnx._opencv

    def floor(layer, out, part):  # type: ignore[no-untyped-def]
        settings = {
            "pool": "ave",
            "kernel_h": 3,
            "kernel_w": 3,
            "stride_h": 2,
            "stride_w": 2,
            "ceil_mode": 1,
            "pad_h": 1,
        }
        return (
            right(layer, out, part) if out.tops[0].name != "avepool" else out.make("Pooling", out.bottoms, **settings)
        )

    monkeypatch.setattr(pooling_onnx, "_opencv", floor)
    out = tmp_path / "net.onnx"
    command = ["export", str(zoo), "--to", "onnx", "--target", "opencv4", "--outputs", "avepool", "-o", str(out)]
    assert run(command) == 1 and not out.exists()
    said = capfd.readouterr().err
    assert "opencv4 4." in said and "the first blob that differs is avepool" in said and "Traceback" not in said


SHAPE_UNREAD = """input: "data" input_shape { dim: 1 dim: 3 dim: 6 dim: 5 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "size" type: "Python" bottom: "conv" top: "size" python_param { module: "shape" layer: "TensorShape" } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "the scores" }
layer { name: "tanh" type: "TanH" bottom: "conv" top: "tanh" }"""


@pytest.mark.parametrize("size", [None, (6, 5)])
def test_an_output_that_no_image_changes_is_named_with_the_others(size: tuple[int, int] | None, tmp_path: Path) -> None:
    """Nets that were made of TensorFlow's end in a Shape that nothing reads, which OpenCV gives at no size."""
    net = caffe_net(SHAPE_UNREAD)
    options = OnnxOptions(target="opencv4", size=size, batch=size and 1)
    told = "\n  OpenCV gives no output that is the same for every image, size; the others: "
    with pytest.raises(TargetError, match=re.escape(f"{told}--outputs 'the scores' --outputs tanh") + "$"):
        write_onnx(source_of(net), tmp_path / "net.onnx", options=options, beside=lambda: net)
    named = replace(options, outputs=("the scores", "tanh"))
    assert write_onnx(source_of(net), tmp_path / "net.onnx", options=named, beside=lambda: net).checked


def test_a_target_that_there_is_not(tmp_path: Path) -> None:
    assert run(["export", str(MINI), "--to", "onnx", "--target", "caffe2", "-o", str(tmp_path / "x.onnx")]) == 2
    with pytest.raises(ExportError, match="no target 'caffe2'"):
        programs_of("caffe2")
    assert run(["export", str(MINI), "--to", "caffe", "--target", "opencv5", "-o", str(tmp_path / "x.onnx")]) == 2


def test_without_torch_onnxruntime_is_the_judge(tmp_path: Path) -> None:
    from parity_tests.test_without_torch import RUN, without_torch

    out = tmp_path / "net.onnx"
    done = without_torch(
        RUN, "export", str(MINI), "--to", "onnx", "--target", "opencv4", "-o", str(out), folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert checked(out).startswith("opencv4 4.") and "not checked" not in checked(out)


def test_a_program_that_ends_or_takes_too_long_is_an_error(tmp_path: Path) -> None:
    (program,) = programs_of("onnxruntime")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x07garbage")
    with pytest.raises(TargetError, match="onnxruntime does not take this model"):
        check_target(broken, Claim([{"data": np.zeros(1, np.float32)}], [{"x": np.zeros(1)}]), target="onnxruntime")
    with pytest.raises(ProgramError, match="not done after"):
        run_model(broken, program, [], outputs=[], seconds=0.001)


def _reduced(target: str) -> str:
    """What a check says of a sum of magnitudes along the last axis."""
    net = caffe_net(
        'input: "data" input_shape { dim: 2 dim: 3 dim: 5 dim: 4 } layer { name: "r" type: "Reduction" '
        'bottom: "data" top: "r" reduction_param { operation: ASUM axis: -1 } }'
    )
    x = torch.randn(2, 3, 5, 4)
    with NamedTemporaryFile(suffix=".onnx") as file:
        file.write(serialized(onnx_of(net, target=target)))
        file.flush()
        claim = Claim([{"data": x.numpy()}], [{"r": x.abs().sum(-1).numpy()}])
        (found,) = check_target(Path(file.name), claim, target=target)
    return found.title


def test_openvino_keeps_the_axes_of_a_sum_of_magnitudes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _reduced("openvino").startswith("openvino ")
    wrong = {"SUM": "ReduceSum", "ASUM": "ReduceL1"}

    def one_node(self: Reduction, out: OnnxLayer) -> None:
        out.reduce(wrong[self.operation], out.bottoms[0], (3,), keepdims=False)

    monkeypatch.setattr(Reduction, "to_onnx", one_node)
    with pytest.raises(TargetError, match=r"r is \(\), expected \(2, 3, 5\)"):
        _reduced("openvino")


def test_openvino_takes_holes_in_a_kernel_of_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which are none; as they were written, OpenVINO ended the process."""
    net = caffe_net(
        """input: "data" input_shape { dim: 1 dim: 5 dim: 14 dim: 16 }
        layer { name: "mean" type: "Pooling" bottom: "data" top: "mean"
                pooling_param { pool: AVE global_pooling: true } }
        layer { name: "conv" type: "Convolution" bottom: "mean" top: "conv"
                convolution_param { num_output: 6 kernel_size: 1 stride_w: 3 stride_h: 1 pad_w: 2 pad_h: 0 dilation: 3 }
        }
        """
    )

    def export() -> tuple[str, ...]:
        out = tmp_path / "net.onnx"
        return write_onnx(source_of(net), out, options=OnnxOptions(target="openvino"), beside=lambda: net).programs

    (title,) = export()
    assert title.startswith("openvino ")
    monkeypatch.setattr(Windows, "apart", lambda self, axes: self.along(axes)[3])
    with pytest.raises(TargetError):
        export()


X, Y = np.ones((1, 3), np.float32), np.full((1, 3), 1e-7, np.float32)


def _compared(found: list[np.ndarray], right: list[np.ndarray], **settings: object) -> tuple[float, tuple[str, ...]]:
    claim = Claim([{}] * len(right), [{"x": each} for each in right], **settings)  # type: ignore[arg-type]
    answer = Answer("1", tuple({"x": each} for each in found))
    return _compare(claim, TargetProgram("opencv4"), answer, None)


@pytest.mark.parametrize(("program", "wrong"), [("opencv4", False), ("opencv5", False), ("onnxruntime", True)])
@pytest.mark.parametrize(("found", "right"), [((1,), ()), ((1, 1), ()), ((3, 1), (3,)), ((1, 3), (3,))])
def test_vectors_and_numbers_are_matrices_in_opencv_alone(
    found: tuple[int, ...], right: tuple[int, ...], program: str, wrong: bool
) -> None:
    claim = Claim([{}], [{"x": np.ones(right, np.float32)}])
    answer = Answer("1", ({"x": np.ones(found, np.float32)},))
    if not wrong and found != (1, 3):
        assert _compare(claim, TargetProgram(program), answer, None) == (0.0, ())
        return
    with pytest.raises(TargetError, match="expected"):
        _compare(claim, TargetProgram(program), answer, None)


def test_what_is_near_nothing_on_zeros_is_measured_by_the_noise() -> None:
    assert _compared([X, 0 * Y], [X, Y], ties=frozenset({1}))[0] == pytest.approx(1e-7)
    with pytest.raises(TargetError, match="x differs by"):
        _compared([X, 0 * Y], [X, Y])


def test_what_rounding_decides_is_said_apart_and_allowed_no_other_output() -> None:
    assert _compared([X, 0 * X], [X, X], allowed=lambda number: {"x": 2.0 * number}) == (0.0, ("x",))
    assert Checked("openvino", "1", 0.0, magnified=("x",)).title == "openvino 1: 0.0e+00 (not x: rounding decides)"
    with pytest.raises(TargetError):
        _compared([X, 0 * X], [X, X], allowed=lambda number: {"other": 2.0})


def test_opencv4_has_no_vectors() -> None:
    assert _compared([X.reshape(3, 1)], [X.reshape(3)]) == (0.0, ())
    with pytest.raises(TargetError, match="expected"):
        _compared([X], [X.reshape(3)])


PARSER = """
__version__ = "10.9"
class Logger:
    ERROR = 1
    def __init__(self, level): pass
class Builder:
    def __init__(self, logger): pass
    def create_network(self, flags): pass
class OnnxParser:
    num_errors = 1
    def __init__(self, network, logger): pass
    def parse_from_file(self, path): return {parses}
    def get_error(self, number): return "it says why"
"""


@pytest.mark.parametrize("parses", [True, False])
def test_tensorrts_parser_is_asked_and_nothing_is_called_checked(
    parses: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("tensorrt")
    exec(PARSER.format(parses=parses), module.__dict__)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    job = {"model": "net.onnx", "library": "tensorrt", "engine": None, "outputs": ["x"], "trials": [{}]}
    (tmp_path / "job.json").write_text(json.dumps({**job, "result": str(tmp_path / "result.json")}))
    worker.main(str(tmp_path / "job.json"))
    said = json.loads((tmp_path / "result.json").read_text())
    if not parses:
        assert said["problem"] == "it says why"
        return
    monkeypatch.setattr(checking, "run_model", lambda *_, **__: Answer(said["version"], (), said["not_run"]))
    program = TargetProgram("tensorrt", python=sys.executable)
    x = {"x": np.ones(1, np.float32)}
    (found,) = checking.check_target(Path("net.onnx"), Claim([x], [x]), target="tensorrt", programs=[program])
    assert found.error is None and found.version == "10.9"
    assert found.title.startswith("tensorrt: not checked (its parser takes the model, which is not run")
