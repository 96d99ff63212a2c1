"""What a command reads is not what it writes, whatever option names it; and JSON is alone on standard output."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from fcn_port.cli import run
from fcn_port.cli.output import WORDS, refuse_to_replace
from parity_tests.goldens import formats
from parity_tests.small_files import blob_proto

READ = [
    "predict sample list.txt -o out --areas list.txt",
    "predict sample x.png -o out --mean mean.binaryproto --areas mean.binaryproto",
    "predict sample x.png -o out --mean=mean.binaryproto --coco=mean.binaryproto",
    "predict sample x.png -o out --register own.py --areas own.py",
    "report sample --data set --mean mean.binaryproto -omean.binaryproto",
    "export net.caffemodel --to python -o own.py --register own.py",
    "evaluate sample --data set --split list.txt --markdown list.txt",
]
OF_THE_DATA = [
    "evaluate sample --data set --markdown set/classes.txt",
    "report sample --data set -o set/classes.txt",
    "predict sample --data set -o out --areas set/classes.txt",
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(noise).save("x.png")
    Path("list.txt").write_text("x.png\n")
    Path("own.py").write_text("pass\n")
    Path("mean.binaryproto").write_bytes(blob_proto(np.full((1, 3, 1, 1), 100.0, np.float32)).SerializeToString())
    shutil.copyfile(formats("fcn8s-mini.caffemodel"), "net.caffemodel")
    (tmp_path / "set" / "JPEGImages").mkdir(parents=True)
    (tmp_path / "set" / "SegmentationClass").mkdir()
    lists = tmp_path / "set" / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("x\n")
    shutil.copyfile("x.png", tmp_path / "set" / "JPEGImages" / "x.png")
    Image.fromarray(noise[:, :, 0] % 3).save(tmp_path / "set" / "SegmentationClass" / "x.png")
    (tmp_path / "set" / "classes.txt").write_text("a\nb\nc\n")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", [*READ, *OF_THE_DATA])
def test_what_is_read_is_not_replaced(command: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(place)
    assert run(command.split()) == 2
    said = "this file of the data set would be replaced" if command in OF_THE_DATA else "this file is read, and would"
    assert said in capsys.readouterr().err
    assert contents(place) == before


@pytest.mark.parametrize(("name", "is_result"), [("report.html", True), ("Table.MD", True), ("class_dict.csv", False)])
def test_results_in_the_folder_of_the_data_are_written_again(name: str, is_result: bool, place: Path) -> None:
    (place / "set" / name).write_text("before")
    with nullcontext() if is_result else pytest.raises(click.UsageError, match="this file of the data set"):
        refuse_to_replace(place / "set" / name, data=place / "set")


@pytest.mark.parametrize("word", ["x" * 5000, "x\0", "", "--"])
def test_words_that_are_no_paths(word: str, place: Path) -> None:
    with click.Context(click.Command("verb")) as context:
        context.meta[WORDS] = (word, "-o", "own.py", "-mown.py")
        with pytest.raises(click.UsageError, match="this file is read"):
            refuse_to_replace(place / "own.py")
        context.meta[WORDS] = (word, "-o", "own.py")
        refuse_to_replace(place / "own.py")


def test_two_tables_are_two_files(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", "sample", "x.png", "-o", "out", "--areas", "t", "--coco", "t"]) == 2
    assert "--areas and --coco: a file for each" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        "predict sample x.png -o out --blobs pool3",
        "diff sample sample --pictures out --image x.png --blobs pool3",
    ],
)
def test_json_is_alone_on_standard_output(command: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run([*command.split(), "--json"])
    found = capsys.readouterr()
    json.loads(found.out)
    assert "-> " in found.err and list(place.glob("out/**/pool3.png"))
