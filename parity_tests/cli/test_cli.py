"""The program as a user meets it: what it prints, where, and with which exit status."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_port.cli import run
from parity_tests.goldens import SAMPLE_GOLDEN, formats
from parity_tests.test_architecture import ROOT

SAMPLE = str(ROOT / "weights" / "sample" / "shapes-fcn8s.caffemodel")
PICTURE = str(ROOT / "weights" / "sample" / "shapes.png")


@pytest.fixture(autouse=True)
def own_weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCN_PORT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("FCN_PORT_OFFLINE", "1")


@pytest.fixture
def converted(tmp_path: Path) -> str:
    out = str(tmp_path / "mini.safetensors")
    assert run(["convert", SAMPLE, "-o", out]) == 0
    return out


def test_the_whole_job_on_the_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trace", "sample"]) == 0
    assert "score_pool3[9:31]" in capsys.readouterr().out
    assert run(["convert", "sample"]) == 0
    assert "315,117 parameters in 39 blobs converted, 0 not used" in capsys.readouterr().out
    assert run(["convert", "sample"]) == 0
    assert "is there already" in capsys.readouterr().out
    assert run(["verify", "sample", "--golden", str(SAMPLE_GOLDEN)]) == 0
    assert run(["predict", "sample", PICTURE, "-o", str(tmp_path)]) == 0
    labels = Image.open(tmp_path / "shapes.labels.png")
    assert labels.mode == "P" and labels.size == Image.open(PICTURE).size
    assert labels.getpalette()[3:6] == [128, 0, 0]  # VOC's aeroplane red
    assert set(np.unique(np.asarray(labels))) <= set(range(7))
    assert Image.open(tmp_path / "shapes.overlay.png").mode == "RGB"


def test_trace_prints_the_crops(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trace", SAMPLE]) == 0
    out = capsys.readouterr().out
    assert "score_pool4[5:15]" in out and "score_pool3[9:31]" in out and "upscore8[31:131]" in out
    assert "_split_" not in out
    assert run(["trace", "voc-fcn8s", "500x375", "--json"]) == 0
    trace = json.loads(capsys.readouterr().out)
    assert trace["blobs"]["score"] == [1, 21, 500, 375]
    assert trace["crops"]["score"]["rows_and_columns"] == [[31, 531], [31, 406]]


def test_inspect_counts_parameters_and_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "voc-fcn32s", "--size", "500", "--json"]) == 0
    rows = {row["layer"]: row for row in json.loads(capsys.readouterr().out)["layers"]}
    assert rows["fc6"]["parameters"] == 4096 * 512 * 49 + 4096
    assert rows["conv1_1"]["macs"] == 698 * 698 * 64 * 27
    for name in ("fcn8s-mini.caffemodel.h5", "v0-mini.caffemodel", "layer-zoo-0.prototxt", "v1-mini.prototxt"):
        assert run(["inspect", str(formats(name))]) == 0


def test_diff_finds_one_value_and_one_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(Path(SAMPLE).read_bytes())
    at = data.index(b"score_pool3") + 200
    data[at] ^= 1
    changed = tmp_path / "changed.caffemodel"
    changed.write_bytes(data)
    assert run(["diff", SAMPLE, SAMPLE]) == 0
    assert run(["diff", SAMPLE, str(changed)]) == 1
    assert "1 of " in capsys.readouterr().out
    net = tmp_path / "net.prototxt"
    net.write_text(formats("fcn8s-mini.prototxt").read_text().replace("offset: 31", "offset: 32"))
    assert run(["diff", str(formats("fcn8s-mini.prototxt")), str(net), "--meaning"]) == 1
    assert "layer 'score'" in capsys.readouterr().out


def test_verify_names_what_differs(converted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", converted, "--against", SAMPLE]) == 0
    data = bytearray(Path(converted).read_bytes())
    data[-1] ^= 1
    Path(converted).write_bytes(data)
    assert run(["verify", converted, "--against", SAMPLE]) == 1
    assert "FAIL  blobs: upscore8.weight: 1 of" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        ([], 2, "Usage"),
        (["no-such-verb"], 2, "No such command"),
        (["convert"], 2, "Missing argument"),
        (["convert", "voc-fcn9s"], 2, "did you mean"),
        (["inspect", "-"], 2, "'-': a net is not read from standard input"),
        (["convert", "missing.caffemodel"], 2, "missing.caffemodel: no such file"),
        (["convert", "voc-fcn8s"], 1, "make demo"),
        (["convert", SAMPLE, "--prototxt", "missing.prototxt"], 2, "missing.prototxt: no such file"),
        (["convert", SAMPLE, "--prototxt", str(formats("v1-mini.prototxt"))], 3, "conv1"),
        (["convert", PICTURE], 3, "this is a PNG image; expected a .caffemodel"),
        (["inspect", "."], 3, "this is a folder"),
        (["trace", SAMPLE, "0x5"], 2, "is not a size"),
        (["trace", "nets"], 2, "nets"),
        (["trace", "VGG_ILSVRC_16_layers"], 1, "fcn-port fetch VGG_ILSVRC_16_layers"),
        (["verify", SAMPLE], 2, "--against is missing"),
        (["predict", SAMPLE, SAMPLE], 3, "not an image"),
        (["predict", SAMPLE, "missing.jpg"], 2, "missing.jpg: no such file"),
        (["predict", str(formats("fcn8s-mini.caffemodel")), PICTURE, "--like", "voc"], 2, "did you mean"),
        (["predict", str(formats("v1-mini.caffemodel")), PICTURE], 2, "--like RELEASE"),
        (["predict", SAMPLE, PICTURE, "--device", "nonsense"], 2, "nonsense"),
        (["releases", "voc-fcn8"], 2, "did you mean voc-fcn8s"),
        (["fetch", "voc-fcn8s", "--from-file", PICTURE], 1, "not the file of voc-fcn8s"),
    ],
    ids=lambda value: " ".join(map(str, value))[:60] if isinstance(value, list) else None,
)
def test_mistakes_are_answered_without_a_traceback(
    argv: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT / "docs")
    assert run(argv) == status
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err
    assert captured.out == ""


def test_a_report_is_the_only_thing_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", SAMPLE, "-o", str(tmp_path / "x.safetensors"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["parameters"] == 315117 and report["crops"]["score"] == [31]
    assert run(["releases", "--json"]) == 0
    names = [each["name"] for each in json.loads(capsys.readouterr().out)]
    assert {"voc-fcn8s", "sample", "VGG_ILSVRC_16_layers"} <= set(names) and len(names) > 50


def test_a_full_or_forbidden_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    for out in (blocked / "x.safetensors", blocked / "folder" / "x.safetensors"):
        assert run(["convert", SAMPLE, "-o", str(out)]) == 2
        assert str(blocked) in capsys.readouterr().err


def test_interrupting_leaves_nothing_half_done(tmp_path: Path) -> None:
    """Ctrl-C while a slow source is read: status 130, no file, no litter."""
    out = tmp_path / "out"
    code = (
        "import sys, time, converters.conversion as c\n"
        "real = c.write_safetensors\n"
        "def slow(file, tensors, metadata, *, watch=None):\n"
        "    def wait(*a):\n"
        "        print('writing', flush=True); time.sleep(30)\n"
        "    real(file, tensors, metadata, watch=wait)\n"
        "c.write_safetensors = slow\n"
        "from fcn_port.cli import main\n"
        f"main(['convert', {SAMPLE!r}, '-o', {str(out / 'x.safetensors')!r}])"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
    assert list(out.iterdir()) == []


def test_a_closed_pipe_is_no_error() -> None:
    fcn_port = [sys.executable, "-c", "from fcn_port.cli import main; main()", "inspect", SAMPLE]
    done = subprocess.run(
        [shutil.which("bash") or "sh", "-c", '"$@" | head -1', "x", *fcn_port], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stderr == "" and done.stdout.startswith("layer")


@pytest.mark.parametrize(
    "arguments",
    [
        ["view", "FILE", "-o", "FILE"],
        ["view", "sample", "--golden", "FILE", "-o", "FILE"],
        ["report", "FILE", "-o", "FILE"],
        ["report", "other.caffemodel", "--prototxt", "FILE", "-o", "FILE"],
        ["report", "sample", "--golden", "LINK", "-o", "FILE"],
        ["surgery", "voc-fcn8s", "--init", "FILE", "-o", "LINK"],
    ],
)
def test_no_verb_writes_over_a_file_that_it_reads(arguments: list[str], tmp_path: Path, capsys) -> None:
    file, link = tmp_path / "net.caffemodel", tmp_path / "link"
    file.write_bytes(formats("v1-mini.caffemodel").read_bytes())
    link.symlink_to(file)
    names = {"FILE": str(file), "LINK": str(link)}
    assert run([names.get(word, word) for word in arguments]) == 2
    assert "this file is read, and would be replaced; choose another with --out" in capsys.readouterr().err
    assert file.read_bytes() == formats("v1-mini.caffemodel").read_bytes() and link.is_symlink()
