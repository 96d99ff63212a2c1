"""What people see of a segmentation: its representation, legend, overlay, and what is said of odd inputs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from converters.export import write_caffe
from fcn_port import load, segment
from fcn_port.cli import run
from fcn_port.errors import ImageError
from fcn_port.loading import attach
from fcn_port.nets import as_net
from fcn_port.predict.class_table import class_table
from fcn_port.predict.classifying import Classification, ClassScore
from fcn_port.predict.palettes import palette as found_palette
from fcn_port.predict.palettes import visible_palette, voc_palette
from fcn_port.predict.segmentation import Segmentation, share_text
from parity_tests.detection.nets import ssd
from parity_tests.predict.output_nets import files_of, net_of
from parity_tests.test_architecture import ROOT
from weights.catalogue import datasets

SAMPLE = ROOT / "weights" / "sample" / "shapes-fcn8s.caffemodel"


def seen(labels: np.ndarray, classes: tuple[str, ...]) -> Segmentation:
    image = np.full((*labels.shape, 3), 200, np.uint8)
    return Segmentation(labels, np.zeros((len(classes), *labels.shape), np.float32), image, classes, voc_palette())


def test_names_in_a_representation_are_seen_and_not_obeyed() -> None:
    """At Python's prompt a class's name cleared the screen, and one of ten thousand letters was all of it."""
    names = ("\x1b[2J\u202egnp", "x" * 10_000)
    found = Classification(tuple(ClassScore(i, name, 0.5) for i, name in enumerate(names)), True, np.zeros((1, 1, 3)))
    for shown in (repr(seen(np.array([[0, 1]], np.uint8), names)), repr(found)):
        assert shown.isprintable() and "\\x1b[2J\\u202egnp" in shown and len(shown) < 500


def test_the_representation_is_a_line() -> None:
    labels = np.zeros((240, 320), np.uint8)
    labels[:60] = 2
    assert repr(seen(labels, ("background", "cat", "dog"))) == (
        "Segmentation(240x320, scores of 3 classes: background 75.0%, dog 25.0%)"
    )
    many = np.arange(100, dtype=np.uint8).reshape(10, 10)
    assert len(repr(seen(many, ()))) < 200 and "and 95 more" in repr(seen(many, ()))


def test_a_first_class_that_is_a_thing_is_drawn() -> None:
    labels = np.zeros((20, 30), np.uint8)
    wall, background = seen(labels, ("wall", "floor")), seen(labels, ("background", "cat"))
    assert not np.array_equal(np.asarray(wall.overlay()), wall.image) and wall._legend()[0][0] == "wall 100.0%"
    assert np.array_equal(np.asarray(background.overlay()), background.image) and background._legend() == []
    assert np.array_equal(np.asarray(seen(labels, ()).overlay()), background.image)  # of no names nothing is known


@pytest.mark.parametrize("name", ["voc", "nyud", "siftflow", "pascalcontext", "cityscapes", "camvid", "ade20k"])
def test_class_0_of_each_data_set(name: str) -> None:
    """Drawn and in the legend where it is a thing: NYUDv2's wall, SIFT Flow's awning, Cityscapes' road."""
    data = datasets()[name]
    things = {"nyud": "wall", "siftflow": "awning", "cityscapes": "road", "camvid": "sky", "ade20k": "wall"}
    names = next(iter(data.heads.values()))
    whole = Segmentation(np.zeros((20, 30), np.uint8), None, np.full((20, 30, 3), 200, np.uint8), names,
                         found_palette(data.palette or "voc"))  # fmt: skip
    drawn = [entry for entry, _ in whole._legend()]
    assert drawn == ([f"{things[name]} 100.0%"] if name in things else [])
    assert np.array_equal(np.asarray(whole.overlay()), whole.image) == (name not in things)


@pytest.mark.parametrize("name", ["nyud", "siftflow", "cityscapes", "camvid", "ade20k"])
def test_a_first_thing_has_a_colour_to_be_seen_by(name: str) -> None:
    """On every shade of grey: VOC's black, which is its background's, only darkened the walls of NYUDv2."""
    names = next(iter(datasets()[name].heads.values()))
    own = found_palette(datasets()[name].palette)
    assert own is not None
    colours = visible_palette(own, names)
    assert int(colours[0].max()) >= 120 and not (colours[1 : len(names)] == colours[0]).all(axis=1).any()
    assert np.array_equal(colours[1:], own[1:])


def test_a_black_that_somebody_chose_and_a_background_stay_black() -> None:
    chosen = found_palette("#000000 #ff0000")
    assert chosen is not None
    assert np.array_equal(visible_palette(chosen, ("road", "car")), chosen)
    for names in ((), ("background", "cat"), ("Void", "cat")):
        assert np.array_equal(visible_palette(voc_palette(), names), voc_palette())


def test_a_net_without_a_background_colours_its_labels_and_legend_alike() -> None:
    net = net_of("scores")
    card = as_net(net).card
    attach(net, replace(card, classes={"score": ("wall", "green", "blue")}))
    found = segment(net, np.zeros((8, 8, 3), np.uint8) + np.array([200, 0, 0], np.uint8))
    pink = (255, 150, 205)
    assert isinstance(found, Segmentation) and found._legend() == [("wall 100.0%", pink)]
    assert found.label_image().convert("RGB").getpixel((0, 0)) == pink
    assert class_table(found)[0]["color"] == "#ff96cd"


def test_a_legend_leaves_out_what_would_read_zero() -> None:
    labels = np.zeros((100, 100), np.uint8)
    labels[0, 0], labels[1, :10] = 1, 2
    assert [name for name, _ in seen(labels, ("background", "cat", "dog"))._legend()] == ["dog 0.1%"]


@pytest.mark.parametrize(
    ("given", "said"),
    [(["a.png"], "a list"), (torch.zeros(3, 9, 9), "a tensor"), (None, "nothing"), (5, "an int")],
)
def test_what_is_no_image_is_named(given: object, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        segment(load(SAMPLE), given)  # type: ignore[call-overload]


def test_a_net_in_train_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="eval"):
        segment(load(SAMPLE).train(), np.zeros((30, 30, 3), np.uint8))


def test_files_of_several_pictures_are_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (Image.new("RGB", (40, 40), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "two.tif", save_all=True, append_images=[second])
    first.save(tmp_path / "one.tif")
    assert run(["predict", str(SAMPLE), str(tmp_path / "two.tif"), str(tmp_path / "one.tif"), "-o", str(tmp_path)]) == 0
    err = capsys.readouterr().err
    assert "two.tif: the first of its 2 pictures; --every-frame takes them all" in err
    assert "one.tif: the first" not in err


def test_trace_takes_the_net_s_own_size_where_no_other_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.prototxt").write_text(
        'input: "data" input_shape { dim: 1 dim: 3 dim: 32 dim: 40 } '
        'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 } }'
    )
    assert run(["trace", str(tmp_path / "net.prototxt")]) == 0
    assert "1x3x32x40" in capsys.readouterr().out
    assert run(["trace", str(SAMPLE)]) == 0
    assert "1x3x100x100" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("share", "said"),
    [(1, "100.0%"), (0.0126, "1.3%"), (0.0005, "0.1%"), (0.0004, "<0.1%"), (1e-9, "<0.1%"), (0, "0.0%")],
)
def test_what_is_there_is_no_zero_percent(share: float, said: str) -> None:
    assert share_text(share) == said


@pytest.mark.parametrize("kind", ["classes", "objects"])
def test_pictures_of_several_pages_by_nets_of_whole_images(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each page has its own answer: that of a file of its own."""
    numbers = np.random.default_rng(0)  # squares of 8 pixels, in which the detector finds the red ones
    squares = numbers.choice(np.array([0, 255], np.uint8), (3, 4, 4, 3))
    pages = [Image.fromarray(each.repeat(8, 0).repeat(8, 1)) for each in squares]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    for number, page in enumerate(pages, 1):
        page.save(tmp_path / f"page.{number:04d}.png")
    if kind == "classes":
        files = files_of("classes", tmp_path)
    else:
        net, files = ssd(), [str(tmp_path / "ssd.caffemodel"), "--prototxt", str(tmp_path / "ssd.prototxt")]
        write_caffe(net.spec, net.state_dict(), files[0], prototxt=files[2])
        files += ["--mean", "0", "--least-score", "0"]
    call = ["predict", *files, "-o", str(tmp_path), "--json"]
    assert run([*call, str(tmp_path / "pages.tif"), "--every-frame"]) == 0
    found = json.loads(capsys.readouterr().out)["images"]
    assert run([*call, *map(str, sorted(tmp_path.glob("page.*.png")))]) == 0
    alone = json.loads(capsys.readouterr().out)["images"]
    assert [each["frame"] for each in found] == [0, 1, 2] and "frame" not in alone[0]
    answer = "classes" if kind == "classes" else "detections"
    assert [each[answer] for each in found] == [each[answer] for each in alone]
    assert found[0][answer] != found[1][answer]
    ending = "classes.json" if kind == "classes" else "detections.png"
    assert all((tmp_path / f"pages.{number:04d}.{ending}").is_file() for number in (1, 2, 3))
