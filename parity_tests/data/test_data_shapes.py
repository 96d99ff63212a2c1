"""The small data set: the same on every run, in VOC's layout, with every class and VOC's borders."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_port.cli import run
from fcn_port.data import make_shapes, open_dataset, shapes
from fcn_port.data.shapes import CLASSES, DRAWING, DRAWN, state_of
from fcn_port.predict.palettes import voc_palette


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    digests = []
    for name, seed in (("one", 5), ("again", 5), ("other", 6)):
        root = make_shapes(tmp_path / name, count=2, seed=seed, size=(40, 50))
        bodies = [path.read_bytes() for path in sorted(root.rglob("*.??g"))]
        digests.append(hashlib.sha256(b"".join(bodies)).hexdigest())
    assert digests[0] == digests[1] != digests[2]


def test_a_longer_set_begins_like_a_shorter_one(tmp_path: Path) -> None:
    short = make_shapes(tmp_path / "a", count=1, seed=2)
    long = make_shapes(tmp_path / "b", count=3, seed=2)
    for path in short.rglob("*.??g"):
        assert (long / path.relative_to(short)).read_bytes() == path.read_bytes()


def test_they_are_drawn_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = make_shapes(tmp_path / "ours", count=4, seed=7, size=(40, 50), val=0.5)
    drawing = ["data", "shapes", "--make", str(tmp_path / "drawn"), "--count", "4", "--seed", "7", "--size", "40x50"]
    assert run([*drawing, "--val", "0.5"]) == 0
    for path in ours.rglob("*.*"):
        assert (tmp_path / "drawn" / path.relative_to(ours)).read_bytes() == path.read_bytes()
    assert run(drawing) == 2 and "is not empty" in capsys.readouterr().err
    assert run(["data", "shapes"]) == 2 and run(["data", "voc", "--make", str(tmp_path / "x")]) == 2
    assert not (tmp_path / "x").exists()


def test_the_data_set_is_known_by_its_classes(tmp_path: Path) -> None:
    """What the bundled release is scored on is a published split; with other classes it is somebody's own."""
    data = open_dataset(make_shapes(tmp_path, count=60, seed=2, size=(8, 8), val=1.0))
    assert (data.name, data.split, data.complete) == ("shapes", "val", True)
    (tmp_path / "classes.txt").write_text("ground\nthing\n", encoding="utf-8")
    assert open_dataset(tmp_path).name == "voc"
    other = open_dataset(make_shapes(tmp_path / "other", count=60, seed=3, size=(8, 8), val=1.0))
    assert (other.name, other.complete) == ("shapes", False)


@pytest.mark.parametrize(
    ("val", "lists"),
    [(0.0, {"train", "trainval"}), (0.5, {"train", "trainval", "val"}), (1.0, {"trainval", "val"})],
)
def test_there_are_no_empty_lists(tmp_path: Path, val: float, lists: set[str]) -> None:
    """Training on a folder without validation images goes on without; an empty list would be an error."""
    make_shapes(tmp_path, count=2, size=(8, 8), val=val)
    assert {path.stem for path in (tmp_path / "ImageSets" / "Segmentation").iterdir()} == lists


def test_layout_and_labels(tmp_path: Path) -> None:
    data = open_dataset(make_shapes(tmp_path, count=24, seed=1, size=(60, 80)), split="trainval")
    assert data.classes["score"] == CLASSES and len(CLASSES) == 7
    splits = {name: open_dataset(tmp_path, split=name).ids for name in ("train", "val")}
    assert (len(splits["train"]), len(splits["val"])) == (18, 6) and data.ids == splits["train"] + splits["val"]
    seen = np.zeros(256, np.int64)
    for id_ in data.ids:
        sample = data.read(id_)
        assert sample.images["color"].shape == (60, 80, 3)
        seen += np.bincount(sample.labels["score"].ravel(), minlength=256)
    assert np.flatnonzero(seen).tolist() == [*range(7), 255]
    assert 0.3 < seen[0] / seen.sum() < 0.9 and seen[255] / seen.sum() < 0.2
    png = Image.open(tmp_path / "SegmentationClass" / f"{data.ids[0]}.png")
    assert png.mode == "P" and png.getpalette() == voc_palette().ravel().tolist()


def test_a_border_lies_between_a_shape_and_everything_else(tmp_path: Path) -> None:
    """As in VOC: walking from one label to another always crosses 255, up to what shapes hide of each other."""
    data = open_dataset(make_shapes(tmp_path, count=6, seed=4, size=(96, 128)), split="trainval")
    touching = total = 0
    for id_ in data.ids:
        labels = data.read(id_).labels["score"].astype(int)
        for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
            changes = a != b
            total += changes.sum()
            touching += (changes & (a != 255) & (b != 255)).sum()
    assert total > 500 and touching == 0


def test_a_set_that_was_not_finished_is_drawn_on_and_a_finished_one_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "shapes"
    draw = ["data", "shapes", "--make", str(folder), "--count", "3", "--size", "40x56"]
    folder.mkdir()
    (folder / "..drawing.01234567.part").write_text("")  # killed in its first moment
    assert run(draw) == 0
    expected = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert run(draw) == 0 and run([*draw, "--seed", "1"]) == 2
    (folder / DRAWN).rename(folder / DRAWING)  # killed in its last
    lost = folder / "JPEGImages" / "shapes_0000_00001.jpg"
    lost.unlink()
    assert run([*draw, "--seed", "1"]) == 2
    assert run(draw) == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == expected
    assert "is not empty" in capsys.readouterr().err


def test_more_than_the_disk_holds_is_refused_before_it_is_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was drawn until the disk was full, or for ever."""
    drawing = ["data", "shapes", "--make", str(tmp_path / "new"), "--size", "40x50", "--count"]
    assert run([*drawing, "999999999999"]) == 1
    assert "999999999999 images and label maps take about" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_images_that_no_memory_or_jpeg_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawing = ["data", "shapes", "--make", str(tmp_path / "new"), "--count", "1", "--size"]
    assert run([*drawing, "65000x65000"]) == 1
    assert "an image of 65000x65000 takes about 634 GB to draw; this machine has" in capsys.readouterr().err
    assert run([*drawing, "3x70000"]) == 2
    assert "images of 3x70000; expected at most 65500 pixels a side" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_two_may_draw_the_same_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second to end did not find the mark that the first had changed, and called its whole work a missing file."""
    write_whole = shapes.write_whole

    def beside(path: Path, *given: object, **more: object) -> None:
        write_whole(path, *given, **more)  # type: ignore[arg-type]
        if path.name == "classes.txt":
            monkeypatch.setattr(shapes, "write_whole", write_whole)
            make_shapes(tmp_path / "set", count=2, size=(20, 30))

    monkeypatch.setattr(shapes, "write_whole", beside)
    make_shapes(tmp_path / "set", count=2, size=(20, 30))
    assert state_of(tmp_path / "set", count=2, size=(20, 30)) == "whole"
