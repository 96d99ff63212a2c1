"""`export --to onnx --target`: forms for a program, the check in it, and what is said where it is wrong or missing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from converters.export import (
    Claim,
    ExportError,
    OnnxOptions,
    ProgramError,
    TargetError,
    check_target,
    programs_of,
    run_model,
)
from converters.layers import pooling_onnx
from fcn_port.cli import run
from fcn_port.onnx_export import export_onnx
from parity_tests.goldens import formats

MINI = formats("fcn8s-mini.caffemodel")


def checked(path: Path) -> str:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}["checked"]


@pytest.mark.parametrize("target", ["onnxruntime", "openvino", "opencv4", "web"])
def test_what_was_written_is_run_in_its_target_and_says_so(target: str, tmp_path: Path) -> None:
    out = tmp_path / "net.onnx"
    report = export_onnx(MINI, out, options=OnnxOptions(target=target))
    library = "onnxruntime" if target == "web" else target
    assert report.checked and report.error <= 1e-5 and len(report.inputs) == 3
    assert report.programs == (checked(out),) and checked(out).startswith(f"{library} ")


@pytest.mark.parametrize(
    ("target", "missing"), [("tensorrt", "tensorrt is not installed"), ("opencv5", "OpenCV 5 is not here")]
)
def test_a_program_that_is_not_here_is_told_as_not_checked(
    target: str, missing: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FCN_PORT_OPENCV5", raising=False)
    out = tmp_path / "net.onnx"
    assert run(["export", str(MINI), "--to", "onnx", "--target", target, "-o", str(out)]) == 0
    said = capfd.readouterr().err
    assert f"{target}" in said and f"not checked ({missing}" in said and "\nnot checked\n" in f"\n{said}"
    assert "not checked" in checked(out)


def test_a_python_that_is_named_and_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCN_PORT_OPENCV5", "/nowhere/python")
    assert {program.missing for program in programs_of("opencv5")} == {
        "FCN_PORT_OPENCV5 is /nowhere/python, which is no file"
    }
    monkeypatch.setenv("FCN_PORT_OPENCV5", sys.executable)  # which has OpenCV 4: what it says is an error, not a crash
    program = programs_of("opencv5")[0]
    with pytest.raises(ProgramError, match="ENGINE_NEW"):
        run_model(MINI, program, [{}], outputs=["score"])


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
