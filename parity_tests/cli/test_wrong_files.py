"""Files of another kind than a verb takes, and paths that no file can have: told in words, status 2 or 3."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from fcn_port.cli import run
from parity_tests.verbs import SAMPLE

NET_OR_WEIGHTS = "expected a prototxt, a .caffemodel, an .h5 or a converted file"
WEIGHTS = {
    "convert": "convert {}",
    "export": "export {} --to onnx",
    "publish": "publish {} published",
    "verify": f"verify {{}} --against {SAMPLE}",
    "predict": "predict {} image.png",
    "serve": "serve {} --port 0",
}
NETS = {
    "inspect": "inspect {}",
    "trace": "trace {}",
    "diff": f"diff {{}} {SAMPLE}",
    "view": "view {} -o graph.json",
    "report": "report {}",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.prototxt").touch()
    Path("image.png").write_bytes(b"\x89PNG")
    Path("net.prototxt").write_text('input: "data" layer { name: "a" type: "ReLU" bottom: "data" top: "a" }')
    Path("loop").symlink_to("loop")


@pytest.mark.parametrize("line", NETS.values(), ids=NETS)
@pytest.mark.parametrize("name", ["empty.prototxt", "image.png"])
def test_what_holds_no_net(line: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty prototxt was told that a .caffemodel was expected."""
    assert run(line.format(f"./{name}").split()) == 3
    assert NET_OR_WEIGHTS in capsys.readouterr().err
    assert not Path("report.html").exists(), "it was a page about nothing, and status 0"


@pytest.mark.parametrize("line", WEIGHTS.values(), ids=WEIGHTS)
def test_a_definition_for_weights(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It was a text file, and most verbs did not say what to do."""
    assert run(line.format("net.prototxt").split()) == 3
    said = capsys.readouterr().err
    assert "net.prototxt: this is a net without weights" in said
    assert "give the weights, and --prototxt net.prototxt" in said


@pytest.mark.parametrize("line", (WEIGHTS | NETS).values(), ids=WEIGHTS | NETS)
@pytest.mark.parametrize(
    ("path", "statuses"), [("n" * 300, {2}), (f"{'n' * 300}.caffemodel", {2}), ("./loop", {2}), (".", {2, 3})]
)
def test_paths_that_no_file_has(path: str, statuses: set[int], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A name too long was a failed check, status 1, and `convert .` a traceback."""
    assert run(line.format(path).split()) in statuses
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("line", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize(("names", "net"), [('net: "net.prototxt"', "net.prototxt"), ("", "NET.prototxt")])
def test_a_solver_for_weights(line: str, names: str, net: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It was only a text file."""
    Path("solver.prototxt").write_text(f"{names}\nbase_lr: 0.1")
    assert run(line.format("solver.prototxt").split()) == 3
    said = capsys.readouterr().err
    assert "solver.prototxt: this is a solver, not weights" in said
    assert f"give the weights, a .caffemodel, and --prototxt {net}" in said


def test_a_converted_file_is_not_converted_again(capsys: pytest.CaptureFixture[str]) -> None:
    """Its own name was the name to write, which was all that was said."""
    assert run(["convert", SAMPLE, "-o", "x.safetensors"]) == 0
    assert run(["convert", "x.safetensors"]) == 3
    assert "this is a safetensors file; expected a .caffemodel" in capsys.readouterr().err


def test_a_zip_archive_of_something_else(capsys: pytest.CaptureFixture[str]) -> None:
    """It was told how PyTorch saves state dicts."""
    with zipfile.ZipFile("net.zip", "w") as archive:
        archive.writestr("net.caffemodel", b"\x0a\x01a")
    assert run(["inspect", "net.zip"]) == 3
    assert "if it is a download, unpack it first" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train solver.prototxt --data .", "this is no recipe; a solver is given as --solver FILE"),
        ("train ./solver.prototxt --data .", "this is no recipe; a solver is given as --solver FILE"),
        ("net.prototxt", "a verb comes before a file, such as fcn-port inspect net.prototxt"),
    ],
)
def test_files_out_of_their_place(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The one was asked which recipe it is, the other which command."""
    assert run(line.split()) == 2
    assert said in capsys.readouterr().err
