"""Blobs as pictures: a pixel for a value, in one scale for all channels; `predict --blobs` and `diff --pictures`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from converters import convert
from fcn_port.cli import run
from fcn_port.view.feature_maps import MOST_CHANNELS, GreyScale, beside, feature_maps
from parity_tests.serving.nets import largest_channel, png_of, stripes, write_largest_channel

RED, BLUE, WHITE, BLACK = (255, 0, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def test_colours_stand_for_values() -> None:
    signed = GreyScale.of(np.array([-2.0, 1.0]))
    assert [tuple(c) for c in signed.colours(np.array([[-2.0, 0.0, 2.0, np.nan]]))[0]] == [
        BLUE,
        WHITE,
        RED,
        (255, 0, 255),
    ]
    positive = GreyScale.of(np.array([0.0, 4.0]))
    assert [tuple(c) for c in positive.colours(np.array([[0.0, 4.0, 2.0]]))[0]] == [BLACK, WHITE, (128, 128, 128)]
    assert GreyScale.of(np.zeros(3)).largest == 1.0 and GreyScale.of(np.array([np.nan])).largest == 1.0


def test_every_channel_has_its_tile_in_one_scale() -> None:
    blob = np.zeros((1, 2, 24, 24))
    blob[0, 0], blob[0, 1] = 1.0, 4.0
    picture = np.asarray(feature_maps("x", blob))
    tiles = picture[8:32, 8:32], picture[8:32, 8 + 26 : 32 + 26]
    assert [np.unique(tile).tolist() for tile in tiles] == [[64], [255]], "the first is a quarter of the second"


@pytest.mark.parametrize("shape", [(1,), (7,), (1, 5), (1, 3, 4), (1, 1000, 1, 1), (1, 4, 400, 3), (1, 3, 0, 5), ()])
def test_blobs_of_all_shapes_are_shown(shape: tuple[int, ...]) -> None:
    picture = feature_maps("a\nblob" * 100, np.ones(shape)) if 0 not in shape else None
    assert picture is None or max(picture.size) < 4000
    assert MOST_CHANNELS < 1000


def test_blobs_of_several_images_are_refused() -> None:
    for shape in ((2, 3, 4, 5), (1, 2, 3, 4, 5)):
        with pytest.raises(ValueError, match="only those of one image"):
            feature_maps("x", np.zeros(shape))


def test_two_blobs_and_their_difference() -> None:
    first, second = np.ones((1, 1, 24, 24)), np.ones((1, 1, 24, 24))
    second[0, 0, :12] = -1
    both = np.asarray(beside("x", first, second))
    assert tuple(both[20, 20]) == RED, "a blob without negative values has the scale of the pair"
    third = np.asarray(beside("x", first, second[:, :, :12]))
    assert third.shape[0] < both.shape[0], "no difference of blobs of other shapes"


@pytest.fixture
def given(tmp_path: Path) -> Path:
    write_largest_channel(tmp_path / "x.caffemodel")
    (tmp_path / "a.png").write_bytes(png_of(stripes((24, 24))))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    for name in ("first", "second"):
        convert(
            tmp_path / "x.caffemodel", tmp_path / f"{name}.safetensors", metadata=largest_channel().card.to_metadata()
        )
    return tmp_path


def test_predict_writes_blobs(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["predict", str(given / "first.safetensors"), str(given / "a.png"), "--padded", "-o", str(given / "out")]
    assert run([*argv, "--blobs", "score,data"]) == 0
    folder = given / "out" / "a.blobs"
    assert {path.name for path in folder.iterdir()} == {"score.png", "data.png"}
    score = np.asarray(Image.open(folder / "score.png"))
    red, green, blue = (tuple(score[10 + 26 * row, 10 + 26 * column]) for row, column in ((0, 0), (0, 1), (1, 0)))
    assert (red, green, blue) == (WHITE, BLACK, BLACK), "the left half of the image is red"
    capsys.readouterr()
    assert run([*argv, "--blobs", "scor"]) == 2
    assert "no blob 'scor'; did you mean score?" in capsys.readouterr().err


def test_an_image_that_cannot_be_read_has_no_blobs(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, images = str(given / "first.safetensors"), [str(given / "bad.png"), str(given / "a.png")]
    assert run(["predict", net, *images, "--padded", "-o", str(given / "out"), "--blobs", "all"]) == 1
    assert "no blobs of" in capsys.readouterr().err and (given / "out" / "a.blobs" / "score.png").exists()
    assert not (given / "out" / "bad.blobs").exists()


def test_diff_shows_blobs_side_by_side(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nets, image = [str(given / f"{name}.safetensors") for name in ("first", "second")], str(given / "a.png")
    folder = given / "pictures"
    assert run(["diff", *nets, "--pictures", str(folder), "--image", image]) == 0
    assert {path.name for path in folder.iterdir()} == {"data.png", "score.png"}
    for wrong, said in (
        (["--pictures", str(folder)], "go together"),
        (["--image", image], "go together"),
        (["--pictures", str(folder), "--image", image, "--blobs", "x"], "no blob 'x'"),
    ):
        assert run(["diff", *nets, *wrong]) == 2
        assert said in capsys.readouterr().err
    prototxt = given / "net.prototxt"
    prototxt.write_text('input: "data" input_shape { dim: 1 dim: 3 dim: 4 dim: 4 }')
    assert run(["diff", str(prototxt), nets[0], "--pictures", str(folder), "--image", image]) == 2
    assert "needs two nets with weights" in capsys.readouterr().err
