"""HED's edges as pix2pix makes them: each step against its rule worked out place by place, and the verb."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy.ndimage import convolve1d

from converters import CaffeNet, parse_prototxt
from converters.errors import MismatchError
from converters.escaping import terminal
from fcn_port.cli import run
from fcn_port.loading import load
from fcn_port.nets.net import as_net
from fcn_port.predict.edges import Cleaning, aligned, edge_map, edges, suppressed, without_small
from parity_tests.tolerances import tolerance

HED = """
name: "mini-hed" input: "data" input_shape { dim: 1 dim: 3 dim: 200 dim: 200 }
layer { name: "conv1_1" type: "Convolution" bottom: "data" top: "conv1_1"
        convolution_param { num_output: 2 pad: 35 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv1_1" top: "conv1_1" }
layer { name: "score-dsn1" type: "Convolution" bottom: "conv1_1" top: "up1"
        convolution_param { num_output: 1 kernel_size: 1 } }
layer { name: "crop1" type: "Crop" bottom: "up1" bottom: "data" top: "upscore-dsn1" }
layer { name: "sig1" type: "Sigmoid" bottom: "upscore-dsn1" top: "sigmoid-dsn1" }
layer { name: "fuse" type: "Convolution" bottom: "upscore-dsn1" top: "upscore-fuse"
        convolution_param { num_output: 1 kernel_size: 1 } }
layer { name: "sigf" type: "Sigmoid" bottom: "upscore-fuse" top: "sigmoid-fuse" }
"""
"""HED's shape with one stage: a first pad of 35, and crops without offsets, which its own Caffe worked out."""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Weights that see where brightness changes, their prototxt, and a photograph of a rectangle."""
    prototxt = tmp_path / "hed.prototxt"
    prototxt.write_text(HED)
    net = CaffeNet(parse_prototxt(HED))
    state = net.state_dict()
    laplace = torch.tensor([[0, -1, 0], [-1, 4, -1], [0, -1, 0.0]])
    state["conv1_1.weight"][:] = torch.stack([laplace, -laplace])[:, None] / 3
    state["score-dsn1.weight"][:] = 0.2
    state["fuse.weight"][:] = 1
    state["fuse.bias"][:] = -4
    torch.save(dict(state), tmp_path / "hed.pth")
    image = Image.new("RGB", (180, 150), (200, 180, 90))
    ImageDraw.Draw(image).rectangle((60, 40, 120, 100), fill=(30, 60, 160))
    image.save(tmp_path / "photo.png")
    return tmp_path / "hed.pth", prototxt, tmp_path / "photo.png"


def test_edges_lie_on_the_image(files: tuple[Path, Path, Path]) -> None:
    weights, prototxt, photo = files
    net = load(weights, prototxt=prototxt)
    image = np.asarray(Image.open(photo))
    found = edge_map(aligned(as_net(net)), image, border=64)
    rows, columns = np.nonzero(found > 0.5)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (39, 101, 59, 121)
    assert found.shape == (150, 180)
    shifted = edge_map(net, image, border=64)  # as BVLC's Caffe crops: at 0, with the pad left in
    assert np.array_equal(shifted[34:, 34:], found[:-34, :-34])


def test_the_border_is_no_edge(files: tuple[Path, Path, Path]) -> None:
    weights, prototxt, photo = files
    net = aligned(load(weights, prototxt=prototxt))
    image = np.asarray(Image.open(photo))
    assert edge_map(net, image, border=64)[0].max() < 0.1
    assert edge_map(net, image, border=0)[0].max() > 0.9  # the image against the net's own zeros


@pytest.mark.parametrize(("size", "border"), [((150, 180), 150), ((40, 31), 70), ((1, 90), 8), ((2, 1), 33)])
def test_a_border_wider_than_the_image_is_mirrored_again(
    size: tuple[int, int], border: int, files: tuple[Path, Path, Path]
) -> None:
    def place(i: int, n: int) -> int:  # to and fro
        return 0 if n == 1 else min(i % (2 * n - 2), -i % (2 * n - 2))

    net = aligned(load(files[0], prototxt=files[1]))
    image = np.random.default_rng(7).integers(0, 256, (*size, 3), np.uint8)
    rows, columns = ([place(i, n) for i in range(-border, n + border)] for n in size)
    h, w = size
    whole = edge_map(net, image[rows][:, columns], border=0)
    assert np.array_equal(edge_map(net, image, border=border), whole[border : border + h, border : border + w])


def test_a_border_that_no_memory_holds(files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    weights, prototxt, photo = files
    for border in ("1000000000", "9" * 19, "9" * 30):
        assert run(["edges", str(weights), str(photo), "--prototxt", str(prototxt), "--border", border]) == 1
        assert f"not enough memory: with a border of {border}" in capsys.readouterr().err


@pytest.mark.parametrize("shift", [-2, 2])
def test_numbers_that_are_no_probabilities_are_refused(shift: int) -> None:
    """A sigmoid that is moved lies below 0 or above 1, in the shape of an image all the same."""
    power = f'layer {{ name: "moved" type: "Power" bottom: "sigmoid-fuse" top: "it" power_param {{ shift: {shift} }} }}'
    net = CaffeNet(parse_prototxt(HED + power), outputs=["it"])
    with pytest.raises(MismatchError, match=r"it is \(1, \d+, \d+\) with values from .*expected a probability"):
        edge_map(aligned(as_net(net)), np.zeros((190, 160, 3), np.uint8), border=8)


def slow_suppressed(e: np.ndarray) -> np.ndarray:
    """Place by place: PostprocessHED.m's direction, and edgesNmsMex's r = 1, s = 5, m = 1.01."""
    h, w = e.shape
    triangle = np.array([1, 2, 3, 4, 5, 4, 3, 2, 1]) / 25
    smooth = convolve1d(convolve1d(e, triangle, axis=0, mode="reflect"), triangle, axis=1, mode="reflect")

    def gradient(a: np.ndarray, axis: int) -> np.ndarray:
        a = a if axis == 1 else a.T
        out = np.empty_like(a)
        out[:, 1:-1] = (a[:, 2:] - a[:, :-2]) / 2
        out[:, 0], out[:, -1] = a[:, 1] - a[:, 0], a[:, -1] - a[:, -2]
        return out if axis == 1 else out.T

    dx, dy = gradient(smooth, 1), gradient(smooth, 0)
    dxx, dxy, dyy = gradient(dx, 1), gradient(dy, 1), gradient(dy, 0)

    def at(y: float, x: float) -> float:
        y, x = min(max(y, 0), h - 1.001), min(max(x, 0), w - 1.001)
        i, j = int(y), int(x)
        return (1 - (y - i)) * ((1 - (x - j)) * e[i, j] + (x - j) * e[i, j + 1]) + (y - i) * (
            (1 - (x - j)) * e[i + 1, j] + (x - j) * e[i + 1, j + 1]
        )

    found = e.copy()
    for y in range(h):
        for x in range(w):
            angle = math.atan(dyy[y, x] * np.sign(-dxy[y, x]) / (dxx[y, x] + 1e-5)) % math.pi
            beside = [at(y + s * math.sin(angle), x + s * math.cos(angle)) for s in (-1, 1)]
            if 1.01 * e[y, x] < max(beside):
                found[y, x] = 0
            for place, size in ((y, h), (x, w)):
                found[y, x] *= min(1, min(place, size - 1 - place) / 5)
    return found


def test_suppression_is_the_mex_file_s() -> None:
    rng = np.random.default_rng(5)
    e = convolve1d(convolve1d(rng.random((40, 33)), np.ones(5) / 5, axis=0), np.ones(5) / 5, axis=1).astype(np.float32)
    expected, found = slow_suppressed(e.astype(np.float64)), suppressed(e)
    assert (np.abs(found - expected) > tolerance("edges")).mean() < 0.01  # a tie may fall either way
    assert 0.1 < (expected > 0).mean() < 0.6


def test_small_edges_go_and_corners_connect() -> None:
    drawn = np.zeros((20, 20), bool)
    drawn[range(2, 7), range(2, 7)] = True  # five, corner to corner
    drawn[10, 10:14] = True  # four
    found = without_small(drawn, 5)
    assert found.sum() == 5 and found[4, 4]
    assert without_small(drawn, 6).sum() == 0 and without_small(drawn, 4).sum() == 9


def test_edges_are_one_pixel_thin(files: tuple[Path, Path, Path]) -> None:
    weights, prototxt, photo = files
    found = edges(edge_map(aligned(load(weights, prototxt=prototxt)), np.asarray(Image.open(photo)), border=64))
    assert found.shape == (256, 256) and 200 < found.sum() < 500
    blocks = found[:-1, :-1] & found[1:, :-1] & found[:-1, 1:] & found[1:, 1:]
    assert blocks.sum() <= 4
    assert not edges(np.full((50, 60), 0.5), Cleaning(size=None, threshold=0.6)).any()


def test_the_verb(files: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, prototxt, photo = files
    common = ["edges", str(weights), "--prototxt", str(prototxt), "-o", str(tmp_path / "out"), "--border", "64"]
    assert run([*common, str(photo), "--soft"]) == 0
    drawn = np.asarray(Image.open(tmp_path / "out" / "photo.edges.png"))
    assert drawn.shape == (256, 256) and set(np.unique(drawn)) == {0, 255} and (drawn == 0).sum() < 500
    assert Image.open(tmp_path / "out" / "photo.soft.png").size == (180, 150)
    small = tmp_path / "small.png"
    small.write_bytes(photo.read_bytes()[:99])
    assert run([*common, str(photo), str(small)]) == 1
    assert "small.png: not an image" in capsys.readouterr().err
    assert run([*common, str(photo), str(small), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert [Path(each["edges"]).name for each in said["images"]] == ["photo.edges.png"]
    assert [Path(each["image"]).name for each in said["failed"]] == ["small.png"]
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert run([*common, str(tmp_path / "bad.png")]) == 3
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("size", ["100000x100000", "2147483647x2147483647"])
def test_a_size_that_no_memory_holds_is_told_before_the_net_runs(
    size: str, files: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, prototxt, photo = files
    call = ["edges", str(weights), str(photo), "--prototxt", str(prototxt), "-o", str(tmp_path / "out"), "--size", size]
    assert run(call) == 1
    assert f"not enough memory: edges of {size} pixels take" in capsys.readouterr().err
    assert run([*call, "--keep-size"]) == 2
    assert "--keep-size goes without --size" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_edges_of_a_folder_are_no_images_of_it(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    weights, prototxt, photo = files
    folder = tmp_path / "photos"
    folder.mkdir()
    photo.rename(folder / photo.name)
    command = ["edges", str(weights), "--prototxt", str(prototxt), "--border", "64", str(folder), "-o", str(folder)]
    for _ in range(2):
        assert run([*command, "--soft"]) == 0
        assert {each.name for each in folder.iterdir()} == {photo.name, "photo.edges.png", "photo.soft.png"}


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3)])
def test_maps_of_a_pixel_across_have_edges(size: tuple[int, int]) -> None:
    drawn = np.full(size, 0.5)
    assert edges(drawn, Cleaning(size=None, small_edge=1)).shape == size
    along = suppressed(drawn)
    assert np.isfinite(along).all() and along.max() == (0.5 if 1 in size else 0)


@pytest.mark.parametrize("name", ["a\nb.png", "an.png", "a\x1b[31m.png"])
def test_what_is_wrong_with_an_image_is_said_whatever_its_name(
    name: str, files: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, prototxt, photo = files
    (tmp_path / name).write_bytes(b"no picture")
    command = ["edges", str(weights), "--prototxt", str(prototxt), "--border", "64", "-o", str(tmp_path), "--json"]
    assert run([*command, str(photo), str(tmp_path / name)]) == 1
    (failed,) = json.loads(capsys.readouterr().out)["failed"]
    shown = f"{tmp_path}/{terminal(name)}"
    assert failed["problem"].startswith(f"{shown}: not an image that can be read: none of")
    assert failed["problem"].count(str(tmp_path)) == 1


def test_a_narrow_map_fades_alike_on_all_sides() -> None:
    """edgesNmsMex.cpp: the margin is at most half of the shorter side, and is the same for rows and columns."""
    found = suppressed(np.ones((6, 40), np.float32))
    rows, columns = np.minimum(np.arange(6), 5 - np.arange(6)), np.minimum(np.arange(40), 39 - np.arange(40))
    expected = (rows.clip(0, 3) / 3)[:, None] * (columns.clip(0, 3) / 3)
    assert np.abs(found - expected).max() <= tolerance("edges")


@pytest.mark.parametrize("name", ["a.gif", "a.tif", "a.webp"])
@pytest.mark.parametrize("pictures", [1, 3])
def test_the_first_of_several_pictures_is_said(
    name: str, pictures: int, files: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = [Image.new("RGB", (30, 20), (90 * number, 0, 0)) for number in range(pictures)]
    shown[0].save(tmp_path / name, save_all=True, append_images=shown[1:])
    command = ["edges", str(files[0]), "--prototxt", str(files[1]), "--border", "9", "-o", str(tmp_path)]
    for more in ([], ["--json"]):
        assert run([*command, str(tmp_path / name), *more]) == 0
        said = f"{tmp_path / name}: the first of its 3 pictures\n" in capsys.readouterr().err
        assert said is (pictures == 3)
