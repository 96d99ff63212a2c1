"""`fcn-port predict` on files, folders and lists: names, formats of images, batches, mistakes and interruption."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fcn_port
from fcn_port.cli import run
from fcn_port.data import make_shapes
from fcn_port.predict import Segmentation
from fcn_port.predict.image_lists import gather
from fcn_port.predict.images import read_image
from fcn_port.predict.legend import with_legend
from fcn_port.predict.outputs import probability_maps
from fcn_port.predict.palettes import voc_palette
from parity_tests.datasets import noise, save
from parity_tests.test_architecture import ROOT

SAMPLE = str(ROOT / "weights" / "sample" / "shapes-fcn8s.caffemodel")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "mini.safetensors"
    assert run(["convert", SAMPLE, "-o", str(path)]) == 0
    return str(path)


def predict(weights: str, *arguments: object) -> int:
    return run(["predict", weights, *map(str, arguments), "--like", "voc-fcn8s"])


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_folder_keeps_its_folders(weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "deep/b.jpg", "deep/er/c.tif", ".hidden/d.png", "deep/.e.png"):
        save(tmp_path / "in" / name, noise(1, (8, 9, 3)))
    (tmp_path / "in" / "notes.md").write_text("no image")
    out = tmp_path / "out"
    assert predict(weights, tmp_path / "in", "-o", out, "--json") == 0
    both = (".labels.png", ".labels.json", ".overlay.png")
    assert files_in(out) == {name + end for name in ("a", "deep/b", "deep/er/c") for end in both}
    found = json.loads(capsys.readouterr().out)
    assert [Path(each["image"]).name for each in found["images"]] == ["a.png", "b.jpg", "c.tif"]
    assert found["failed"] == [] and found["engine"] in ("native", "torch")


def test_the_labels_are_those_of_segment(weights: str, tmp_path: Path) -> None:
    """The file's pixel values are the labels; scores and probabilities are the net's; batches change nothing."""
    make_shapes(tmp_path / "set", count=5, size=(33, 44))
    save(tmp_path / "set" / "JPEGImages" / "other.png", noise(5, (20, 21, 3)))
    out = tmp_path / "out"
    folder = tmp_path / "set" / "JPEGImages"
    assert predict(weights, folder, "-o", out, "--batch", 2, "--scores", "--probabilities", "--padded") == 0
    net = fcn_port.load(weights)
    for path in folder.iterdir():
        seen = fcn_port.segment(net, path)
        assert isinstance(seen, Segmentation) and seen.scores is not None
        with np.load(out / f"{path.stem}.scores.npz") as file:
            scores = file["scores"]
        bound = 1e-5 * np.abs(seen.scores).max()
        assert np.abs(scores - seen.scores).max() <= bound
        labels = Image.open(out / f"{path.stem}.labels.png")
        assert labels.mode == "P" and np.array_equal(np.asarray(labels), scores.argmax(axis=0))
        assert len(np.unique(np.asarray(labels))) > (0 if path.stem == "other" else 1)  # noise has no shapes
        maps = sorted((out / f"{path.stem}.probabilities").iterdir())
        assert len(maps) == 7
        expected = np.exp(scores.astype(np.float64)) / np.exp(scores.astype(np.float64)).sum(axis=0)
        for i, each in enumerate(maps):
            assert np.abs(np.asarray(Image.open(each)) - 255 * expected[i]).max() <= 0.501


def test_tiles_and_batches_from_the_command_line(
    weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "a.png", noise(1, (520, 30, 3)))
    assert predict(weights, tmp_path / "a.png", "-o", tmp_path / "whole") == 0
    assert predict(weights, tmp_path / "a.png", "-o", tmp_path / "tiles", "--tile", 500) == 0
    whole, tiles = (np.asarray(Image.open(tmp_path / kind / "a.labels.png")) for kind in ("whole", "tiles"))
    assert (whole == tiles).mean() > 0.9999
    capsys.readouterr()
    assert predict(weights, tmp_path / "a.png", "--tile", 100) == 2
    assert "--tile 100 is too small for this net; 494 is the least" in capsys.readouterr().err


def test_bad_files_are_listed_and_the_rest_is_done(
    weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    save(folder / "good.png", noise(1, (8, 9, 3)))
    (folder / "empty.png").write_bytes(b"")
    whole = save(folder / "cut.jpg", noise(2, (64, 64, 3))).read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "list.txt").write_text(f"in/good.png\n\nin/missing.jpg\n{folder / 'empty.png'}\nin/cut.jpg\n")
    assert predict(weights, tmp_path / "list.txt", "-o", tmp_path / "out") == 1
    out, err = capsys.readouterr()
    assert "3 of 4 images could not be done:" in err and "good.labels.png: " in out
    for name in ("missing.jpg: no such file", "empty.png: not an image", "cut.jpg: not an image"):
        assert name in err
    assert files_in(tmp_path / "out") == {"good.labels.png", "good.labels.json", "good.overlay.png"}
    assert predict(weights, folder, "-o", tmp_path / "again") == 1
    assert predict(weights, folder / "empty.png") == 3
    assert predict(weights, folder / "missing.png") == 2


@pytest.mark.parametrize("verb", ["predict", "edges"])
def test_an_image_is_missed_before_a_net_is_fetched_for_it(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which would take half a gigabyte first; without a network the net would be missed."""
    monkeypatch.setenv("FCN_PORT_OFFLINE", "1")
    monkeypatch.setenv("FCN_PORT_WEIGHTS", str(tmp_path / "weights"))
    assert run([verb, "voc-fcn8s", str(tmp_path / "none.png")]) == 2
    err = capsys.readouterr().err
    assert "none.png: no such file or directory" in err and "network" not in err


# --- which images ----------------------------------------------------------------------------------------------------


def names(*given: Path) -> list[str]:
    return [str(source.name) for source in gather(given)]


def touch(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


def test_frames_of_a_video_in_their_order(tmp_path: Path) -> None:
    touch(tmp_path, *(f"frame{i}.png" for i in (10, 9, 1, 100)))
    assert names(tmp_path) == ["frame1", "frame9", "frame10", "frame100"]


def test_no_two_images_write_the_same_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.png", "a.jpg.png", "b.jpg", "sub/a.png")
    found = names(tmp_path)
    assert len(set(found)) == 5 and set(found) == {"a.jpg", "a.png", "a.jpg.png", "b", "sub/a"}
    touch(tmp_path, "one/x.png", "two/x.png")
    assert names(tmp_path / "one", tmp_path / "two") == ["one/x", "two/x"]
    assert names(tmp_path / "one" / "x.png", tmp_path / "b.jpg", tmp_path / "b.jpg") == ["x", "b"]
    with pytest.raises(ValueError, match="would both write x"):
        names(tmp_path / "one" / "x.png", tmp_path / "two" / "x.png")


def test_names_that_are_dots_before_their_ending(tmp_path: Path) -> None:
    """Without it they are folders, this one and the one above, and Python 3.13 takes it from none of them."""
    given = "..png", "...png", ".a.png", "b..png"
    touch(tmp_path, *given)
    assert names(*(tmp_path / each for each in given)) == ["..png", "...png", ".a", "b."]


def test_results_of_an_earlier_run_are_no_images(weights: str, tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(1, (8, 9, 3)))
    for _ in range(2):
        assert predict(weights, tmp_path, "-o", tmp_path, "--scores", "--probabilities") == 0
        assert len(files_in(tmp_path)) == 1 + 4 + 7


def test_lists_keep_what_their_paths_do_not_share(tmp_path: Path) -> None:
    touch(tmp_path, "data/x/1.png", "data/y/1.png", "lists/here")
    (tmp_path / "lists" / "all.txt").write_text("../data/x/1.png\r\n../data/y/1.png\r\n../data/x/../x/1.png\n")
    assert names(tmp_path / "lists" / "all.txt") == ["x/1", "y/1"]


def test_lists_of_pairs_name_images_first_and_windows_slashes_are_found(tmp_path: Path) -> None:
    """What data sets take in a list, `predict` takes, too; a name with a comma or spaces that is there is that file."""
    touch(tmp_path, "im/a b.jpg", "im/c,d.png", "im/e.JPG")
    lines = "im/a b.jpg\tmasks/a.png\r\nim/c,d.png\r\nim\\e.JPG masks\\e.png\r\nim/gone.jpg;m.png\r\n"
    (tmp_path / "pairs.txt").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    assert names(tmp_path / "pairs.txt") == ["a b", "c,d", "e", "gone"]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match="no image in"):
        gather([tmp_path / "empty.txt"])


def test_no_image_is_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", SAMPLE, str(tmp_path)]) == 2
    assert f"no image in {tmp_path}" in capsys.readouterr().err
    assert run(["predict", SAMPLE, str(tmp_path / "no.txt")]) == 2


# --- images as people have them --------------------------------------------------------------------------------------

RAMP = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("i16.png", (RAMP * 65535).astype(np.uint16)),
        ("i16.tif", (RAMP * 65535).astype(">u2")),
        ("i32.tif", (RAMP * 65535).astype(np.int32)),
        ("fractions.tif", RAMP),
        ("bytes.tif", RAMP * 255),
    ],
)
def test_deep_pictures_keep_their_greys(kind: str, values: np.ndarray, tmp_path: Path) -> None:
    read = read_image(save(tmp_path / kind, Image.fromarray(values)))
    assert np.abs(read[..., 0] / 255 - RAMP).max() < 1 / 255 and np.ptp(read, axis=2).max() == 0


def test_colour_of_cmyk_and_palettes(tmp_path: Path) -> None:
    colours = np.repeat(np.repeat(noise(3, (4, 4, 3)), 8, axis=0), 8, axis=1)
    cmyk = Image.fromarray(colours).convert("CMYK")
    for name, picture, off in (
        ("cmyk.jpg", cmyk, 12), ("cmyk.tif", cmyk, 1), ("palette.gif", Image.fromarray(colours).quantize(16), 12),
        ("alpha.png", Image.fromarray(colours).convert("RGBA"), 0),
    ):  # fmt: skip
        read = read_image(save(tmp_path / name, picture))
        assert np.abs(read.astype(int) - colours).max() <= off, name


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation(orientation: int, tmp_path: Path) -> None:
    """A photograph as it lies in the file, shown upright: the red corner ends up at the top left."""
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:4, :4, 0] = 255
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2),
        6: np.rot90(upright), 7: upright[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    picture = Image.fromarray(np.ascontiguousarray(stored))
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "x.png"), upright)


# --- pictures --------------------------------------------------------------------------------------------------------


def seen_of(labels: np.ndarray, **more: object) -> Segmentation:
    image = noise(7, (*labels.shape, 3))
    return Segmentation(labels, None, image, ("background", "cat", "dog"), voc_palette(), **more)  # type: ignore[arg-type]


def test_the_legend_names_what_is_there() -> None:
    """Below an untouched overlay: a swatch of each class that occurs, in its colour, and none of another."""
    labels = np.zeros((40, 200), np.uint8)
    labels[:, 50:] = 2
    seen = seen_of(labels)
    picture = np.asarray(seen.picture())
    assert np.array_equal(picture[:40, :200], np.asarray(seen.overlay())) and picture.shape[0] > 50
    legend = picture[40:].reshape(-1, 3)
    swatch = {i: int((legend == voc_palette()[i]).all(axis=1).sum()) for i in (1, 2)}
    assert swatch[2] >= 80 and swatch[1] == 0
    assert (legend.sum(axis=1) < 250).sum() > 20, "the name is written"


def test_the_legend_wraps_and_widens() -> None:
    entries = [(f"class {i}", (i, 0, 0)) for i in range(30)]
    narrow, wide = (with_legend(Image.new("RGB", (w, 10)), entries) for w in (5, 2000))
    assert narrow.width > 40 and narrow.height > 30 * 12 and wide.width == 2000 and wide.height < 200
    assert with_legend(Image.new("RGB", (5, 5)), []).size == (5, 5)


def test_a_notebook_shows_the_picture() -> None:
    labels = np.ones((1000, 3000), np.uint8)
    shown = seen_of(labels)._repr_png_()
    assert shown.startswith(b"\x89PNG")
    picture = Image.open(io.BytesIO(shown))
    assert picture.width == 1200 and picture.height > 400


def test_probabilities_are_a_softmax_that_does_not_overflow() -> None:
    scores = np.array([1000.0, 1000.0, -1000.0], np.float32).reshape(3, 1, 1)
    seen = Segmentation(np.zeros((1, 1), np.uint8), scores, noise(1, (1, 1, 3)), (), voc_palette())
    assert [int(each[0, 0]) for each in probability_maps(seen)] == [128, 128, 0]


# --- interruption ----------------------------------------------------------------------------------------------------


def test_ctrl_c_leaves_whole_files(weights: str, tmp_path: Path) -> None:
    for i in range(60):
        save(tmp_path / "in" / f"{i}.png", noise(i, (60, 80, 3)))
    out = tmp_path / "out"
    command = ["predict", weights, str(tmp_path / "in"), "-o", str(out), "--scores", "--like", "voc-fcn8s"]
    process = subprocess.Popen([sys.executable, "-m", "fcn_port", *command], cwd=ROOT, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(list(out.glob("*.npz"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and b"what is done is written" in err and b"Traceback" not in err
    done = list(out.iterdir())
    assert 3 <= len(list(out.glob("*.npz"))) < 60 and not [path for path in done if path.name.startswith(".")]
    for path in done:
        if path.suffix == ".npz":
            with np.load(path) as file:
                assert file["scores"].shape == (7, 60, 80)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        else:
            Image.open(path).load()
