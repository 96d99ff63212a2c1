"""Lists of images whose names have in them what parts columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcn_port.data import open_dataset
from fcn_port.data.finding import read_pairs
from fcn_port.data.stored import open_store
from fcn_port.predict.image_lists import gather, is_there
from parity_tests.datasets import make_voc, noise, save

NAMES = ["a, b", "a;b", "a\tb", "a b.png c", "a.png, b", '"a" b', "-a, b"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("written", ["{}.png", "images/{}.png"])
def test_a_line_that_is_a_file_is_one_name(name: str, written: str, tmp_path: Path) -> None:
    shown, labels = noise(0, (16, 24, 3)), noise(1, (16, 24)) % 3
    save(tmp_path / "images" / f"{name}.png", shown)
    save(tmp_path / "labels" / f"{name}.png", labels)
    for other in ("a.png", "b.png"):  # what its parts would be
        save(tmp_path / "images" / other, 255 - shown)
        save(tmp_path / "labels" / other, 2 - labels)
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf" + f"{written.format(name)}\r\n\r\n".encode())
    (tmp_path / "dataset.toml").write_text('classes = ["a", "b", "c"]\nlist = "list.txt"\n')
    data = open_dataset(tmp_path)
    assert data.ids == (name,)
    sample = data.read(name)
    assert np.array_equal(sample.images["color"], shown) and np.array_equal(sample.labels["score"], labels)


@pytest.mark.parametrize("name", NAMES)
def test_such_a_line_of_voc_is_one_name_too(name: str, tmp_path: Path) -> None:
    folder = make_voc(tmp_path / "VOC2012", [name])
    (folder / "ImageSets" / "Segmentation" / "val.txt").write_text(f"{name}.jpg\n")
    assert open_dataset(folder, split="val").ids == (name,)


@pytest.mark.parametrize("kind", ["described", "voc", "drawn"])
def test_an_id_with_spaces_is_one_where_such_an_image_is_there(kind: str, tmp_path: Path) -> None:
    """`photo 1` is not `photo`, even where that is an image, too; what else follows an id is a column."""
    ids = ["photo", "photo 1", "photo 2", "cat"]
    if kind == "voc":
        folder = make_voc(tmp_path / "VOC2012", ids)
        written = folder / "ImageSets" / "Segmentation" / "val.txt"
    else:
        folder, written = tmp_path, tmp_path / "val.txt"
        for id_ in ids:
            save(folder / "images" / f"{id_}.png", noise(0, (16, 24, 3)))
            save(folder / "labels" / f"{id_}.png", noise(1, (16, 24)) % 3)
            (folder / "drawn").mkdir(exist_ok=True)
            (folder / "drawn" / f"{id_}.json").write_text('{"imageHeight": 16, "imageWidth": 24, "shapes": []}')
        drawn = 'annotations = "drawn"\n' * (kind == "drawn")
        (folder / "dataset.toml").write_text(f'classes = ["a", "b", "c"]\nlist = "val.txt"\n{drawn}')
    written.write_text("photo 1\ncat -1\n\nphoto 2 1\n")
    assert open_dataset(folder, split="val").ids == ("photo 1", "cat", "photo 2")


@pytest.mark.parametrize("line", ["{0}/a.png {0}/a.png", "images/{0}{0}.png", "{0}{0}.png labels/a.png"])
def test_a_name_too_long_for_a_file_is_no_file(line: str, tmp_path: Path) -> None:
    """255 bytes are the most that a folder or file may have for its name (Linux, macOS)."""
    long = "x" * 252
    save(tmp_path / long / "a.png", noise(0, (16, 24, 3)))
    (tmp_path / "list.txt").write_text(f"{line.format(long)}\n")
    pairs = read_pairs(tmp_path / "list.txt", roots=(tmp_path,))
    first = Path(line.format(long).split()[0])
    assert [pair.image.name for pair in pairs.values()] == [first.name]
    if (tmp_path / long).name == first.parent.name:
        assert [each.path.name for each in gather([tmp_path / "list.txt"])] == [first.name]


def test_a_line_of_nothing_but_folders_costs_few_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last folders are looked for, as of any path of another machine; not every one of a megabyte of them."""
    save(tmp_path / "images" / "a.png", noise(0, (16, 24, 3)))
    (tmp_path / "list.txt").write_text(f"{'x/' * 5000}images/a.png\n{'../' * 5000}b.png\n")
    looked: list[Path] = []
    monkeypatch.setattr("fcn_port.data.finding.is_there", lambda path: looked.append(path) or is_there(path))
    pairs = read_pairs(tmp_path / "list.txt", roots=(tmp_path,))
    assert pairs["a"].image == tmp_path / "images" / "a.png"
    assert len(looked) < 1000


def test_a_line_of_an_hdf5_list_that_is_too_long_for_a_name(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("x" * 100_000 + ".h5\n")
    with pytest.raises(FileNotFoundError, match=r"there is no such file; .*list\.txt names it") as raised:
        open_store(tmp_path / "list.txt", top="data")
    assert len(str(raised.value)) < 2000


def test_a_path_that_begins_with_two_slashes_is_the_one_with_one(tmp_path: Path) -> None:
    """As joining a root and a path that begins with one makes it; POSIX keeps two, and leaves open what they mean."""
    save(tmp_path / "a.png", noise(0, (16, 24, 3)))
    (tmp_path / "list.txt").write_text(f"/{tmp_path}/a.png\n")
    assert [each.path for each in gather([tmp_path / "list.txt"])] == [tmp_path / "a.png"]
