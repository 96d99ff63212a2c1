"""Files of another kind than a verb takes, and paths that no file can have: told in words, status 2 or 3."""

from __future__ import annotations

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
