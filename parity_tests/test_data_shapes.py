"""The small data set: the same on every run, in VOC's layout, with every class and VOC's borders."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from fcn_port.data import make_shapes, open_dataset
from fcn_port.data.shapes import CLASSES
from fcn_port.palettes import voc_palette


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
