"""The table of what label maps hold that train, evaluate and report say before their work, and what they warn of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from converters import CaffeModel, parse_prototxt
from converters.formats import write_caffemodel
from fcn_port.cli import run
from parity_tests.datasets import noise, save

NET = """
layer { name: "data" type: "Input" top: "data" top: "label" input_param { shape { dim: [1, 3, 8, 10] } } }
layer { name: "score" type: "Convolution" bottom: "data" top: "score" convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" loss_param { ignore_label: 255 } }
"""  # noqa: E501
DEPLOY = NET.replace(' top: "label"', "").rsplit("layer", 1)[0]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Three images, masks of 0, 100 and 255 with a class in a corner, a net, a solver."""
    for number in range(3):
        mask = np.zeros((8, 10), np.uint8)
        mask[:2, :5], mask[7] = 255, 100
        save(tmp_path / "set" / "images" / f"i{number}.png", noise(number, (8, 10, 3)))
        save(tmp_path / "set" / "labels" / f"i{number}.png", mask)
    (tmp_path / "set" / "dataset.toml").write_text(
        'classes = ["ground", "cell"]\nids = { 0 = 0, 255 = 1 }\nvoid = [100]\n'
    )
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text('net: "net.prototxt" base_lr: 0.001 lr_policy: "fixed" max_iter: 1')
    blobs = (np.ones((2, 3, 1, 1), np.float32), np.zeros(2, np.float32))
    write_caffemodel(CaffeModel(parse_prototxt(DEPLOY), {"score": blobs}), tmp_path / "net.caffemodel")
    return tmp_path


def arguments(place: Path, verb: str, *more: str) -> list[str]:
    data = ["--data", str(place / "set"), *more]
    if verb == "train":
        solver = ["--solver", str(place / "solver.prototxt"), "--init", "none", "-o", str(place / "run")]
        return ["train", *solver, *data]
    out = ["-o", str(place / "report.html"), "--images", "0"] if verb == "report" else ["--no-cache"]
    return [verb, str(place / "net.caffemodel"), *data, *out]


@pytest.mark.parametrize("verb", ["train", "evaluate", "report"])
def test_a_table_of_the_ids_and_strict(verb: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """50 pixels of 80 are ground, 10 a cell, stored as 255, and 10 void, stored as 100; 10 more are ground below."""
    assert run(arguments(place, verb, "--strict")) == 0
    said = [line.split() for line in capsys.readouterr().err.splitlines()]
    assert ["0", "ground", "180", "75.00%", "3", "0"] in said
    assert ["1", "cell", "30", "12.50%", "3", "255"] in said and ["-", "ignored", "30", "12.50%", "100"] in said
    for number in range(3):  # the wrong variant: nothing but ground
        Image.fromarray(np.zeros((8, 10), np.uint8)).save(place / "set" / "labels" / f"i{number}.png")
    assert run(arguments(place, verb, *(["-o", str(place / "other")] if verb == "train" else []))) == 0
    said_now = capsys.readouterr().err
    assert "WARNING: set (" in said_now and "only one class is labelled, 'ground'" in said_now
    assert "no pixel of cell" in said_now
    assert run(arguments(place, verb, "--strict", *(["-o", str(place / "third")] if verb == "train" else []))) == 3
    assert "the labels look off" in capsys.readouterr().err


def test_scores_of_what_is_learned_are_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments(place, "train")) == 0
    assert "WARNING: scores are of the images that are learned from" in capsys.readouterr().err
    assert run(arguments(place, "train")) == 2
    assert "is there already" in capsys.readouterr().err
    for name, ids in {"train": "i0\ni1\n", "val": "i2\n"}.items():
        (place / "set" / f"{name}.txt").write_text(ids)
    with (place / "set" / "dataset.toml").open("a") as file:
        file.write('list = "{split}.txt"\n')
    assert run(arguments(place, "train", "-o", str(place / "lists"))) == 0
    assert "learned from" not in capsys.readouterr().err


def test_a_bad_image_is_left_out_of_a_report(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "set" / "images" / "i1.png").write_bytes(b"no")
    assert run(arguments(place, "report", "--skip-bad")) == 0
    assert "1 of 3 images cannot be used" in capsys.readouterr().err
    assert run(arguments(place, "report")) == 3


@pytest.mark.parametrize("verb", ["train", "evaluate", "report", "predict"])
def test_a_description_on_the_command_line_is_one_in_a_file(
    verb: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same lines by `--describe`, without a file, and before what a file says."""
    (place / "set" / "dataset.toml").unlink()
    fields = ['classes = ["ground", "cell"]', "ids = { 0 = 0, 255 = 1 }", "void = [100]"]
    told = [word for field in fields for word in ("--describe", field)]
    if verb == "predict":
        given = ["predict", str(place / "net.caffemodel"), "--data", str(place / "set"), "-o", str(place / "seen")]
    else:
        given = arguments(place, verb, "--strict")
    assert run([*given, *told]) == 0
    out, err = capsys.readouterr()
    assert "ground" in (out if verb == "predict" else err)
    assert verb == "predict" or ["1", "cell", "30", "12.50%", "3", "255"] in [line.split() for line in err.splitlines()]


@pytest.mark.parametrize(
    ("field", "status", "expected"),
    [
        ("ids = {", 2, "is no line of TOML"),
        ("idz = 1", 2, "--describe: unknown field 'idz'"),
        ("void = 1", 2, "--describe: void: expected a list"),
        ("void = [1]", 2, "--describe: no classes: say classes"),
        ("like = 'no'", 2, "--describe: like = 'no'; there are voc"),
    ],
)
@pytest.mark.parametrize("file", ["no file", "a file that is whole"])
def test_a_wrong_field_on_the_command_line(
    field: str, status: int, expected: str, file: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is wrong use, and no file is blamed for it."""
    if file == "no file":
        (place / "set" / "dataset.toml").unlink()
    elif "no classes" in expected:
        return
    assert run(["data", "--check", str(place / "set"), "--describe", field]) == status
    assert expected in capsys.readouterr().err


def test_a_file_is_blamed_for_what_is_wrong_without_the_command_line(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check = ["data", "--check", str(place / "set"), "--describe"]
    (place / "set" / "dataset.toml").write_text("clases = []\n")
    assert run([*check, "void = [255]"]) == 3
    assert "dataset.toml: unknown field 'clases'" in capsys.readouterr().err
    (place / "set" / "dataset.toml").unlink()
    assert run([*check, 'classes = ["a"]', "--describe", 'images = "nowhere"']) == 2
    assert '--describe says where they are: images = "..."' in capsys.readouterr().err


def test_a_field_on_the_command_line_comes_before_the_files(place: Path) -> None:
    (place / "set" / "dataset.toml").write_text('classes = ["ground", "cell"]\nvoid = []\nids = { 0 = 0, 100 = 1 }\n')
    assert run(["data", "--check", str(place / "set"), "--describe", "void = [255]"]) == 0, "before what the file says"


def test_a_net_of_one_size_trains_on_images_that_are_brought_to_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was refused, whatever the images; one of another size ended a run without its name and without a snapshot."""
    reshape = (
        'layer { name: "r" type: "Reshape" bottom: "score" top: "r" reshape_param { shape { dim: [1, 2, 8, 10] } } }'
    )
    before, loss = NET.split('layer { name: "loss"')
    of_one_size = f'{before}{reshape}\nlayer {{ name: "loss"' + loss.replace('bottom: "score"', 'bottom: "r"')
    (place / "net.prototxt").write_text(of_one_size)
    for folder, shape in (("images", (9, 12, 3)), ("labels", (9, 12))):
        save(place / "set" / folder / "i1.png", np.zeros(shape, np.uint8))
    more = ["--order", "listed", "--max-iter", "3", "--val-split", "none"]
    assert run(arguments(place, "train", *more)) == 3
    said = capsys.readouterr().err
    assert "the net does not take i1 of 9x12 pixels" in said and "--resize" in said
    assert (place / "run" / "net_iter_1.json").is_file()
    assert run(arguments(place, "train", *more, "--resize", "8x10", "-o", str(place / "sized"))) == 0
