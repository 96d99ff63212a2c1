"""A predictor that was pickled says what the net says, and parts of a list are all of it, each image once."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fcn_port
from fcn_port.cli import run
from fcn_port.cli.sharding import SETTINGS
from fcn_port.predict.classifying import fitted
from fcn_port.predictor import Predictor, Shard
from parity_tests.test_architecture import ROOT

SAMPLE = ROOT / "weights" / "sample" / "shapes-fcn8s.caffemodel"


def picture(seed: int, size: tuple[int, int] = (40, 48)) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 255, (*size, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images, and one that is none."""
    root = tmp_path_factory.mktemp("images")
    for i in range(7):
        Image.fromarray(picture(i)).save(root / f"{i}.png")
    (root / "broken.png").write_bytes(b"not a picture")
    return root


def test_pickled_predictor_says_what_the_net_says(folder: Path) -> None:
    first = Predictor(SAMPLE)
    images = [folder / "0.png", str(folder / "broken.png"), picture(1), folder / "missing.png"]
    before = first(images)
    sent = pickle.loads(pickle.dumps(first))
    assert len(pickle.dumps(first)) < 1000 and "_net" not in sent.__dict__ and sent == first
    after = sent(images)
    net = fcn_port.load(SAMPLE)
    for i in (0, 2):
        assert before[i].problem is None and before[i].seen is not None and after[i].seen is not None
        expected = fcn_port.segment(net, images[i]).labels
        for each in (before[i].seen[""], after[i].seen[""]):
            np.testing.assert_array_equal(each.labels, expected)
    assert [each.seen is None for each in after] == [False, True, False, True]
    assert after[1].problem is not None and after[1].problem.count("broken.png") == 1
    assert after[3].problem == f"{folder / 'missing.png'}: no such file or directory"
    assert after[2].image is None and after[0].image == str(folder / "0.png")


def test_predictor_is_frozen_and_takes_a_list(folder: Path) -> None:
    predictor = Predictor(SAMPLE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        predictor.weights = "other"  # type: ignore[misc]
    with pytest.raises(TypeError, match="give one image as"):
        predictor(str(folder / "0.png"))
    with pytest.raises(FileNotFoundError):
        Predictor(folder / "nothing.caffemodel")([])


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16])
def test_shards_are_disjoint_and_all_of_the_list(count: int) -> None:
    items = tuple(range(10))
    parts = [Shard(number, count).of(items) for number in range(1, count + 1)]
    assert sorted(sum(parts, ())) == list(items) and max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "3/", "/3", "a/b", "1/0", "-1/3", "1/3/5", "1.0/3"])
def test_no_shard(text: str) -> None:
    with pytest.raises(ValueError, match="is no part"):
        Shard.parse(text)


def test_union_of_shards_is_one_run_and_an_ended_one_goes_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(["predict", str(SAMPLE), str(folder), "-o", str(whole)]) == 1  # the broken one
    for number in (1, 2, 3):
        run(["predict", str(SAMPLE), str(folder), "-o", str(parts), "--shard", f"{number}/3"])
    files = sorted(path.name for path in whole.iterdir())
    notes = [f".shard.{number}-3.done" for number in (1, 2, 3)]
    assert sorted([SETTINGS, *notes, *files]) == sorted(path.name for path in parts.iterdir()) and len(files) > 13
    for name in files:
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    (parts / "3.overlay.png").unlink()  # as if it had been ended between the two
    kept = {path: path.stat().st_mtime_ns for path in parts.iterdir()}
    capsys.readouterr()
    for number in (1, 2, 3):
        run(["predict", str(SAMPLE), str(folder), "-o", str(parts), "--shard", f"{number}/3"])
    changed = {path.name for path in parts.iterdir() if kept.get(path) != path.stat().st_mtime_ns}
    assert {"3.overlay.png", notes[0]} <= changed and all(name.startswith("3.") for name in changed - {notes[0]})
    assert "part 1 of 3: 3 of 8 images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "told"),
    [(["1,2,4"], "mean"), (["1,2,3", "--flip", "--polygons"], "flip, polygons"), (["1,2,3"], "weights")],
)
def test_a_part_is_not_put_among_the_results_of_other_settings(
    more: list[str], told: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, out = tmp_path / "net.caffemodel", tmp_path / "out"
    weights.write_bytes(SAMPLE.read_bytes())
    given = ["predict", str(weights), str(folder), "-o", str(out), "--shard", "1/3", "--mean"]
    assert run([*given, "1,2"]) == 2 and run([*given, "1,2,3"]) == 0  # nothing was done with the first
    if told == "weights":
        weights.write_bytes(weights.read_bytes() + b"\xa2\x06\x00")  # a field that says nothing
    capsys.readouterr()
    given[-2] = "3/3"  # another part
    assert run([*given, *more]) == 2
    assert f"it holds results of other settings ({told} differ); give another folder" in capsys.readouterr().err
    assert (out / "0.labels.png").is_file() and not (out / "2.labels.png").exists()
    if told != "weights":
        assert run([*given, "1,2,3", "--batch", "2", "--json"]) == 0 and (out / "2.labels.png").is_file()


def test_shard_refuses_files_of_all_images(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["predict", str(SAMPLE), str(folder), "-o", str(tmp_path), "--shard", "1/2", "--coco", str(tmp_path / "x")]
    assert run(given) == 2 and "--shard goes without --coco" in capsys.readouterr().err
    assert run([*given[:-3], "5/2"]) == 2 and "'5/2' is no part" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shape", "sides", "expected"),
    [
        ((100, 200), (), (0, 0)),
        ((256, 512), (256,), (16, 144)),
        ((256, 256), (256, 256), (16, 16)),
        ((64, 32), (16,), (0, 0)),
    ],
)
def test_image_is_cut_from_the_centre(
    shape: tuple[int, int], sides: tuple[int, ...], expected: tuple[int, int]
) -> None:
    """Rows and columns are numbered in the pixels, so that where the cut begins can be read off."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = np.stack([rows % 256, columns // 2 % 256, columns % 2], axis=-1).astype(np.uint8)
    cut = fitted(image, (224, 224), sides)
    assert cut.shape == (224, 224, 3)
    if sides and min(shape) == min(sides):
        assert (cut[0, 0, 0], 2 * cut[0, 0, 1] + cut[0, 0, 2]) == expected
