"""Files whose names are not UTF-8, as old disks have them: libraries in other languages take no such path."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from converters.safety import utf8_path
from fcn_port.cli import run
from parity_tests.runs import shapes, write_recipe
from parity_tests.test_architecture import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
LATIN = os.fsdecode(b"caf\xe9")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / LATIN
    folder.mkdir()
    (folder / f"{LATIN}.caffemodel").write_bytes((ROOT / "weights" / "sample" / "shapes-fcn8s.caffemodel").read_bytes())
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("name", [f"{LATIN}.txt", "plain.txt", f"a.{LATIN}"])
def test_there_is_a_path_for_every_library(name: str, place: Path) -> None:
    (place / name).write_text("here")
    (place / "beside").write_text("too")
    with utf8_path(place / name) as there:
        assert there.encode() and Path(there).read_text() == "here"
        assert name != "plain.txt" or Path(there).with_name("beside").read_text() == "too"
    assert not os.path.lexists(there)
    with utf8_path("plain.txt") as there:
        assert there == "plain.txt"


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", "NET.caffemodel"],
        ["export", "NET.caffemodel", "--to", "onnx"],
        ["export", "NET.caffemodel", "--to", "onnx", "--external-data", "-o", "plain.onnx"],
        ["publish", "NET.caffemodel", "published NET", "--no-onnx"],
    ],
    ids=lambda words: f"{words[0]} {words[-1]}",
)
def test_verbs_write_and_check_files_of_such_names(arguments: list[str], place: Path) -> None:
    assert run([word.replace("NET", LATIN) for word in arguments]) == 0
    if arguments[0] == "convert":
        assert run(["verify", f"{LATIN}.safetensors", "--against", f"{LATIN}.caffemodel"]) == 0


def test_a_model_that_cannot_name_its_weights_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = f"{LATIN}.onnx"
    assert run(["export", f"{LATIN}.caffemodel", "--to", "onnx", "--external-data", "-o", out]) == 2
    assert "a model names the file of its weights in UTF-8, and this name is not" in capsys.readouterr().err
    assert not os.path.lexists(out)


def test_a_training_saves_under_such_a_name(place: Path) -> None:
    shapes(place)
    recipe = write_recipe(place, name=LATIN)
    assert run(["train", str(recipe), "--data", "shapes", "--out", LATIN, "--max-iter", "1", "--workers", "0"]) == 0
    assert (place / LATIN / f"{LATIN}_iter_1.solverstate").is_file()
    more = ["--max-iter", "2", "--resume", "--val-split", "none", "--workers", "0"]
    assert run(["train", str(recipe), "--data", "shapes", "--out", LATIN, *more]) == 0
